#!/usr/bin/env bash
# The jobs on a real Slurm with two simulated nodes: warned, out of time, cancelled, requeued; the weights at the end are
# those of a run that nobody disturbed.   CONVOY=build-cpu/convoy REPEAT=1      exit status 77: no Slurm, no MPI
# shellcheck disable=SC2317,SC2030,SC2031  # functions are called by their names, some in subshells
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/command_checks.sh
source "$here/command_checks.sh"
if ! command -v mpirun >/dev/null || ! "$convoy" info | grep -q '^MPI.*Open MPI'; then
  echo "no Open MPI in this build"
  exit 77
fi
# Slurm's own files: a short path for its sockets.
slurm=$(mktemp -d /tmp/slurm.XXXXXX)
trap '"$here/slurm/stop.sh" "$slurm"; rm -rf "$work" "$slurm"' EXIT
settings=$("$here/slurm/start.sh" "$slurm" 2>started)
case $? in
  0) eval "$settings" ;;
  77) tail -1 started; exit 77 ;;
  *) cat started; exit 1 ;;
esac
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
ln -s "$here/../jobs" jobs
export CONVOY=$convoy MODULES="" THREADS=1 LAUNCH_OPTIONS="" RANKS=2
size=(--nodes=2 --ntasks-per-node=1 --cpus-per-task=1)
cat >small.net <<'NET'
input 16x16x3
conv 8 3x3 pad 1
relu
fc 10
NET
train=(--model small.net --data synthetic:16x16x3:10 --batch-size 32 --parallel hybrid --log-every 1
  --steps 200 --link-gbps 0.01)  # the link: a step takes about 0.03 s

state() { scontrol -o show job "$1" | grep -oE "\b$2=[^ ]+" | cut -d= -f2; }
# until SECONDS COMMAND...: waits until it succeeds
until_ok() {
  local most=$1 i
  shift
  for ((i = 0; i < most * 10; ++i)); do
    if "$@" >/dev/null 2>&1; then return 0; fi
    sleep 0.1
  done
  return 1
}
ended() { [[ -z $(squeue -h -j "$1" -t PD,R,CG,CF,S -o %i 2>/dev/null) ]]; }
steps() { [[ $(grep -c '"event":"step"' "$1/metrics.jsonl") -ge $2 ]]; }
# submit NAME OPTION...: a job that trains to runs/NAME, with these options of convoy train
submit() {
  local name=$1
  shift
  OUT=runs/$name sbatch --parsable --job-name="$name" "${size[@]}" --time="${sbatch_time:-10}" --signal="B:USR2@60" jobs/bridges2_cpu.sbatch "${train[@]}" "$@"
}
# complete JOB NAME RESTARTS: it ends well after so many restarts, with the undisturbed run's weights
complete() {
  local job=$1 name=$2 restarts=$3
  if until_ok 90 ended "$job" && [[ $(state "$job" JobState) == COMPLETED && $(state "$job" Restarts) -eq $restarts ]]; then ok
  else wrong "$name: $(state "$job" JobState), $(state "$job" Restarts) restarts, wanted $restarts"; tail -20 "$name"-*.out; fi
  if python3 - runs/undisturbed "runs/$name" <<'PY'; then ok; else wrong "$name: other weights than the undisturbed run"; fi
import json, struct, sys
def tensors(run):
    data = open(f"{run}/checkpoint-200.safetensors", "rb").read()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + length])
    header.pop("__metadata__")
    return {name: (t["shape"], data[8 + length + t["data_offsets"][0]:8 + length + t["data_offsets"][1]]) for name, t in header.items()}
first, second = map(tensors, sys.argv[1:])
sys.exit(first != second or not first)
PY
  check "$name: a lock is left" test ! -e "runs/$name/run.lock"
}

# One of each kind at a time: their steps are sleeps on the simulated link.
scenario() {
  (
    checks=0 bad=0
    "$@"
    echo "$checks $bad" >"$1.count"
  ) &
}
warned() {
  for ((round = 0; round < ${REPEAT:-1}; ++round)); do
    # The warning, as the time limit sends it: to the batch shell.
    for launch in mpirun "srun --mpi=pmix"; do
      local name=warned-${launch%% *}-$round job began milliseconds
      job=$(LAUNCH=$launch submit "$name")
      until_ok 30 steps "runs/$name" $((20 + RANDOM % 60)) || { wrong "$name does not train"; cat "$name"-*.out; }
      began=$(date +%s%N)
      scancel --batch --signal=USR2 "$job"
      until_ok 20 grep -q 'requeueing job' "$name-$job.out" || wrong "$name was not requeued"
      milliseconds=$((($(date +%s%N) - began) / 1000000))
      check "$name: saved after $milliseconds ms" test "$milliseconds" -le 2500
      check "$name: no checkpoint" test -s "runs/$name/latest"
      check "$name: does not say where it stopped" grep -q 'stopped by SIGUSR2 after step' "$name-$job.out"
      complete "$job" "$name" 1
      check "$name: did not go on" grep -q "resumed runs/$name/" "$name-$job.out"
    done
  done

}

# scontrol requeue of a job that runs: its ranks are ended, the next start goes on from the last checkpoint. The dead
# owner's lock is that of an earlier start of the same job.
requeued() {
  for launch in mpirun "srun --mpi=pmix"; do
    local name=requeued-${launch%% *} job
    job=$(LAUNCH=$launch submit "$name" --checkpoint-every 10)
    until_ok 30 steps "runs/$name" 60 || wrong "$name does not train"
    scontrol requeue "$job"
    complete "$job" "$name" 1
    check "$name: did not go on" grep -q "resumed runs/$name/" "$name-$job.out"
  done

}

# scancel: nothing is left that runs, and another job goes on.
cancelled() {
  local job again
  job=$(LAUNCH=mpirun submit cancelled --checkpoint-every 10)
  until_ok 30 steps runs/cancelled 60 || wrong "cancelled: does not train"
  scancel "$job"
  until_ok 30 ended "$job" || wrong "cancelled: does not end"
  check "cancelled: $(state "$job" JobState)" test "$(state "$job" JobState)" = CANCELLED
  check "cancelled: a rank is left" test -z "$(pgrep -f "train .*--out runs/cancelled ")"
  again=$(LAUNCH=mpirun submit cancelled --checkpoint-every 10)
  complete "$again" cancelled 0
  check "cancelled: the next job did not go on" grep -q 'resumed runs/cancelled/' "cancelled-$again.out"
}

# A real time limit of one minute, warned a minute ahead: Slurm looks at its jobs every 30 s. A step takes 0.4 s here.
out_of_time() {
  local job
  job=$(sbatch_time=1 LAUNCH=mpirun submit out-of-time --link-us 40000)
  until_ok 60 grep -q 'requeueing job' "out-of-time-$job.out" || wrong "out-of-time was not requeued"
  scontrol update JobId="$job" TimeLimit=10
  check "out-of-time: not stopped by the warning" grep -q 'stopped by SIGUSR2 after step' "out-of-time-$job.out"
  complete "$job" out-of-time 1
}

submitted=$(LAUNCH=mpirun submit undisturbed)
until_ok 90 ended "$submitted"
complete "$submitted" undisturbed 0
for kind in warned requeued cancelled out_of_time; do scenario "$kind"; done
wait
while read -r of wrong_ones; do checks=$((checks + of)) bad=$((bad + wrong_ones)); done < <(cat ./*.count)
check "a scenario is missing" test "$(cat ./*.count | wc -l)" -eq 4
finish
