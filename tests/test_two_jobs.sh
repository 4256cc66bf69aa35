#!/usr/bin/env bash
# Several jobs on one run directory: one trains, the others are told who does.   CONVOY=build-cpu/convoy ROUNDS=10
# shellcheck disable=SC2317  # a function that until_ok calls by its name
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/command_checks.sh
source "$here/command_checks.sh"
cat >small.net <<'NET'
input 8x8x1
fc 3
NET
run=(--model small.net --data synthetic:8x8x1:3 --batch-size 64 --threads 1 --resume auto)
absent() { if compgen -G "$1" >/dev/null; then wrong "$2 was left: $(compgen -G "$1")"; else ok; fi; }

one_left() { [[ $(jobs -pr | wc -l) -eq 1 ]]; }
# many COUNT DIR: so many jobs at once; one trains until the others have ended, and is then told to save.
many() {
  local count=$1 dir=$2 job pids=() winners=0 winner=""
  for ((job = 0; job < count; ++job)); do
    SLURM_JOB_ID=$((100 + job)) "$convoy" train "${run[@]}" --steps 100000000 --out "$dir" >"out.$job" 2>"err.$job" </dev/null &
    pids+=($!)
  done
  until_ok 300 one_left || wrong "$(jobs -pr | wc -l) of $count jobs train in $dir"
  for job in $(jobs -pr); do kill -TERM "$job"; done
  for ((job = 0; job < count; ++job)); do
    wait "${pids[job]}"
    case $? in
      75) winners=$((winners + 1)) winner=$job ;;
      2) ;;
      *) wrong "job $job"; cat "err.$job" ;;
    esac
  done
  if [[ $winners -eq 1 ]]; then ok; else wrong "$winners of $count jobs trained in $dir"; cat err.*; return; fi
  for ((job = 0; job < count; ++job)); do
    [[ $job -ne $winner ]] || continue
    check "job $job does not name the owner: $(cat "err.$job")" \
      grep -qxF "convoy: error: $dir: another program writes to it (pid ${pids[winner]} on $(uname -n), Slurm job $((100 + winner))): wait for its end, or give another --out" "err.$job"
  done
  check "the winner's run is not saved" test -s "$dir/latest"
  absent "$dir/run.lock*" "a lock"
}
for ((round = 0; round < ${ROUNDS:-10}; ++round)); do
  dir=run-$round
  ((round % 3 == 0)) || mkdir "$dir"
  many $((2 + round % 7)) "$dir"
done

soaked two-jobs "${ROUNDS:-10}" "$bad"

# A job that was killed: the next one goes on.
"$convoy" train "${run[@]}" --checkpoint-every 5 --steps 100000000 --out killed >out 2>err </dev/null &
pid=$!
until_ok 300 test -e killed/latest
refused 2 "killed: another program writes to it (pid $pid on " train "${run[@]}" --out killed
refused 2 "killed: another program writes to it (pid $pid on " train --resume killed
kill -9 "$pid"
wait "$pid" 2>/dev/null
check "a killed job's lock is not there" test -e killed/run.lock
printed '^resumed killed/' train --resume killed --max-minutes 0.01
absent 'killed/run.lock*' "a lock"

# Where the file system has no hard links. The checks with strace are left out where it cannot trace.
if strace -f -o /dev/null true 2>/dev/null; then
  for job in 0 1; do
    strace -f -o trace -e trace=link -e inject=link:error=EPERM "$convoy" train "${run[@]}" --steps 3 --out no-links >out 2>err </dev/null
    check "no links, job $job: $(cat err)" test $? -eq 0
    check "links were not tried" grep -q 'EPERM.*INJECTED' trace
  done
  absent 'no-links/run.lock*' "a lock"
fi
finish
