#!/usr/bin/env bash
# A checkpoint of any number of workers, mode, scheme and transport goes on in any other as if nothing had happened; in
# the same with the same bits.   CONVOY=build-cpu/convoy
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/command_checks.sh
source "$here/command_checks.sh"

# 60 images in batches of 19 make epochs of 4 steps, the last one of 3 rows: fewer than 8 workers. The stop is before it.
python3 "$here/make_images.py" images
cat >small.net <<'NET'
input 12x12x3
conv 8 3x3 pad 1 nobias
bn
relu
maxpool 2
dropout 0.25
fc 16
relu
dropout 0.5
fc 3
NET
declare -A optimizer=([sgd]="--lr 0.02" [adamw]="--optimizer adamw --lr 0.002")
declare -A mode=(
  [data]="--parallel data" [model]="--parallel model" [a]="--parallel hybrid --scheme a"
  [b]="--parallel hybrid --scheme b" [c]="--parallel hybrid --scheme c" [b5]="--parallel hybrid --scheme b --fc-batch-size 5"
  [c_each_pass]="--parallel hybrid --scheme c --fc-update pass")
common="--model small.net --data images --image-size 12 --batch-size 19 --threads 1 --augment standard --log-every 1"

# train OUT OPTIONS...: a run, its last lines shown if it fails. LAUNCH: what starts it (mpirun).
train() {
  local out=$1
  shift
  # shellcheck disable=SC2086
  if ${LAUNCH:-} "$convoy" train $common --out "$out" "$@" >"$out.out" 2>"$out.err" </dev/null; then ok
  else wrong "train $*"; tail -n 5 "$out.err"; fi
}
# run OPTIMIZER WORKERS MODE: six steps, with a checkpoint after the third; made once. Sets `dir`.
run() {
  dir=$1-$2-$3
  # shellcheck disable=SC2086
  [[ -d $dir ]] || train "$dir" ${optimizer[$1]} --workers "$2" ${mode[$3]} --steps 6 --checkpoint-every 3
}
# close RUN WANTED: the losses of steps 4, 5, 6 are those of another run but for rounding.
# shellcheck disable=SC2317  # called through check
close() {
  python3 - "$1" "$2" <<'PY'
import json, sys
def losses(run):
    lines = [json.loads(line) for line in open(run + "/metrics.jsonl")]
    return {x["step"]: x["loss"] for x in lines if x["event"] == "step"}
seen, wanted = map(losses, sys.argv[1:])
for step in (4, 5, 6):
    if not abs(seen[step] - wanted[step]) <= 1e-5 * abs(wanted[step]):
        sys.exit(f"step {step}: loss {seen[step]}, wanted {wanted[step]}")
PY
}
# same_tensors A B: all tensors of two checkpoints, whatever was noted beside them.
# shellcheck disable=SC2317
same_tensors() {
  python3 - "$1" "$2" <<'PY'
import json, struct, sys
def tensors(name):
    data = open(name, "rb").read()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + size])
    header.pop("__metadata__")
    return header, data[8 + size:]
sys.exit(tensors(sys.argv[1]) != tensors(sys.argv[2]))
PY
}

# Any to any other
python3 - >pairs <<'PY'
import random
dice = random.Random(5)
modes = [(k, m) for k in (1, 2, 3, 4, 8) for m in ("data", "model", "a", "b", "c", "b5")]
for i in range(20):
    one, other = dice.sample(modes, 2)
    print("sgd" if i % 2 else "adamw", *one, *other)
PY
check "not 20 pairs" test "$(sort -u pairs | wc -l)" -eq 20
while read -r kind from_workers from_mode to_workers to_mode; do
  run "$kind" 1 data
  alone=$dir
  run "$kind" "$from_workers" "$from_mode"
  out=resumed-$kind-$from_workers-$from_mode-$to_workers-$to_mode
  # shellcheck disable=SC2086
  train "$out" ${optimizer[$kind]} --resume "$dir/checkpoint-3.safetensors" --workers "$to_workers" ${mode[$to_mode]} --steps 6
  check "$out is not the run of one worker" close "$out" "$alone"
done <pairs

# The same again
for now in "sgd 1 data" "sgd 3 data" "adamw 2 a" "sgd 4 b" "adamw 3 c" "sgd 8 b5" "adamw 3 model" "adamw 3 c_each_pass"; do
  read -r kind workers name <<<"$now"
  run "$kind" "$workers" "$name"
  # shellcheck disable=SC2086
  train "again-$dir" ${optimizer[$kind]} --resume "$dir/checkpoint-3.safetensors" --workers "$workers" ${mode[$name]} \
    --steps 6 --checkpoint-every 3
  check "$dir: other bits after a stop" cmp "$dir/checkpoint-6.safetensors" "again-$dir/checkpoint-6.safetensors"
done
if cmp -s sgd-1-data/checkpoint-6.safetensors sgd-3-data/checkpoint-6.safetensors; then wrong "cmp sees no difference"; else ok; fi

# Threads to processes and back, which add up in the same order
if ! command -v mpirun >/dev/null; then
  echo "left out: processes; there is no mpirun"
  finish
fi
[[ $(id -u) -ne 0 ]] || export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_rmaps_base_oversubscribe=1
for name in data c; do
  run adamw 3 "$name"
  # shellcheck disable=SC2086
  LAUNCH="timeout 60 mpirun -np 3" train "ranks-$name" ${optimizer[adamw]} --resume "$dir/checkpoint-3.safetensors" \
    --workers 3 ${mode[$name]} --steps 6 --checkpoint-every 3
  check "$name: processes have other bits than threads" \
    same_tensors "$dir/checkpoint-6.safetensors" "ranks-$name/checkpoint-6.safetensors"
done
# shellcheck disable=SC2086
train from-ranks ${optimizer[adamw]} --resume ranks-c/checkpoint-6.safetensors --workers 2 ${mode[b]} --steps 8
# shellcheck disable=SC2086
LAUNCH="timeout 60 mpirun -np 2" train to-ranks ${optimizer[adamw]} --resume adamw-1-data/checkpoint-3.safetensors \
  --workers 2 ${mode[model]} --steps 6
check "to-ranks is not the run of one worker" close to-ranks adamw-1-data
finish
