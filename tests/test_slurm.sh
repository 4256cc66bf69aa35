#!/usr/bin/env bash
# The jobs on a real Slurm with two simulated nodes: every script; and one that trains warned, out of time, cancelled,
# requeued, under mpirun and srun: the weights at the end are those of a run that nobody disturbed.
#   CONVOY=build-cpu/convoy REPEAT=1 AT_ONCE=1 MINUTES=0      exit status 77: no Slurm, no MPI
# After MINUTES (0: never) no round is begun.
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
# ended JOB: it, or all of its array; a question that Slurm was too busy to answer is no answer.
ended() {
  local states
  states=$(scontrol -o show job "$1" | grep -oE '\bJobState=[^ ]+') && ! grep -qvE '=(COMPLETED|FAILED|CANCELLED|TIMEOUT|NODE_FAIL)$' <<<"$states"
}
# submit NAME OPTION...: a job that trains to runs/NAME, with these options of convoy train
submit() {
  local name=$1
  shift
  OUT=runs/$name sbatch --parsable --job-name="$name" "${size[@]}" --time="${sbatch_time:-10}" --signal="B:USR2@60" jobs/bridges2_cpu.sbatch "${train[@]}" "$@"
}
# complete JOB NAME RESTARTS: it ends well after at least so many restarts, with the undisturbed run's weights
complete() {
  local job=$1 name=$2 restarts=$3
  if until_ok 300 ended "$job" && [[ $(state "$job" JobState) == COMPLETED && $(state "$job" Restarts) -ge $restarts ]]; then ok
  else wrong "$name: $(state "$job" JobState), $(state "$job" Restarts) restarts, wanted $restarts"; tail -20 "$name"-*.out; fi
  check "$name: other weights than the undisturbed run" same_weights runs/undisturbed "runs/$name"
  check "$name: a lock is left" test ! -e "runs/$name/run.lock"
}
# saved NAME BEGAN: when the checkpoint was there that the run goes on from, since the signal.
saved() {
  local milliseconds
  milliseconds=$((($(date +%s%N -r "runs/$1/latest") - $2) / 1000000))
  echo "$1: saved $milliseconds ms after the signal" >>saved
}

# scenario KIND LAUNCH: its rounds, and beside those of the others: their steps are sleeps on the simulated link.
scenario() {
  local lane
  for ((lane = 0; lane < ${AT_ONCE:-1}; ++lane)); do
    (
      checks=0 bad=0
      for ((round = lane; round < ${REPEAT:-1}; round += ${AT_ONCE:-1})); do
        in_time || break
        name=$1-${2%% *}-$round before=$bad
        LAUNCH=$2 "$1"
        echo "$1 ${2%% *} $((bad > before))" >>rounds
        [[ $bad -ne $before ]] || rm -rf "runs/$name" "$name"-*.out
      done
      echo "$checks $bad" >"$1-${2%% *}-$lane.count"
    ) &
  done
}
# The warning, as the time limit sends it: to the batch shell.
warned() {
  local job began
  job=$(submit "$name")
  until_ok 300 steps "runs/$name" $((20 + RANDOM % 60)) || { wrong "$name does not train"; cat "$name"-*.out; }
  began=$(date +%s%N)
  scancel --batch --signal=USR2 "$job"
  until_ok 300 grep -q 'requeueing job' "$name-$job.out" || wrong "$name was not requeued"
  saved "$name" "$began"
  check "$name: does not say where it stopped" grep -q 'stopped by SIGUSR2 after step' "$name-$job.out"
  complete "$job" "$name" 1
  check "$name: did not go on" grep -q "resumed runs/$name/" "$name-$job.out"
}
# scontrol requeue of a job that runs: its ranks are ended, the next start goes on from the last checkpoint. The dead
# owner's lock is that of an earlier start of the same job.
requeued() {
  local job
  job=$(submit "$name" --checkpoint-every 10)
  until_ok 300 steps "runs/$name" $((20 + RANDOM % 100)) || wrong "$name does not train"
  scontrol requeue "$job"
  complete "$job" "$name" 1
  check "$name: did not go on" grep -q "resumed runs/$name/" "$name-$job.out"
}
# scancel: nothing is left that runs, and another job goes on.
cancelled() {
  local job again
  job=$(submit "$name" --checkpoint-every 10)
  until_ok 300 steps "runs/$name" $((20 + RANDOM % 100)) || wrong "$name: does not train"
  scancel "$job"
  until_ok 300 ended "$job" || wrong "$name: does not end"
  check "$name: $(state "$job" JobState)" test "$(state "$job" JobState)" = CANCELLED
  check "$name: a rank is left" test -z "$(pgrep -f "train .*--out runs/$name( |\$)")"
  again=$(submit "$name" --checkpoint-every 10)
  complete "$again" "$name" 0
  check "$name: the next job did not go on" grep -q "resumed runs/$name/" "$name-$again.out"
}
# A real time limit of one minute, warned a minute ahead: Slurm looks at its jobs every 30 s. A step takes 0.4 s here.
out_of_time() {
  local job
  job=$(sbatch_time=1 submit "$name" --link-us 40000)
  until_ok 300 grep -q 'requeueing job' "$name-$job.out" || wrong "$name was not requeued"
  scontrol update JobId="$job" TimeLimit=10  # too late where it is started again at once: it is warned once more
  check "$name: not stopped by the warning" grep -q 'stopped by SIGUSR2 after step' "$name-$job.out"
  complete "$job" "$name" 1
}

# Every script as it is but for the size of its work; a CPU stands in for the GPUs that Slurm gives.
well() {  # well JOB OUTPUT PATTERN
  if until_ok 300 ended "$1" && [[ $(scontrol -o show job "$1" | grep -oE '\bJobState=[^ ]+' | sort -u) == JobState=COMPLETED ]] &&
    grep -qE "$3" "$2"; then ok
  else wrong "job $1: $(state "$1" JobState), wanted in $2: $3"; tail -20 "$2"; fi
}
scripts() {
  (
    checks=0 bad=0
    tiny=(--model small.net --data synthetic:16x16x3:10 --batch-size 16 --steps 3)
    job=$(DEVICE=cpu OUT=runs/gpu sbatch --parsable -o gpu.out jobs/bridges2_gpu.sbatch "${tiny[@]}")
    well "$job" gpu.out '^run directory: runs/gpu$'
    check "the GPUs are others: $(state "$job" ReqTRES) $(state "$job" TresPerJob)" grep -q 'v100-32:8' <<<"$(scontrol -o show job "$job")"
    job=$(DEVICE=cpu OUT=runs/gpu2 sbatch --parsable --nodes=2 --gpus=v100-32:16 -o gpu2.out jobs/bridges2_gpu.sbatch "${tiny[@]}")
    well "$job" gpu2.out '^run directory: runs/gpu2$'
    job=$(DEVICE=cpu OUT=runs/shared RANKS=1 sbatch --parsable -p GPU-shared --ntasks-per-node=1 --gpus=v100-32:1 -o shared.out jobs/bridges2_gpu.sbatch "${tiny[@]}")
    well "$job" shared.out '^run directory: runs/shared$'
    mkdir bin
    # shellcheck disable=SC2016  # for the programs that stand in
    printf '%s\n' '#!/usr/bin/env bash' 'echo "nsys $*"' 'while [[ $1 != --output ]]; do shift; done' 'touch "$2.nsys-rep"; shift 2; exec "$@"' >bin/nsys
    # shellcheck disable=SC2016
    printf '%s\n' '#!/usr/bin/env bash' 'words=()' 'while [[ $# -gt 0 ]]; do case $1 in' \
      '--device) words+=(--device cpu); shift 2 ;; --profile-steps) echo "profiled: $2"; shift 2 ;; *) words+=("$1"); shift ;; esac; done' \
      'exec "$REAL_CONVOY" "${words[@]}"' >bin/convoy
    chmod +x bin/nsys bin/convoy
    job=$(REAL_CONVOY=$convoy PATH=$PWD/bin:$PATH CONVOY=$PWD/bin/convoy STEPS=2:4 OUT=runs/profile sbatch --parsable -o profile.out \
      jobs/profile.sbatch "${tiny[@]:0:6}")
    well "$job" profile.out '^profile: runs/profile-nsys[.][*]$'
    check "not profiled" grep -qx 'profiled: 2:4' profile.out
    job=$(COUNTS="1 2" BATCH=16 STEPS=3 OUT=runs/scaling sbatch --parsable --nodes=2 --cpus-per-task=1 -o scaling.out jobs/scaling.sbatch "${tiny[@]:0:4}")
    well "$job" scaling.out '^weak +2 +32 '
    job=$(COUNTS="2 3" sbatch --parsable --array=0-1 --ntasks-per-node=3 --cpus-per-task=1 -o schemes-%a.out jobs/schemes_array.sbatch small.net --batch-size 16 --steps 2)
    well "$job" schemes-1.out 'rows that differ from one worker by more than rounding: 0'
    bash jobs/collect_schemes.sh >/dev/null
    check "not the rows of both tasks" test "$(awk '$1 == "hybrid" || $1 == "model" { print $3 }' runs/schemes/schemes.txt | sort | uniq -c | tr -s ' \n' ' ')" = " 6 2 6 3 "
    echo "$checks $bad" >scripts.count
  ) &
}

submitted=$(LAUNCH=mpirun submit undisturbed)
until_ok 300 ended "$submitted"
complete "$submitted" undisturbed 0
count=1
scripts
for kind in ${SCENARIOS-warned requeued cancelled out_of_time}; do
  for launch in mpirun "srun --mpi=pmix"; do
    scenario "$kind" "$launch"
    count=$((count + ${AT_ONCE:-1}))
  done
done
wait
while read -r of wrong_ones; do checks=$((checks + of)) bad=$((bad + wrong_ones)); done < <(cat ./*.count)
check "a scenario is missing" test "$(cat ./*.count | wc -l)" -eq "$count"
# Within a step (0.03 s) and two seconds, on a machine that has nothing else to do: counted, no failure.
sed 's/.*: saved \([0-9]*\) ms.*/\1/' saved 2>/dev/null | sort -n >milliseconds
slowest=$(tail -1 milliseconds)
late=$(awk '$1 > 2030' milliseconds | wc -l)
echo "the slowest save came ${slowest:-no} ms after its signal; $late of $(wc -l <milliseconds) later than a step and 2 s"
while read -r kind launch rounds_of wrong_rounds; do
  soaked "$kind under $launch" "$rounds_of" "$wrong_rounds"
  check "$kind under $launch: $rounds_of rounds" test "$rounds_of" -eq "${REPEAT:-1}" -o "${MINUTES:-0}" -gt 0
done < <(awk '{ n[$1 " " $2]++; bad[$1 " " $2] += $3 } END { for (name in n) print name, n[name], bad[name] }' rounds)
soaked "saves after the warning" "$(wc -l <milliseconds)" 0 slowest_milliseconds="${slowest:-0}" later_than_a_step_and_2_seconds="$late"
finish
