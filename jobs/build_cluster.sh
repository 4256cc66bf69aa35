#!/usr/bin/env bash
# Builds Convoy on a cluster, without root: compiler and MPI from modules, libraries that are not there from sources.
#   bash jobs/build_cluster.sh [options of cmake]        then build-cluster/convoy
# On a login node (the sources are downloaded); the build runs on every x86-64 node, its kernels are chosen at run time.
# Without network: -DFETCHCONTENT_SOURCE_DIR_<NAME>=FOLDER (cmake/dependencies.cmake). As a container: jobs/convoy.def.

# Settings: take the place of these by exporting them.
MODULES=${MODULES-gcc/10.2.0 openmpi/4.0.5-gcc10.2.0}
BUILD=${BUILD:-build-cluster}
JOBS=${JOBS:-8}                                          # of a login node's cores

set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=jobs/launch.sh
source jobs/launch.sh
load_modules "$MODULES"
command -v cmake >/dev/null || {
  echo "cmake is not there: module load cmake, or: python3 -m pip install --user cmake ninja" >&2
  exit 2
}
generator=()
if [[ ! -e $BUILD/CMakeCache.txt ]] && command -v ninja >/dev/null; then generator=(-G Ninja); fi
cmake -S . -B "$BUILD" "${generator[@]}" -DCMAKE_BUILD_TYPE=Release -DCONVOY_TESTS=OFF -DCONVOY_BENCH=OFF "$@"
cmake --build "$BUILD" --target convoy --parallel "$JOBS"
"$BUILD/convoy" info
