#!/usr/bin/env bash
# A run that stands still ends, and says what each worker was doing.   CONVOY=build-cpu/convoy
# shellcheck disable=SC2030,SC2031  # counts of subshells
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/command_checks.sh
source "$here/command_checks.sh"
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
seconds=5
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
err=err
said() { if grep -qE "$1" "$err"; then ok; else wrong "not said: $1"; cat "$err"; fi; }
number='[0-9]+'
host=$(uname -n)
clock='[0-9]{2}:[0-9]{2}:[0-9]{2}'

# stopped KIND RANK PATTERN FRACTION RANKS-COMMAND...: a rank is stopped in its training, and the other one ends the run and
# says what that rank was doing. FRACTION of a step after the end of one; again until it was caught in what PATTERN says, with
# a watchdog that waits for longer where a busy machine let a run that was not stopped stand still.
stopped() {
  local kind=$1 rank=$2 pattern=$3 fraction=$4 status other=$((1 - $2)) seconds=5 dir attempt pid one err
  shift 4
  for ((attempt = 0; attempt < 8; ++attempt)); do
    dir=$kind-$rank-$attempt
    err=$dir.err
    mpirun -np 2 "$@" --watchdog "$seconds" --out "$dir" >"$dir.out" 2>"$err" </dev/null &
    pid=$!
    # The length of a step, and the end of one.
    python3 - "$dir/metrics.jsonl" "$fraction" "$pid" 2>&1 <<'PY' || echo "$dir: ended before it was stopped"
import os, sys, time
def step(wanted):
    while os.path.exists(f"/proc/{sys.argv[3]}"):
        try:
            lines = open(sys.argv[1]).read().count('"step",')
            if lines >= wanted: return lines, time.monotonic()
        except OSError: pass
        time.sleep(0.01)
    sys.exit("it ended")
n, began = step(1)
now, ended = step(n + 1)
time.sleep(float(sys.argv[2]) * (ended - began) / (now - n))
PY
    for one in $(pgrep -f -- "^[^ ]*convoy train .*--out $dir\$"); do
      if tr '\0' '\n' <"/proc/$one/environ" | grep -qx "OMPI_COMM_WORLD_RANK=$rank"; then kill -STOP "$one"; fi
    done
    wait "$pid"
    status=$?
    if ! grep -q '; silent: rank' "$err"; then
      seconds=$((2 * seconds))
      continue
    fi
    check "$kind: rank $rank stopped: status $status" test "$status" -eq 1
    check "$kind: rank $rank stopped: a rank is left" test -z "$(pgrep -f "train .*--out $dir( |\$)")"
    said "^convoy: rank $rank of 2 \\($host\\): silent since $clock; last known: (moves|no progress since $clock): .*, step $number"
    said "^convoy: rank $other of 2 \\($host\\): no progress since $clock: .*, step $number; compute: .*, since $clock"
    said "^convoy: rank $other \\($host\\): error: no progress for $seconds s .*; silent: rank $rank \\("
    check "$kind: not one report" test "$(grep -c '^convoy: rank . of 2' "$err")" -eq 2
    stops=$((stops + 1))
    if grep -qE "^convoy: rank $rank of 2 .*last known: .*: $pattern" "$err"; then ok; return; fi
    fraction=$(printf '0.%02d' $((RANDOM % 90 + 5)))
    sed -n "s/^convoy: rank $rank of 2.*silent/missed $kind: silent/p" "$err"
  done
  wrong "$kind: rank $rank was never caught in: $pattern"
  cat "$err"
}
stops=0
if command -v mpirun >/dev/null && "$convoy" info | grep -q '^MPI.*Open MPI'; then
  # Most of a step is a layer's forward or backward pass.
  printf 'input 32x32x3\nconv 48 5x5 pad 2\nwide: conv 48 5x5 pad 2\nmaxpool 4\nfc 4\n' >slow.net
  slow=("$convoy" train --model slow.net --data synthetic:32x32x3:4 --batch-size 64 --isa plain --threads 1 --steps 100 --log-every 1)
  slow_link=("$convoy" train --model small.net --data synthetic:16x16x3:10 --batch-size 64 --threads 1
    --steps 100 --log-every 1 --link-gbps 0.0001)  # a step takes about a second, all of it on the link
  saves=(strace -f -o /dev/null -e trace=rename -e inject=rename:delay_enter=1000000 "${slow_link[@]}" --checkpoint-every 1)
  # side_by_side KIND...: for each rank and round; the waits of one go beside the work of another.
  side_by_side() {
    (
      checks=0 bad=0 stops=0
      for ((round = 0; round < ${ROUNDS:-1}; ++round)); do
        for rank in 0 1; do
          for kind in "$@"; do
            case $kind in
              forward) stopped "$kind-$round" "$rank" "training, step $number; compute: conv_forward [^ ]+, since $clock" 0.2 "${slow[@]}" ;;
              backward) stopped "$kind-$round" "$rank" "training, step $number; compute: conv_backward_[a-z]+ wide, since $clock" 0.7 "${slow[@]}" ;;
              exchange) stopped "$kind-$round" "$rank" "training, step $number; .*transfer: sum gradients, since $clock" 0.5 "${slow_link[@]}" ;;
              save) stopped "$kind-$round" "$rank" "saving a checkpoint, step $number(;.*)?" 0.3 "${saves[@]}" ;;
            esac
          done
        done
      done
      echo "$checks $bad $stops" >"$1.count"
    ) &
  }
  side_by_side forward backward
  side_by_side exchange
  if strace -f -o /dev/null true 2>/dev/null; then side_by_side save; fi
  wait
  while read -r of wrong_ones caught; do
    checks=$((checks + of)) bad=$((bad + wrong_ones)) stops=$((stops + caught))
  done < <(cat ./*.count)
  check "stopped only $stops times" test "$stops" -ge 6
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
    timeout 300 strace -f -o /dev/null -e trace=rename -e inject=rename:delay_enter=8000000 "$convoy" train "${run[@]}" --workers "$workers" --checkpoint-every 5 --out "disk-$workers" >out 2>err </dev/null
    check "a disk that does not answer: status $?" test $? -eq 1
    said "^convoy: rank 0 of $workers .*: no progress since $clock: saving a checkpoint, step 5$"
    said "^convoy: error: no progress for $seconds s"
  done
  said "^convoy: rank 1 of 2 .*: saving a checkpoint, step 5; compute: checkpoint, since $clock"
fi
soaked watchdog "$stops" "$bad" rounds="${ROUNDS:-1}"
finish
