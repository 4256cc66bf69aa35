# shellcheck shell=bash
# Sourced by the jobs: how ranks are started, and what happens at the end of a job's time.
#
# LAUNCH   mpirun (default) or "srun --mpi=pmix". Never plain srun: its ranks would not know of each other, and Convoy
#          refuses it.
# LAUNCH_OPTIONS   added to it, such as where ranks are placed

# launch RANKS COMMAND...: the command on so many ranks. Where one of them dies, all end.
launch() {
  local ranks=$1 command=()
  shift
  case ${LAUNCH:=mpirun} in
    mpirun*) read -ra command <<<"$LAUNCH -np $ranks ${LAUNCH_OPTIONS-}" ;;
    *--mpi=pmix*) read -ra command <<<"$LAUNCH --kill-on-bad-exit=1 --ntasks=$ranks ${LAUNCH_OPTIONS-}" ;;
    *) echo "LAUNCH is '$LAUNCH': give mpirun or \"srun --mpi=pmix\"" >&2; return 2 ;;
  esac
  exec "${command[@]}" "$@"  # the caller's subshell becomes the launcher: signals reach it
}

# run_or_requeue COMMAND...: runs it to its end. Slurm warns this shell alone (#SBATCH --signal=B:USR2@120): USR2 is
# handed on to the launcher, which hands it to the ranks; they save after the current step and end with status 75, and
# the job is put into the queue again. Never TERM: srun then kills the ranks at once, mpirun after a second.
run_or_requeue() {
  local pid="" status warned=""
  trap 'warned=1; [[ -z $pid ]] || kill -USR2 "$pid" 2>/dev/null' USR2
  "$@" &
  pid=$!
  [[ -z $warned ]] || kill -USR2 "$pid" 2>/dev/null
  wait "$pid"
  status=$?
  while kill -0 "$pid" 2>/dev/null; do  # a signal cuts wait short
    wait "$pid"
    status=$?
  done
  trap '' USR2
  # 128 + USR2: the warning came before the ranks listened to it, and ended them. The last checkpoint stands.
  if [[ -n $warned && $status -eq 140 ]]; then status=75; fi
  if [[ $status -eq 75 && -n ${SLURM_JOB_ID-} && ${SLURM_RESTART_COUNT:-0} -lt ${MAX_REQUEUES:-100} ]]; then
    echo "saved; requeueing job $SLURM_JOB_ID (start $((${SLURM_RESTART_COUNT:-0} + 2)) follows)"
    scontrol requeue "$SLURM_JOB_ID" && sleep 120  # Slurm ends this shell
  fi
  return "$status"
}

# load_modules "NAME...": where the machine has modules.
load_modules() {
  local modules
  read -ra modules <<<"$1"
  [[ ${#modules[@]} -gt 0 ]] && command -v module >/dev/null || return 0
  module load "${modules[@]}" || { echo "module load $1 failed; jobs/check_site.sh lists what is there" >&2; exit 2; }
}
