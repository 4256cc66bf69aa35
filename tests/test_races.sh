#!/usr/bin/env bash
# Threads under ThreadSanitizer: the loader's, and workers that are threads. Each test with the sources that it needs,
# without the rest of the program.
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
# compile FLAG... -- SOURCE...: objects into $work
compile() {
  local more=()
  while [[ $1 != -- ]]; do more+=("$1"); shift; done
  shift
  # shellcheck disable=SC2016  # the inner shell expands these
  printf '%s\0' "$@" | xargs -0 -P "$(nproc)" -I '{}' bash -c \
    '"${CXX:-c++}" "$@" -c -Iinclude -Isrc -I. "{}" -o "$0/$(basename "{}").o"' "$work" "${flags[@]}" "${more[@]}"
}
export TSAN_OPTIONS=halt_on_error=1

compile -- tests/test_loader.cpp src/loader.cpp src/check.cpp src/tensor.cpp src/bytes_text.cpp src/data.cpp src/data_*.cpp \
  src/image_*.cpp
"${CXX:-c++}" "${flags[@]}" "$work"/*.o "${libraries[@]}" -o "$work/test_loader"
"$work/test_loader"
rm "$work"/*.o

# Workers as threads: collectives on two queues at once with random delays, aborts. The kernels are only linked.
compile -Wno-unknown-pragmas -- tests/test_comm.cpp tests/test_exchange.cpp src/comm.cpp src/comm_threads.cpp src/thread_group.cpp \
  src/exchange.cpp src/cpu_queue.cpp src/trace.cpp src/exec_cpu.cpp src/memory_cpu.cpp src/check.cpp src/tensor.cpp
compile -Wno-unknown-pragmas -O0 -DCONVOY_CPU=cpu_plain -DCONVOY_VECTOR_BYTES=16 -- kernels/*.cpp
compile -- src/backends.cpp
for test in test_comm test_exchange; do
  mapfile -t objects < <(find "$work" -name '*.o' ! -name 'test_*')
  "${CXX:-c++}" "${flags[@]}" "$work/$test.cpp.o" "${objects[@]}" "${libraries[@]}" -o "$work/$test"
  "$work/$test"
done
