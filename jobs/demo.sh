#!/usr/bin/env bash
# Builds Convoy, trains cifar_cnn on the built-in shapes data set (under a minute of training on two cores), and compares
# the modes and exchange schemes of two workers on links of 0.5 GB/s (20 seconds).
#   bash jobs/demo.sh [options of convoy train]
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=jobs/packages.sh
source jobs/packages.sh
install_missing "build Convoy" "${build_packages[@]}"

options=()
[[ -e build-cpu/CMakeCache.txt ]] || options=(-DCONVOY_TESTS=OFF -DCONVOY_BENCH=OFF)
if command -v ccache >/dev/null; then options+=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache); fi
cmake --preset cpu "${options[@]}" >build-cpu.log 2>&1 || {
  cat build-cpu.log >&2
  exit 1
}
echo "Building Convoy (Release) in build-cpu"
cmake --build build-cpu --target convoy >build-cpu.log 2>&1 || {
  cat build-cpu.log >&2
  exit 1
}
rm -f build-cpu.log
echo "+ build-cpu/convoy train $*"
build-cpu/convoy train "$@"
comparison=(bench-schemes --workers 2 --steps 20 --link-gbps 0.5 --link-us 20)
echo "+ build-cpu/convoy ${comparison[*]}"
exec build-cpu/convoy "${comparison[@]}"
