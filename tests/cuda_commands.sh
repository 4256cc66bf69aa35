#!/usr/bin/env bash
# The command line on a CUDA device, emulated or real: runs, resumes, several workers, what is refused.
# CONVOY=build-emulated/convoy bash tests/cuda_commands.sh
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/command_checks.sh
source "$here/command_checks.sh"
check_python() { if python3 -c "$1"; then ok; else wrong "$1"; fi; }

cat >small.net <<'NET'
input 5x5x3
conv 4 3x3 pad 1
relu
maxpool 2
fc 20
relu
dropout 0.25
fc 10
NET
printed '^CUDA devices +[1-9]' info
run=(--model small.net --data synthetic:5x5x3:10 --batch-size 100 --steps 6 --lr 0.01 --threads 1 --log-every 1)
printed 'test accuracy' train "${run[@]}" --device cpu --out cpu
printed 'test accuracy' train "${run[@]}" --device cuda --workers 1 --out cuda
check_python "import json
a, b = ([json.loads(x) for x in open(f + '/metrics.jsonl')] for f in ('cpu', 'cuda'))
for x, y in zip(a, b):
  name = 'loss' if x['event'] == 'step' else 'test_loss'
  assert abs(x[name] - y[name]) < 2e-6 * x[name], (x, y)
assert json.load(open('cuda/summary.json'))['device'] == 'cuda'"
for mode in data 'hybrid --scheme a' 'hybrid --scheme b' 'hybrid --scheme c' model; do
  # shellcheck disable=SC2086  # the mode is several words
  printed '2 workers' train "${run[@]}" --device cuda --workers 2 --transport local --parallel $mode --out "two-${mode// /_}"
  check_python "import json
a, b = (json.load(open(f + '/summary.json')) for f in ('cuda', 'two-${mode// /_}'))
assert abs(a['train_loss'] - b['train_loss']) < 2e-6 * a['train_loss'], (a['train_loss'], b['train_loss'])"
done

# A checkpoint goes on where it was made, bit for bit, and on the other device.
printed 'test accuracy' train "${run[@]/6/9}" --device cuda --workers 1 --out long
printed 'resumed' train --resume cuda --steps 9 --device cuda --workers 1 --out same
printed 'resumed' train --resume cuda --steps 9 --device cpu --out other
check "other weights than without a stop" cmp -s <(tail -c 4000 long/checkpoint-9.safetensors) <(tail -c 4000 same/checkpoint-9.safetensors)
check_python "import json
a, b = (json.load(open(f + '/summary.json')) for f in ('long', 'other'))
assert abs(a['train_loss'] - b['train_loss']) < 2e-6 * a['train_loss'], (a, b)"
for precision in bf16 f16; do
  printed 'test accuracy' train "${run[@]}" --device cuda --workers 1 --precision $precision --out $precision
  check_python "import json
a, b = (json.load(open(f + '/summary.json')) for f in ('cuda', '$precision'))
assert 0 < abs(a['train_loss'] - b['train_loss']) < 0.02 * a['train_loss'], (a['train_loss'], b['train_loss'])"
  printed 'resumed' train --resume $precision --steps 8 --device cuda --workers 1 --out $precision-on
done
printed 'test accuracy' train "${run[@]}" --device cuda --workers 1 --no-graph --out plain
check "other weights than recorded" cmp -s <(tail -c 4000 plain/checkpoint-6.safetensors) <(tail -c 4000 cuda/checkpoint-6.safetensors)

# The profiling job, with a profiler that only notes how it was called
mkdir bin
cat >bin/nsys <<'SH'
#!/usr/bin/env bash
echo "$*" >nsys.called
while [[ $1 != */convoy ]]; do shift; done
exec "$@"
SH
chmod +x bin/nsys
ln -s "$here/../jobs" jobs
check "the profiling job" env PATH="$PWD/bin:$PATH" CONVOY="$convoy" MODULES="" STEPS=2:4 OUT=profiled bash jobs/profile.sbatch \
  "${run[@]:0:6}" --lr 0.01
check "the profiler was called in another way" grep -q 'cudaProfilerApi.*--output profiled-nsys .*--profile-steps 2:4 --steps 4' nsys.called
if ! TOOL=perf MODULES="" bash jobs/profile.sbatch 2>err && grep -q "give nsys, ncu or nvprof" err; then ok; else wrong "an unknown profiler is taken"; fi
refused 2 'profile-steps .4:4.: expected two steps' train "${run[@]}" --device cuda --workers 1 --profile-steps 4:4 --out no
refused 2 'profile-steps: for --device cuda' train "${run[@]}" --device cpu --profile-steps 2:4 --out no

refused 2 'bf16: the CPU computes in f32' train "${run[@]}" --device cpu --precision bf16 --out no
refused 2 'link-gbps: the simulated link is for workers on the CPU' train "${run[@]}" --device cuda --workers 2 --link-gbps 1 --out no
refused 2 'transport staged is for workers that are processes' train "${run[@]}" --device cuda --workers 2 --transport staged --out no
refused 2 'transport nccl' train "${run[@]}" --device cuda --workers 99 --transport nccl --out no
if command -v mpirun >/dev/null && "$convoy" info | grep -q '^MPI.*Open MPI'; then
  export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
  ranks() { mpirun --oversubscribe -np 2 "$convoy" train "${run[@]}" --device cuda "$@" >out 2>err </dev/null; }
  check "ranks over MPI, through the host's memory" ranks --transport staged --parallel hybrid --out staged
  check_python "import json
a, b = (json.load(open(f + '/summary.json')) for f in ('cuda', 'staged'))
assert abs(a['train_loss'] - b['train_loss']) < 2e-6 * a['train_loss'], (a['train_loss'], b['train_loss'])"
  if ! ranks --transport local --out no && grep -q 'transport local is for workers that are threads' err; then ok
  else wrong "ranks share devices as threads do"; cat err; fi
fi
check "a refused run left a directory" test ! -e no
finish
