#!/usr/bin/env bash
# A run that stands still ends, and says what each worker was doing.   CONVOY=build-cpu/convoy
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/command_checks.sh
source "$here/command_checks.sh"
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
seconds=3
cat >small.net <<'NET'
input 16x16x3
conv 8 3x3 pad 1
relu
fc 10
NET
run=(--model small.net --data synthetic:16x16x3:10 --batch-size 64 --threads 1 --steps 100000000 --log-every 1
  --watchdog "$seconds")
# trains DIR: waits until the run is training.
trains() {
  local i
  for ((i = 0; i < 400; ++i)); do
    if [[ $(wc -l 2>/dev/null <"$1/metrics.jsonl") -gt 5 ]]; then return 0; fi
    sleep 0.05
  done
  wrong "$1 does not train"
  cat err
  return 1
}
said() { if grep -qE "$1" err; then ok; else wrong "not said: $1"; cat err; fi; }
number='[0-9]+'
clock='[0-9]{2}:[0-9]{2}:[0-9]{2}'

# Under mpirun one rank is stopped: the other one ends the run, and says in which transfer it waited.
if command -v mpirun >/dev/null && "$convoy" info | grep -q '^MPI.*Open MPI'; then
  for stopped in 0 1; do
    other=$((1 - stopped))
    mpirun -np 2 "$convoy" train "${run[@]}" --parallel hybrid --out "ranks-$stopped" >out 2>err </dev/null &
    pid=$!
    trains "ranks-$stopped" || continue
    for rank in $(pgrep -P "$pid"); do
      if tr '\0' '\n' <"/proc/$rank/environ" | grep -qx "OMPI_COMM_WORLD_RANK=$stopped"; then kill -STOP "$rank"; fi
    done
    began=$SECONDS
    wait "$pid"
    status=$?
    took=$((SECONDS - began))
    check "rank $stopped stopped: status $status" test "$status" -eq 1
    check "rank $stopped stopped: $took s" test "$took" -ge $((seconds - 1)) -a "$took" -le $((seconds + 5))
    said "^convoy: rank $other of 2 \\($(uname -n)\\): no progress since $clock, $seconds s: training, step $number; compute: (wait for|gather|sum|vote).*since $clock"
    said "^convoy: rank $other \\($(uname -n)\\): error: no progress for $seconds s .*one that said nothing above did not run"
    check "rank $stopped, which was stopped, says something" test "$(grep -c "rank $stopped" err)" -eq 0
    check "a rank is left" test -z "$(pgrep -f "train .*--out ranks-$stopped")"
  done
fi

# A whole run that was stopped for longer goes on: that time is nobody's fault.
"$convoy" train "${run[@]}" --out continued >out 2>err </dev/null &
pid=$!
if trains continued; then
  kill -STOP "$pid"
  sleep $((seconds + 2))
  kill -CONT "$pid"
  sleep 1.5
  kill -USR2 "$pid"
  wait "$pid"
  check "a run that was stopped and continued: status $?" test $? -eq 75
fi

# A disk that does not answer.
if strace -f -o /dev/null true 2>/dev/null; then
  for workers in 1 2; do
    timeout 60 strace -f -o /dev/null -e trace=rename -e inject=rename:delay_enter=8000000 "$convoy" train "${run[@]}" --workers "$workers" --checkpoint-every 5 --out "disk-$workers" >out 2>err </dev/null
    check "a disk that does not answer: status $?" test $? -eq 1
    said "^convoy: rank 0 of $workers .*: no progress since $clock, $seconds s: saving a checkpoint, step 5$"
    said "^convoy: error: no progress for $seconds s"
  done
  said "^convoy: rank 1 of 2 .*: saving a checkpoint, step 5; compute: checkpoint, since $clock"
fi
finish
