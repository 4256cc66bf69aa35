#!/usr/bin/env bash
# jobs/download_data.sh against a server on this machine. Exit status 77: skipped.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
script=$here/jobs/download_data.sh
command -v python3 >/dev/null || { echo "test_download: skipped: no python3 to serve files"; exit 77; }
command -v curl >/dev/null || command -v wget >/dev/null || { echo "test_download: skipped: no curl, no wget"; exit 77; }

work=$(mktemp -d)
server=""
finish() {
  if [ -n "$server" ]; then kill "$server" 2>/dev/null || true; fi
  rm -rf "$work"
}
trap finish EXIT
fail() {
  echo "test_download: FAILED: $*" >&2
  if [ -f "$work/output" ]; then cat "$work/output" >&2; fi
  exit 1
}

cat >"$work/serve.py" <<'PY'
# Serves a folder, with ranges unless the path starts with /plain/; logs every request and its first byte.
import http.server, os, sys
root, log = sys.argv[1], open(sys.argv[2], "a", buffering=1)
class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args): pass
    def do_GET(self):
        plain, path = self.path.startswith("/plain/"), os.path.join(root, os.path.basename(self.path))
        if not os.path.isfile(path):
            return self.send_error(404)
        data, first = open(path, "rb").read(), 0
        if "Range" in self.headers and not plain:
            first = int(self.headers["Range"].split("=")[1].split("-")[0])
            if first >= len(data):
                return self.send_error(416)
        log.write("%s %d\n" % (os.path.basename(self.path), first))
        self.send_response(206 if first else 200)
        if first:
            self.send_header("Content-Range", "bytes %d-%d/%d" % (first, len(data) - 1, len(data)))
        self.send_header("Content-Length", str(len(data) - first))
        self.end_headers()
        self.wfile.write(data[first:])
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
PY

# What is served: four small gzip files, two archives.
mkdir "$work/served" "$work/tree"
mnist_files="train-images-idx3-ubyte.gz train-labels-idx1-ubyte.gz t10k-images-idx3-ubyte.gz t10k-labels-idx1-ubyte.gz"
for file in $mnist_files; do seq 1 5000 | sed "s/^/$file /" | gzip -n >"$work/served/$file"; done
for inner in cifar-10-batches-bin cifar-100-binary; do
  mkdir "$work/tree/$inner"
  seq 1 20000 >"$work/tree/$inner/data.bin"
done
tar -czf "$work/served/cifar-10-binary.tar.gz" -C "$work/tree" cifar-10-batches-bin
tar -czf "$work/served/cifar-100-binary.tar.gz" -C "$work/tree" cifar-100-binary
(cd "$work/served" && python3 -c 'import hashlib, glob
for f in sorted(glob.glob("*.gz")): print(hashlib.sha256(open(f, "rb").read()).hexdigest() + "  " + f)') >"$work/sums"

python3 "$work/serve.py" "$work/served" "$work/log" >"$work/port" &
server=$!
for _ in $(seq 100); do
  if [ -s "$work/port" ]; then break; fi
  sleep 0.1
done
[ -s "$work/port" ] || fail "the server does not start"
url=http://127.0.0.1:$(cat "$work/port")

run() { "$script" --base-url "$url" --checksums "$work/sums" --out "$work/data" "$@" >"$work/output" 2>&1; }
expect_status() {
  local want=$1 got=0
  shift
  run "$@" || got=$?
  [ "$got" = "$want" ] || fail "exit status $got, want $want: $*"
}
expect_output() { grep -q -- "$1" "$work/output" || fail "the output lacks: $1"; }
expect_requests() { [ "$(cat "$work/log" 2>/dev/null)" = "$1" ] || fail "requests: $(cat "$work/log"), want: $1"; }
no_parts() { [ -z "$(find "$work/data" -name '*.part')" ] || fail "left over: $(find "$work/data" -name '*.part')"; }

: "everything, then nothing again"
expect_status 0 mnist cifar10 cifar100
for file in $mnist_files; do cmp "$work/served/$file" "$work/data/mnist/$file" || fail "$file differs"; done
cmp "$work/tree/cifar-10-batches-bin/data.bin" "$work/data/cifar10/cifar-10-batches-bin/data.bin" || fail "cifar10 differs"
cmp "$work/tree/cifar-100-binary/data.bin" "$work/data/cifar100/cifar-100-binary/data.bin" || fail "cifar100 differs"
expect_output "convoy train --data cifar100 --data-dir"
no_parts
: >"$work/log"
expect_status 0 mnist cifar10 cifar100
expect_requests ""
expect_output "already there"

: "a download that was cut off goes on; a complete part is taken as it is"
first=$(echo "$mnist_files" | cut -d' ' -f1)
mv "$work/data/mnist/$first" "$work/whole"
head -c 1000 "$work/whole" >"$work/data/mnist/$first.part"
expect_status 0 mnist
expect_requests "$first 1000"
cmp "$work/served/$first" "$work/data/mnist/$first" || fail "the resumed file differs"
: >"$work/log"
mv "$work/data/mnist/$first" "$work/data/mnist/$first.part"
expect_status 0 mnist
expect_requests ""

: "a part that is not the file's beginning, and a server without ranges: afresh"
rm "$work/data/mnist/$first"
head -c 1000 /dev/zero >"$work/data/mnist/$first.part"
expect_status 0 mnist
expect_requests "$first 1000
$first 0"
rm "$work/data/mnist/$first"
head -c 1000 "$work/whole" >"$work/data/mnist/$first.part"
url=$url/plain expect_status 0 mnist
cmp "$work/served/$first" "$work/data/mnist/$first" || fail "the file from a plain server differs"
no_parts

: "a damaged file here is fetched again; a damaged file there is refused"
: >"$work/log"
echo damage >>"$work/data/mnist/$first"
expect_status 0 mnist
expect_requests "$first 0"
rm "$work/data/mnist/$first"
echo damage >>"$work/served/$first"
expect_status 1 mnist
expect_output "$first: the checksum is .*, want"
[ ! -e "$work/data/mnist/$first" ] || fail "a damaged file got its final name"
no_parts

: "what the server lacks, what an archive lacks, no server"
rm "$work/served/$first"
expect_status 1 mnist
expect_output "$first: .*404"
rm -r "$work/data/cifar10"
tar -czf "$work/served/cifar-10-binary.tar.gz" -C "$work/tree" cifar-100-binary
expect_status 1 cifar10
expect_output "the checksum is"
sum=$(python3 -c 'import hashlib, sys; print(hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest())' "$work/served/cifar-10-binary.tar.gz")
sed -i "s/^.*cifar-10-binary/$sum  cifar-10-binary/" "$work/sums"
expect_status 1 cifar10
expect_output "holds no folder cifar-10-batches-bin"
url=http://127.0.0.1:9 expect_status 1 mnist
[ "$(grep -c "download_data.sh:" "$work/output")" = 1 ] || fail "more than one line of error"

: "misuse"
expect_status 2
expect_output "which data set?"
expect_status 2 imagenet
expect_output "unknown argument imagenet"
expect_status 2 mnist --out
expect_output "--out needs a value"
touch "$work/file"
expect_status 1 --out "$work/file" mnist

: "the built-in checksums are those of the real files"
real=${CONVOY_TEST_DATA:-$here/../shared/data}/mnist
if [ -d "$real" ]; then
  "$script" --base-url "file://$(cd "$real" && pwd)" --out "$work/real" mnist >"$work/output" 2>&1 || fail "real MNIST"
  cmp "$real/t10k-images-idx3-ubyte.gz" "$work/real/mnist/t10k-images-idx3-ubyte.gz" || fail "real MNIST differs"
else
  echo "test_download: no real MNIST here; its checksums were not compared"
fi
echo "test_download: passed"
