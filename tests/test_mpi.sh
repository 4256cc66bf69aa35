#!/usr/bin/env bash
# Ranks that are processes, under mpirun: what they compute, how they end.
#   tests/test_mpi.sh BUILD/tests/mpi_ranks     exit status 77: skipped, there is no mpirun
set -uo pipefail
program=$(realpath "$1")
if ! command -v mpirun >/dev/null; then
  echo "skipped: there is no mpirun"
  exit 77
fi
[[ $(id -u) -ne 0 ]] || export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_rmaps_base_oversubscribe=1 GTEST_COLOR=no
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
checks=0 bad=0
wrong() { bad=$((bad + 1)); echo "wrong: $*"; head -n 30 out err; }

# ranks K STATUS SECONDS CASE...: the run ends with this status ("nonzero": another than 0) within so many seconds.
ranks() {
  local world=$1 want=$2 most=$3 began=$SECONDS status
  shift 3
  timeout --kill-after=5 120 mpirun -np "$world" "$program" "$@" >out 2>err </dev/null
  status=$?
  checks=$((checks + 1))
  if [[ $want == nonzero ]]; then
    [[ $status -ne 0 ]] || wrong "$world ranks, $*: status 0"
  elif [[ $status -ne $want ]]; then wrong "$world ranks, $*: status $status, wanted $want"; fi
  [[ $((SECONDS - began)) -le $most ]] || wrong "$world ranks, $*: $((SECONDS - began)) s"
}
# said COUNT PATTERN: so many lines of the last run's output match.
said() {
  checks=$((checks + 1))
  [[ $(cat out err | grep -cE "$2") -eq $1 ]] || wrong "wanted $1 times: $2"
}

for world in 1 2 3 4; do
  ranks "$world" 0 60 bodies
  said 1 '^\[  PASSED  \] '
done
CONVOY_MPI_THREADS=single ranks 3 0 60 bodies
said 1 '^\[  PASSED  \] '
# Ranks that can't read each other's memory, or are told not to.
CONVOY_MPI_TRANSFERS=messages ranks 3 0 60 bodies
said 1 '^\[  PASSED  \] '

ranks 3 2 60 differ
said 1 "^convoy: rank 0 \(.*\): error: the workers must agree on net: rank 0 has 'fc 10', rank 2 has 'fc 11'$"

# Whoever fails says so, and all end: at once, but not on a busy machine.
for failing in 0 2; do
  ranks 3 1 60 fail "$failing"
  said 1 "^convoy: rank $failing \(.*\): error: the disk is full$"
  said 1 '^convoy: '
done
CONVOY_MPI_THREADS=single ranks 3 1 60 fail 1
said 1 '^convoy: rank 1 \(.*\): error: the disk is full$'
for killed in 0 1; do
  ranks 2 137 60 die "$killed"
  said 0 '^convoy: '
done
ranks 2 2 60 input
said 1 '^convoy: rank 0 \(.*\): error: --data nowhere: no such folder$'
said 1 '^convoy: '

ranks 4 0 60 heard
CONVOY_MPI_THREADS=single ranks 3 0 60 heard
ranks 2 0 60 status 0
ranks 2 75 60 status 75
ranks 2 0 60 workers 2
ranks 2 2 60 workers 3
said 1 '^convoy: rank 0 .*--workers 3 contradicts the number of processes that were started, 2'

# Ranks that the launcher did not bind compute on CPUs of their own, when there are enough.
if [[ $(nproc) -ge 2 ]]; then
  OMPI_MCA_hwloc_base_binding_policy=none ranks 2 0 60 cpus
  said 2 'rank [01] of 2: [0-9]+ threads on'
  checks=$((checks + 1))
  sed 's/.* threads on //' out | tr ' ' '\n' | sort | uniq -d | grep -q . && wrong "ranks share a CPU"
fi

# Processes that would not find each other.
alone() {
  local pattern=$1
  shift
  checks=$((checks + 1))
  ! env "$@" "$program" status 0 >out 2>err </dev/null || wrong "$*: was not refused"
  said 1 "^convoy: error: .*$pattern"
}
alone 'srun --mpi=pmix' SLURM_STEP_NUM_TASKS=4 SLURM_PROCID=1
SLURM_NTASKS=4 "$program" status 0 >out 2>err || wrong "a batch script's own process was refused"

echo "$checks checks, $bad wrong"
[[ $bad -eq 0 ]]
