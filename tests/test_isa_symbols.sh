#!/usr/bin/env bash
# The kernels are compiled once per instruction set into one program. An inline function that an AVX object brings and the plain
# objects do not could be taken by code that runs on every machine: there must be none.
#   test_isa_symbols.sh BUILD_DIR
set -euo pipefail
build=${1:?usage: test_isa_symbols.sh BUILD_DIR}
shared_functions() {  # weak definitions of one instruction set's objects
  find "$build/CMakeFiles/kernels_$1.dir" -name '*.o' -print0 | xargs -0 nm -C --defined-only |
    grep -v 'convoy::cpu_'"$1" |
    awk '$2 == "W" || $2 == "V" || $2 == "u" { $1 = $2 = ""; print }' | sort -u
}
if [ ! -d "$build/CMakeFiles/kernels_avx2.dir" ]; then
  echo "skipped: this build has the plain kernels only"
  exit 77
fi
plain=$(shared_functions plain)
status=0
for isa in avx2 avx512; do
  extra=$(comm -13 <(echo "$plain") <(shared_functions "$isa"))
  if [ -n "$extra" ]; then
    echo "in the $isa kernels but not in the plain ones:"
    echo "$extra"
    status=1
  fi
done
exit $status
