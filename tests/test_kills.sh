#!/usr/bin/env bash
# SIGKILL of a random one of four MPI ranks (or of mpirun) at a random moment: all end, nothing of them is left, and the
# run that goes on ends with the weights of one that nobody disturbed.   CONVOY=build-cpu/convoy KILLS=10 AT_ONCE=1 MINUTES=0 SEED=1
# After MINUTES (0: never) no kill is begun. Exit status 77: no MPI
# shellcheck disable=SC2317  # functions that until_ok calls by their names
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/command_checks.sh
source "$here/command_checks.sh"
if ! command -v mpirun >/dev/null || ! "$convoy" info | grep -q '^MPI.*Open MPI'; then
  echo "no Open MPI in this build"
  exit 77
fi
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
export OMPI_MCA_hwloc_base_binding_policy=none
cat >small.net <<'NET'
input 12x12x3
conv 8 3x3 pad 1
relu
fc 20
dropout 0.5
fc 10
NET
total=60
run=(--data synthetic:12x12x3:10 --batch-size 64 --threads 1 --momentum 0.9 --log-every 1 --steps "$total"
  --link-gbps 0.005)  # the link: a step takes some 10 ms, most of which nobody computes
modes=("data" "hybrid --scheme a" "hybrid --scheme b" "hybrid --scheme c" "model")

# start DIR MODE: the run in the background, its launcher's pid in `pid`
start() {
  local words
  read -ra words <<<"$2"
  mpirun -np 4 "$convoy" train --model "$work/small.net" "${run[@]}" --parallel "${words[@]}" --checkpoint-every 5 --resume auto --out "$1" \
    >"$1.out" 2>"$1.err" </dev/null &
  pid=$!
}
of_run() { pgrep -f -- "--out $1( |\$)"; }
none_of() { [[ -z $(of_run "$1") ]]; }
ranks_there() { [[ $(pgrep -P "$pid" -c) -eq 4 ]]; }
alive() { kill -0 "$pid" 2>/dev/null; }
milliseconds() { echo $(($(date +%s%N) / 1000000)); }

# disturbed DIR MODE: killed once to three times, then left to its end.
disturbed() {
  local dir=$1 mode=$2 lives=$((1 + RANDOM % 3)) life at victim began took before=$bad
  for ((life = 0; life < lives && kills < share; ++life)); do
    start "$dir" "$mode"
    if ! until_ok 300 ranks_there; then wrong "$dir: no four ranks"; cat "$dir.err"; fi
    # Sometimes anywhere, sometimes while it trains; it ends by itself when that is too late.
    if ((RANDOM % 4 == 0)); then sleep "0.$((RANDOM % 10))"; else
      at=$(($(wc -l 2>/dev/null <"$dir/metrics.jsonl" || echo 0) + 1 + RANDOM % 30))
      while alive && ! steps "$dir" "$at"; do sleep 0.02; done
    fi
    mapfile -t victims < <(pgrep -P "$pid")
    victim=${victims[RANDOM % (${#victims[@]} + 1)]:-$pid}  # one time in five the launcher
    if [[ ${#victims[@]} -eq 0 ]] || ! kill -KILL "$victim" 2>/dev/null; then
      wait "$pid"
      continue
    fi
    began=$(milliseconds)
    kills=$((kills + 1))
    [[ $victim != "$pid" ]] || of_launcher=$((of_launcher + 1))
    wait "$pid" 2>/dev/null
    check "$dir: status 0 after SIGKILL" test $? -ne 0
    if ! until_ok 300 none_of "$dir"; then wrong "$dir: left over: $(of_run "$dir")"; fi
    took=$(($(milliseconds) - began))
    [[ $took -le $slowest ]] || slowest=$took
    if [[ $victim != "$pid" ]]; then
      check "$dir: left in shared memory: $(ls shm)" test -z "$(ls shm)"
    else
      rm -rf shm/* tmp/*  # those of Open MPI that its own launcher removes
    fi
  done
  start "$dir" "$mode"
  wait "$pid"
  check "$dir: the last start ends with status $?: $(cat "$dir.err")" test $? -eq 0
  check "$dir: other weights than the undisturbed run ($mode)" same_weights "$work/undisturbed-${mode// /_}" "$dir"
  check "$dir: not every step stands once in metrics.jsonl" python3 -c "
import json
lines = [json.loads(line) for line in open('$dir/metrics.jsonl')]
assert [m['step'] for m in lines if m['event'] == 'step'] == list(range(1, $total + 1))"
  check "$dir: something is left" only_run_files "$dir"
  runs=$((runs + 1))
  [[ $bad -ne $before ]] || rm -rf "$dir" "$dir".*
}
# lane NUMBER SHARE: so many kills, one after the other.
lane() {
  local share=$2 mode
  checks=0 bad=0 kills=0 of_launcher=0 slowest=0 runs=0
  RANDOM=$((${SEED:-$$} + $1))
  mkdir "lane-$1"
  cd "lane-$1" || exit
  mkdir shm tmp
  export TMPDIR=$PWD/tmp OMPI_MCA_btl_vader_backing_directory=$PWD/shm
  while [[ $kills -lt $share && $bad -lt 20 ]] && in_time; do
    mode=${modes[(runs + $1) % ${#modes[@]}]}
    disturbed "lane-$1-run-$runs" "$mode"
  done
  check "left in shared memory: $(ls shm)" test -z "$(ls shm)"
  check "left in the folder for temporary files: $(ls tmp)" test -z "$(ls -A tmp)"
  echo "$kills $of_launcher $slowest $runs $checks $bad" >"../lane-$1.count"
}
for mode in "${modes[@]}"; do
  start "undisturbed-${mode// /_}" "$mode"
  wait "$pid"
  check "the undisturbed run ($mode): status $?" test $? -eq 0
done
lanes=${AT_ONCE:-1}
for ((one = 0; one < lanes; ++one)); do (lane "$one" $((${KILLS:-10} * (one + 1) / lanes - ${KILLS:-10} * one / lanes))) & done
wait
check "a lane is missing" test "$(cat lane-*.count | wc -l)" -eq "$lanes"
read -r kills of_launcher slowest runs in_lanes wrong_ones < <(
  cat lane-*.count | awk '{ k += $1; l += $2; if ($3 > s) s = $3; r += $4; c += $5; b += $6 } END { print k, l, s, r, c, b }')
checks=$((checks + in_lanes)) bad=$((bad + wrong_ones))
echo "$kills kills ($of_launcher of mpirun) in $runs runs; all ranks ended within $slowest ms"
soaked kills "$kills" "$bad" runs="$runs" of_launcher="$of_launcher" slowest_end_milliseconds="$slowest"
finish
