#!/usr/bin/env bash
# Downloads MNIST, CIFAR-10 and CIFAR-100 (binary version) from their public homes and checks every byte.
# A download that was cut off goes on where it stopped; a file has its final name only once its checksum is right.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: jobs/download_data.sh [options] mnist|cifar10|cifar100 ...
  --out DIR         parent of the data sets' folders (default: data)
  --base-url URL    fetch the files from URL/<file> instead of their homes (a mirror, file:// too)
  --checksums FILE  "<sha256>  <file>" lines that are used instead of the built-in ones
TEXT
}

mnist_urls="https://ossci-datasets.s3.amazonaws.com/mnist https://storage.googleapis.com/cvdf-datasets/mnist"
cifar_urls="https://www.cs.toronto.edu/~kriz"
checksums="440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609  train-images-idx3-ubyte.gz
3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c  train-labels-idx1-ubyte.gz
8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6  t10k-images-idx3-ubyte.gz
f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6  t10k-labels-idx1-ubyte.gz
c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd  cifar-10-binary.tar.gz
58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec  cifar-100-binary.tar.gz"

fail() {
  echo "download_data.sh: $*" >&2
  exit 1
}

misuse() {
  echo "download_data.sh: $*" >&2
  usage >&2
  exit 2
}

wanted_sum() {
  local sum
  sum=$(awk -v name="$1" '$2 == name || $2 == "*" name { print tolower($1); exit }' <<<"$checksums")
  [ -n "$sum" ] || fail "no checksum for $1"
  echo "$sum"
}

sum_of() {
  if command -v sha256sum >/dev/null; then sha256sum <"$1" | cut -d' ' -f1; else shasum -a 256 <"$1" | cut -d' ' -f1; fi
}

# One try; goes on behind what the file already holds.
transfer() {
  if command -v curl >/dev/null; then
    curl --fail --location --silent --show-error --retry 3 --connect-timeout 30 --continue-at - --output "$2" "$1"
  elif command -v wget >/dev/null; then
    wget --no-verbose --tries=3 --timeout=30 --continue --output-document="$2" "$1"
  else
    fail "needs curl or wget"
  fi
}

# fetch FILE FOLDER URL...
fetch() {
  local file=$1 folder=$2 want part="$2/$1.part" url problem=""
  shift 2
  want=$(wanted_sum "$file")
  if [ -f "$folder/$file" ] && [ "$(sum_of "$folder/$file")" = "$want" ]; then
    echo "$folder/$file: already there"
    return
  fi
  for url in "$@"; do
    for attempt in go-on afresh; do
      if [ "$attempt" = afresh ]; then rm -f "$part"; fi
      # A part that is complete makes the server refuse to go on: compare first.
      if [ -f "$part" ] && [ "$(sum_of "$part")" = "$want" ]; then break 2; fi
      echo "$folder/$file: fetching $url/$file"
      if ! problem=$(transfer "$url/$file" "$part" 2>&1); then
        problem="$url/$file: ${problem:-cannot be fetched}"
        continue
      fi
      if [ "$(sum_of "$part")" = "$want" ]; then break 2; fi
      problem="$url/$file: the checksum is $(sum_of "$part"), want $want"
    done
    rm -f "$part"
  done
  [ -f "$part" ] || fail "${problem//$'\n'/ }"
  mv "$part" "$folder/$file"
}

# fetch_archive FILE FOLDER INNER URL: its one folder INNER, unpacked under another name first.
fetch_archive() {
  local file=$1 folder=$2 inner=$3 unpacked="$2/unpacking.part"
  if [ -f "$folder/$inner/complete" ]; then
    echo "$folder/$inner: already there"
    return
  fi
  fetch "$file" "$folder" "$4"
  rm -rf "$unpacked"
  mkdir "$unpacked"
  tar -xzf "$folder/$file" -C "$unpacked" || fail "$folder/$file: cannot be unpacked"
  [ -d "$unpacked/$inner" ] || fail "$folder/$file: holds no folder $inner"
  touch "$unpacked/$inner/complete"
  rm -rf "${folder:?}/$inner"
  mv "$unpacked/$inner" "$folder/$inner"
  rm -rf "$unpacked" "${folder:?}/$file"
}

out=data base="" names=()
while [ $# -gt 0 ]; do
  case $1 in
    --out | --base-url | --checksums)
      [ $# -ge 2 ] || misuse "$1 needs a value"
      case $1 in
        --out) out=$2 ;;
        --base-url) base=${2%/} ;;
        --checksums)
          [ -f "$2" ] || misuse "--checksums $2: no such file"
          checksums=$(cat "$2")
          ;;
      esac
      shift
      ;;
    -h | --help)
      usage
      exit 0
      ;;
    mnist | cifar10 | cifar100) names+=("$1") ;;
    *) misuse "unknown argument $1" ;;
  esac
  shift
done
[ ${#names[@]} -gt 0 ] || misuse "which data set?"

for name in "${names[@]}"; do
  folder=$out/$name
  mkdir -p "$folder" || fail "$folder: cannot be made"
  case $name in
    mnist)
      read -r -a urls <<<"${base:-$mnist_urls}"
      for file in train-images-idx3-ubyte train-labels-idx1-ubyte t10k-images-idx3-ubyte t10k-labels-idx1-ubyte; do
        fetch "$file.gz" "$folder" "${urls[@]}"
      done
      ;;
    cifar10) fetch_archive cifar-10-binary.tar.gz "$folder" cifar-10-batches-bin "${base:-$cifar_urls}" ;;
    cifar100) fetch_archive cifar-100-binary.tar.gz "$folder" cifar-100-binary "${base:-$cifar_urls}" ;;
  esac
  echo "$name is in $folder: convoy train --data $name --data-dir $folder"
done
