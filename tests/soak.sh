#!/usr/bin/env bash
# What CI has no time for: each campaign is a test with more rounds. What they came to goes to a JSON file, where a campaign
# takes the place of its earlier result: several calls fill one file.
#   CONVOY=build-cpu/convoy bash tests/soak.sh [--json FILE] [CAMPAIGN...]      default: all
# MINUTES=N: kills and jobs end after that with what they have got.
# The last line is "N campaigns passed, N failed, N skipped".
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
: "${CONVOY:?the built program}"
export CONVOY_BUILD=${CONVOY_BUILD:-$(dirname "$(realpath "$CONVOY")")}
json=""
wanted=()
known=(kills save-faults two-jobs steady watchdog slurm slurm-time-limit)
while [[ $# -gt 0 ]]; do
  case $1 in
    --json) json=${2:?a file}; shift 2 ;;
    -h | --help) sed -n '2,6s/^# //p' "$0"; echo "campaigns: ${known[*]}"; exit 0 ;;
    *)
      [[ " ${known[*]} " == *" $1 "* ]] || { echo "unknown campaign $1 (${known[*]})" >&2; exit 2; }
      wanted+=("$1")
      shift
      ;;
  esac
done
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# record NAME STATUS SECONDS VARIABLES: what the log says, with commit and machine, into the file.
record() {
  python3 - "$json" "$log" "$("$CONVOY" info | sed -n 's/^commit *//p')" "$@" <<'PY'
import datetime, fcntl, json, os, platform, sys
file, log, commit, name, status, seconds, settings = sys.argv[1:8]
folder = os.open(os.path.dirname(os.path.abspath(file)), os.O_RDONLY)
fcntl.flock(folder, fcntl.LOCK_EX)  # campaigns may run side by side
result = json.load(open(file)) if os.path.exists(file) else {"bench": "soak", "campaigns": {}}
processor = next((line.split(": ", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), platform.machine())
system = next((line.split("=", 1)[1].strip().strip('"') for line in open("/etc/os-release") if line.startswith("PRETTY_NAME")), platform.system())
parts = [json.loads(line[6:]) for line in open(log, errors="replace") if line.startswith("soak: ")]
result["campaigns"][name] = {
    "settings": settings, "status": int(status), "seconds": int(seconds), "commit": commit,
    "ended": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    "machine": f"{os.cpu_count()} x {processor}, {system}", "results": parts}
with open(file + ".tmp", "w") as out:
    json.dump(result, out, indent=1)
    out.write("\n")
os.replace(file + ".tmp", file)
PY
}

passed=0 failed=0 skipped=0
# campaign NAME TEST [ARGUMENT] [VARIABLE=VALUE...]
campaign() {
  local name=$1 command=(bash "$here/$2") began=$SECONDS status
  shift 2
  [[ ${#wanted[@]} -eq 0 || " ${wanted[*]} " == *" $name "* ]] || return 0
  [[ $# -eq 0 || $1 == *=* ]] || { command+=("$1"); shift; }
  echo "== $name: $*"
  env "$@" "${command[@]}" </dev/null 2>&1 | tee "$log"
  status=${PIPESTATUS[0]}
  case $status in
    0) passed=$((passed + 1)) ;;
    77) skipped=$((skipped + 1)) ;;
    *) failed=$((failed + 1)) ;;
  esac
  echo "== $name: status $status after $((SECONDS - began)) s"
  [[ -z $json || $status -eq 77 ]] || record "$name" "$status" "$((SECONDS - began))" "$*"
}
campaign kills test_kills.sh KILLS=200 AT_ONCE=2 MINUTES="${MINUTES:-0}"  # of random ones of four MPI ranks and of mpirun
campaign save-faults test_save_faults.sh "$CONVOY_BUILD/tests/save_faults"  # at every system call of a save
campaign two-jobs test_two_jobs.sh ROUNDS=100                           # 2 to 8 jobs on one directory
campaign steady test_steady.sh STEPS=10000                              # a checkpoint every 50 steps
campaign watchdog test_watchdog.sh ROUNDS=3                             # each rank stopped in each kind of work
campaign slurm test_slurm.sh REPEAT=20 MINUTES="${MINUTES:-0}" SCENARIOS="warned requeued cancelled"  # under mpirun and under srun --mpi=pmix
campaign slurm-time-limit test_slurm.sh REPEAT=20 AT_ONCE=4 MINUTES="${MINUTES:-0}" SCENARIOS=out_of_time  # minutes, of sleep
echo "$passed campaigns passed, $failed failed, $skipped skipped"
[[ $failed -eq 0 && $((passed + skipped)) -gt 0 ]]
