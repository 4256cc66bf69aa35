#!/usr/bin/env bash
# One build runs on every x86-64: qemu plays a CPU with AVX2 and no AVX-512, and one without AVX.   CONVOY=build-cpu/convoy
set -euo pipefail
convoy=${CONVOY:?the built program}
command -v qemu-x86_64 >/dev/null || { echo "qemu-x86_64 is not there"; exit 77; }
[[ $(uname -m) == x86_64 ]] || { echo "not an x86-64"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
printf 'input 8x8x1\nconv 5 3x3 pad 1\nbn\nrelu\nmaxpool 2\ndropout 0.5\nfc 4\n' >"$work/tiny.net"
bad=0
for case in Haswell:avx2 Nehalem:plain; do
  cpu=${case%:*} isa=${case#*:}
  qemu-x86_64 -cpu "$cpu" "$convoy" info >"$work/info" 2>"$work/err" || { cat "$work/err"; echo "$cpu: info fails"; bad=1; }
  grep -qE "^kernels used +$isa " "$work/info" || { cat "$work/info"; echo "$cpu: not $isa"; bad=1; }
  qemu-x86_64 -cpu "$cpu" "$convoy" train --model "$work/tiny.net" --data synthetic:8x8x1:4 --batch-size 8 --steps 2 \
    --out "$work/$cpu" >"$work/out" 2>"$work/err" || { cat "$work/out" "$work/err"; echo "$cpu: training fails"; bad=1; }
  if qemu-x86_64 -cpu "$cpu" "$convoy" train --isa avx512 --model "$work/tiny.net" --data synthetic:8x8x1:4 --steps 1 \
    --out "$work/$cpu-avx512" >"$work/out" 2>&1; then echo "$cpu: --isa avx512 was not refused"; bad=1; fi
done
exit $bad
