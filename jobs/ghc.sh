#!/usr/bin/env bash
# A machine without Slurm (CMU's GHC machines, a workstation): one process, or ranks under mpirun on this machine.
#   bash jobs/ghc.sh [options of convoy train]        RANKS=4 bash jobs/ghc.sh ...: under mpirun
# Goes on where an earlier start with the same OUT stopped; Ctrl-C saves and ends.

# Settings: take the place of these by exporting them.
RANKS=${RANKS:-1}
LAUNCH=${LAUNCH:-mpirun}
CONVOY=${CONVOY:-build-cluster/convoy}
OUT=${OUT:-runs/ghc}
THREADS=${THREADS:-$(($(nproc) / RANKS > 0 ? $(nproc) / RANKS : 1))}
DEFAULTS=(--model cifar_cnn --data shapes)

set -uo pipefail
# shellcheck source=jobs/launch.sh
source "$(dirname "$0")/launch.sh"
[[ $# -gt 0 ]] || set -- "${DEFAULTS[@]}"
train=("$CONVOY" train --threads "$THREADS" --out "$OUT" --resume auto "$@")
if [[ $RANKS -gt 1 ]]; then launch "$RANKS" "${train[@]}"; else exec "${train[@]}"; fi
