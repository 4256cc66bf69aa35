#!/usr/bin/env bash
# The jobs that need no Slurm: schemes across numbers of workers to one table, scaling, a machine without Slurm, the check
# of a site. tests/test_slurm.sh has the others.   CONVOY=build-cpu/convoy
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/command_checks.sh
source "$here/command_checks.sh"
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
export CONVOY=$convoy MODULES="" THREADS=1 LAUNCH_OPTIONS=""
ln -s "$here/../jobs" jobs
cat >small.net <<'NET'
input 16x16x3
conv 8 3x3 pad 1
relu
fc 10
NET
train=(--model small.net --data synthetic:16x16x3:10 --batch-size 16)
job() {  # job STATUS COMMAND...: its output in `out` and `err`
  local want=$1 status
  shift
  "$@" >out 2>err </dev/null
  status=$?
  if [[ $status -eq $want ]]; then ok; else wrong "$* -> $status"; cat out err; fi
}
said() { if grep -qE "$1" out err; then ok; else wrong "not said: $1"; cat out err; fi; }

job 0 bash jobs/check_site.sh
said '^kernels +(plain|avx2|avx512) '
said '^missing '
OUT=alone job 0 bash jobs/ghc.sh "${train[@]}" --steps 3
OUT=alone job 0 bash jobs/ghc.sh "${train[@]}" --steps 5
said '^resumed alone/'
LAUNCH=srun RANKS=2 OUT=never job 2 bash jobs/ghc.sh "${train[@]}" --steps 3
said 'give mpirun or'
job 2 bash jobs/collect_schemes.sh

# A warning that comes before the ranks have begun to listen ends them: the job is put into the queue again all the same.
mkdir bin
printf '#!/usr/bin/env bash\necho "scontrol $*"; exit 1\n' >bin/scontrol  # fails: no Slurm ends this shell
chmod +x bin/scontrol
# shellcheck disable=SC2016  # for the shell of the job
PATH=$PWD/bin:$PATH SLURM_JOB_ID=7 bash -c 'source jobs/launch.sh; run_or_requeue sleep 300' >out 2>err </dev/null &
pid=$!
until_ok 60 pgrep -P "$pid" -x sleep
kill -USR2 "$pid"
wait "$pid"
check "a warning that came early: status $?" test $? -eq 75
said '^scontrol requeue 7$'
if command -v mpirun >/dev/null && "$convoy" info | grep -q '^MPI.*Open MPI'; then
  RANKS=2 OUT=ranks job 0 bash jobs/ghc.sh "${train[@]}" --steps 3
  said '2 workers'
  COUNTS="1 2" BATCH=16 STEPS=5 OUT=scaling job 0 bash jobs/scaling.sbatch --model small.net --data synthetic:16x16x3:10
  check "not four rows of figures" test "$(grep -cE '^(strong|weak) +[12] +(16|32) +[0-9.]+ +[0-9.]+%$' scaling/scaling.txt)" -eq 4
  COUNTS="1 2" BATCH=16 STEPS=5 OUT=other job 1 bash jobs/scaling.sbatch --model nowhere.net --data shapes
  said 'nowhere.net'
  if "$convoy" --help | grep -q '^  bench-schemes'; then
    for task in 0 1; do
      COUNTS="2 3" SLURM_ARRAY_TASK_ID=$task job 0 bash jobs/schemes_array.sbatch small.net --batch-size 16 --steps 2
    done
    job 0 bash jobs/collect_schemes.sh
    check "not the rows of both tasks" test "$(awk '$1 == "hybrid" || $1 == "model" { print $3 }' runs/schemes/schemes.txt | sort | uniq -c | tr -s ' \n' ' ')" = " 6 2 6 3 "
    check "one worker stands there more than once" test "$(grep -c '^ *one worker' runs/schemes/schemes.txt)" -eq 1
  fi
fi
finish
