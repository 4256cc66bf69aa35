#!/usr/bin/env bash
# The loader's threads under ThreadSanitizer: its test and the sources that it needs, without the rest of the program.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
flags=(-std=c++17 -O1 -g1 -fsanitize=thread)
libraries=(-lgtest_main -lgtest -ljpeg -lpng -lz -pthread)
echo 'int main() {}' >"$work/empty.cpp"
if ! "${CXX:-c++}" "${flags[@]}" "$work/empty.cpp" "${libraries[@]}" -o "$work/empty" 2>"$work/log" || ! "$work/empty"; then
  cat "$work/log"
  echo "the compiler has no ThreadSanitizer here, or a library is not the system's"
  exit 77
fi
sources=(tests/test_loader.cpp src/loader.cpp src/check.cpp src/tensor.cpp src/bytes_text.cpp src/data.cpp src/data_*.cpp
  src/image_*.cpp)
# shellcheck disable=SC2016  # the inner shell expands these
printf '%s\0' "${sources[@]}" | xargs -0 -P "$(nproc)" -I '{}' bash -c \
  '"${CXX:-c++}" "$@" -c -Iinclude -Isrc -I. "{}" -o "$0/$(basename "{}").o"' "$work" "${flags[@]}"
"${CXX:-c++}" "${flags[@]}" "$work"/*.o "${libraries[@]}" -o "$work/test_loader"
TSAN_OPTIONS=halt_on_error=1 "$work/test_loader"
