#!/usr/bin/env bash
# What CI has no time for. Each campaign is a test with more rounds; the last line is "N campaigns passed, N failed, N skipped".
#   CONVOY=build-cpu/convoy bash tests/soak.sh [CAMPAIGN...]      default: all
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
: "${CONVOY:?the built program}"
passed=0 failed=0 skipped=0
# campaign NAME TEST VARIABLE=VALUE...
campaign() {
  local name=$1 test=$2 began=$SECONDS status
  shift 2
  [[ ${#wanted[@]} -eq 0 || " ${wanted[*]} " == *" $name "* ]] || return 0
  echo "== $name: $*"
  env "$@" bash "$here/$test"
  status=$?
  case $status in
    0) passed=$((passed + 1)) ;;
    77) skipped=$((skipped + 1)) ;;
    *) failed=$((failed + 1)) ;;
  esac
  echo "== $name: status $status after $((SECONDS - began)) s"
}
wanted=("$@")
campaign two-jobs test_two_jobs.sh ROUNDS=100  # 2 to 8 jobs on one directory
campaign slurm test_slurm.sh REPEAT=20         # the warning, 20 times under mpirun and under srun --mpi=pmix
echo "$passed campaigns passed, $failed failed, $skipped skipped"
[[ $failed -eq 0 && $((passed + skipped)) -gt 0 ]]
