#!/usr/bin/env bash
# Ten thousand steps with a checkpoint every 50: descriptors and memory stay as they are, nothing is left.
#   CONVOY=build-cpu/convoy STEPS=10000
# shellcheck disable=SC2317  # functions that are called by their names
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/command_checks.sh
source "$here/command_checks.sh"
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
steps=${STEPS:-10000}
out=$work/runs
if [[ -w /dev/shm ]]; then  # syncs cost nothing there
  out=$(mktemp -d /dev/shm/convoy-steady-XXXXXX)
  trap 'rm -rf "$work" "$out"' EXIT
fi
mkdir "$work/shm"
export OMPI_MCA_btl_vader_backing_directory=$work/shm
cat >small.net <<'NET'
input 8x8x1
conv 4 3x3 pad 1
relu
fc 10
NET
run=(--model small.net --data synthetic:8x8x1:10 --threads 1 --steps "$steps" --checkpoint-every 50 --log-every 50)

# watch DIR LAUNCHER: descriptors and private memory of every process of the run, in its second and in its last fifth.
# Status 3: on a busy machine the run was over too soon to be seen in both.
watch() {
  python3 - "$@" "$steps" <<'PY'
import json, os, sys, time
run, launcher, steps = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
seen = {}  # pid -> window -> (fewest descriptors, most memory in KiB, samples)
def of_run(pid):
    try:
        words = open(f"/proc/{pid}/cmdline", "rb").read().decode().split("\0")
        return os.path.basename(words[0]) == "convoy" and run in words
    except OSError:
        return False
def step():
    try:
        with open(f"{run}/metrics.jsonl", "rb") as file:
            file.seek(max(0, os.stat(file.fileno()).st_size - 4096))
            lines = [line for line in file.read().split(b"\n")[:-1] if line.startswith(b"{")]
        return json.loads(lines[-1])["step"] if lines else 0
    except (OSError, ValueError):
        return 0
while os.path.exists(f"/proc/{launcher}"):
    now = step()
    window = "first" if steps // 5 <= now < 2 * steps // 5 else "last" if now >= 4 * steps // 5 else None
    if window is None:
        time.sleep(0.005)
        continue
    for pid in filter(str.isdigit, os.listdir("/proc")):
        if pid not in seen and not of_run(pid): continue
        try:
            descriptors = len(os.listdir(f"/proc/{pid}/fd"))
            memory = [int(line.split()[1]) for line in open(f"/proc/{pid}/status") if line.startswith(("RssAnon", "RssShmem"))]
        except OSError: continue
        if not memory: continue
        fewest, most, samples = seen.setdefault(pid, {}).get(window, (10**9, 0, 0))
        seen[pid][window] = (min(fewest, descriptors), max(most, sum(memory)), samples + 1)
    time.sleep(0.005)
whole = {pid: w for pid, w in seen.items() if "first" in w and "last" in w}
for pid, w in whole.items():
    print(f"process {pid}: descriptors {w['first'][0]} then {w['last'][0]}, private memory {w['first'][1]} then {w['last'][1]} KiB, "
          f"{w['first'][2]} and {w['last'][2]} samples")
# What the allocator keeps may move by some pages.
wrong = [pid for pid, w in whole.items() if w["last"][0] > w["first"][0] or w["last"][1] > w["first"][1] + 512]
print("grew:", wrong or "none")
sys.exit(3 if not whole else bool(wrong))
PY
}
# steady NAME BATCH COMMAND...: this many steps, watched; the batch is what makes them last
steady() {
  local name=$1 batch=$2 pid seen status try
  shift 2
  for ((try = 0; try < 10; ++try)); do
    rm -rf "${out:?}/$name"
    "$@" train "${run[@]}" --batch-size "$batch" --out "$out/$name" >"$name.out" 2>"$name.err" </dev/null &
    pid=$!
    watch "$out/$name" "$pid"
    seen=$?
    wait "$pid"
    status=$?
    [[ $seen -eq 3 && $status -eq 0 ]] || break
  done
  check "$name: descriptors or memory grew, or were not seen" test "$seen" -eq 0
  check "$name: status $status, $(cat "$name.err")" test "$status" -eq 0
  check "$name: not the checkpoints that are kept" test "$(find "$out/$name" -name 'checkpoint-*' | wc -l)" -eq 3
  check "$name: something is left" only_run_files "$out/$name"
  runs=$((runs + 1))
}
runs=0
steady alone 256 "$convoy"
run+=(--parallel hybrid)
run=("${run[@]}")
workers() { "$convoy" "$@" --workers 2; }
steady threads 64 workers
if command -v mpirun >/dev/null && "$convoy" info | grep -q '^MPI.*Open MPI'; then
  steady ranks 16 mpirun -np 2 "$convoy"
  check "left in shared memory: $(ls "$work/shm")" test -z "$(ls "$work/shm")"
fi
soaked steady "$runs" "$bad" steps="$steps" checkpoint_every=50
finish
