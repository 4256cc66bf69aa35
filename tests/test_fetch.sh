#!/usr/bin/env bash
# cmake/dependencies.cmake without the system's packages: the pinned sources are replaced by local copies, so that what is
# built from them is tested and the download is not. The header-only libraries and GoogleTest come from this machine's
# packages; CONVOY_SOURCES=<folder with zlib, libjpeg-turbo, libpng, ...> adds those that it holds.
set -euo pipefail
source=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

options=()
replace() {  # PACKAGE NAME FOLDER
  options+=("-DCMAKE_DISABLE_FIND_PACKAGE_$1=ON" "-DFETCHCONTENT_SOURCE_DIR_${2^^}=$3")
}
header() {  # PACKAGE NAME HEADER-FOLDER
  [[ -d $3 ]] || { echo "no $3 on this machine"; exit 77; }
  mkdir -p "$work/$2/include"
  ln -s "$3" "$work/$2/include/"
  replace "$1" "$2" "$work/$2"
}
header CLI11 CLI11 /usr/include/CLI
header tomlplusplus tomlplusplus /usr/include/toml++
header nlohmann_json nlohmann_json /usr/include/nlohmann
if [[ -d /usr/src/googletest ]]; then replace GTest googletest /usr/src/googletest; fi
for library in ZLIB:zlib JPEG:libjpeg-turbo PNG:libpng; do
  folder=${CONVOY_SOURCES:-/nonexistent}/${library#*:}
  if [[ -d $folder ]]; then replace "${library%:*}" "${library#*:}" "$folder"; fi
done

launcher=()
if command -v ccache >/dev/null; then launcher=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache); fi
log=$work/log
cmake -S "$source" -B "$work/build" -G Ninja -DCMAKE_BUILD_TYPE=Debug -DCONVOY_BENCH=OFF \
  -DFETCHCONTENT_FULLY_DISCONNECTED=ON "${launcher[@]}" "${options[@]}" >"$log" 2>&1 || { cat "$log"; exit 1; }
grep 'was not found: building' "$log"
targets=()
for stem in config metrics cli; do targets+=("CMakeFiles/convoy_core.dir/src/$stem.cpp.o"); done
if [[ -d /usr/src/googletest ]]; then targets+=("lib/libgtest_main.a"); fi
if [[ -n ${CONVOY_SOURCES:-} ]]; then targets=(convoy test_config); fi
cmake --build "$work/build" --target convoy_commit "${targets[@]}" >"$log" 2>&1 || { tail -40 "$log"; exit 1; }
if [[ -n ${CONVOY_SOURCES:-} ]]; then "$work/build/convoy" info; "$work/build/tests/test_config"; fi
