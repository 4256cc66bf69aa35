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

# What was trained answers alike on both devices.
python3 "$here/make_images.py" images
for device in cpu cuda; do
  printed '"top1"' eval --checkpoint cuda --device $device --json
  mv out eval-$device
  printed 'probability' predict --checkpoint cuda --device $device --json images/val
  mv out predict-$device
done
for precision in tf32 bf16 f16; do
  printed '"top1"' eval --checkpoint cuda --device cuda --precision $precision --json
  mv out eval-$precision
done
check_python "import json
a, b = (json.load(open('eval-' + d)) for d in ('cpu', 'cuda'))
assert abs(a['loss'] - b['loss']) < 2e-6 * a['loss'] and a['confusion'] == b['confusion'], (a, b)
for precision in ('tf32', 'bf16', 'f16'):
  low = json.load(open('eval-' + precision))
  assert 0 < abs(a['loss'] - low['loss']) < 0.02 * a['loss'] and low['images'] == a['images'], (precision, a, low)
a, b = ([json.loads(x) for x in open('predict-' + d)] for d in ('cpu', 'cuda'))
assert len(a) == len(b) > 0
for x, y in zip(a, b):
  assert x['file'] == y['file']
  for p, q in zip(x['classes'], y['classes']): assert p['name'] == q['name'] and abs(p['probability'] - q['probability']) < 1e-5, (x, y)"
refused 2 'bf16: the CPU computes in f32' eval --checkpoint cuda --device cpu --precision bf16

# Waiting and computing by the device's clock, of a run's metrics and of every mode and scheme
check_python "import json
rows = [r for r in map(json.loads, open('two-hybrid_--scheme_c/metrics.jsonl')) if r['event'] == 'step']
for r in rows:
  waits = [r['exposed_%s_seconds' % k] for k in ('row', 'column', 'gradient', 'other')]
  assert min(waits) >= 0 and max(waits) > 0 and r['compute_seconds'] > 0, r
  assert r['compute_seconds'] + sum(waits) <= 1.01 * r['step_seconds'], r"
schemes=(bench-schemes --model small.net --batch-size 7 --steps 2 --device cuda)
printed '# rows that differ from one worker by more than rounding: 0' "${schemes[@]}" --workers 2 --transport local --json schemes.json
check_python "import json; t = json.load(open('schemes.json'))
assert t['facts']['exchange'] == 'local' and 'share' in t['facts']['device'], t['facts']
assert [(r['mode'], r['scheme'], r['workers']) for r in t['rows']] == [('one worker', '', 1), ('data', '', 2)] + [
  (m, s, 2) for m in ('hybrid', 'model') for s in 'ABC']
for r in t['rows']:
  waits = r['exposed_row_seconds'] + r['exposed_column_seconds'] + r['exposed_gradient_seconds']
  assert 0 <= r['wrong'] <= 1 and r['compute_seconds'] > 0 and r['compute_seconds'] + waits <= 1.01 * r['step_seconds'], r
  assert (waits > 0) == (r['workers'] > 1), r"
for precision in tf32 bf16; do
  printed 'more than rounding: 0' "${schemes[@]}" --precision $precision --modes hybrid --schemes c
done
refused 2 'plan: the model of a step' "${schemes[@]}" --plan
refused 2 'transport staged is for workers that are processes' "${schemes[@]}" --transport staged
refused 2 'link-gbps: the simulated link is for workers on the CPU' "${schemes[@]}" --link-gbps 1

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

# The benchmarks on tiny problems, with a peer that knows its times; one that fails costs no figure of ours.
bench=$(dirname "$convoy")/bench
if [[ ${CONVOY_BENCHES:-yes} == yes && -x $bench/bench_ops && -x $bench/bench_step ]]; then
  cat >peer.py <<'PY'
import json, sys
options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
problems = json.load(open(options["--problems"]))
rows = [dict(net=p["net"], layer=p["layer"], seconds=1.0, **{"pass": name}) for p in problems for name in ("fwd", "bwd-weights")]
json.dump(dict(name="a fake", rows=rows), open(options["--json"], "w"))
PY
  ops=("$bench/bench_ops" --device cuda --net small.net --batch 2 --seconds 0.001)
  for precision in f32 tf32 bf16 f16; do
    check "bench_ops, $precision" "${ops[@]}" --precision $precision --json ops.json --peer python3 --peer-script peer.py >out 2>err
    check_python "import json; t = json.load(open('ops.json')); rows = t['rows']
assert t['precision'] == '$precision' and t['peer'] == 'a fake' and t['peak_tflops'] > 0 and t['bytes_per_second'] > 0
assert [(r['layer'], r['pass']) for r in rows] == [(l, p) for l in ('conv1', 'fc1', 'fc2') for p in ('fwd', 'bwd-data', 'bwd-weights')
  if (l, p) != ('conv1', 'bwd-data')], rows
for r in rows:
  assert r['wrong'] == 0 and r['seconds'] > 0 and r['floor_seconds'] > 0 and r['bound'] in ('compute', 'memory'), r
  assert ('ratio_to_peer' in r) == (r['pass'] != 'bwd-data'), r
fc = rows[-3]
assert fc['flop'] == 2 * 2 * 20 * 10 and fc['bytes'] == (2 * 20 + 20 * 10 + 2 * 10) * (4 if '32' in '$precision' else 2) + 40, fc"
  done
  check "bench_ops with a peer that fails" "${ops[@]}" --peer false >out 2>err
  check "it is said" grep -q 'the peer false: no times' err
  check "bench_step" "$bench/bench_step" --device cuda --net small.net --batch 4 --rounds 1 --seconds 0.01 --json step.json \
    --peer false >out 2>err
  check_python "import json; rows = json.load(open('step.json'))['rows']
assert len(rows) == 1 and rows[0]['images_per_second'] > 0 and 'peer' not in rows[0], rows"
  check "the peer's failure is said" grep -q 'the peer ended with status' err
  check "gpu_check.sh" bash "$here/../bench/gpu_check.sh" --build "$(dirname "$convoy")" --only info,ops,step,schemes --small --out check >out 2>err
  check_python "import json; rows = json.load(open('check/gpu_check.json'))['rows']
assert [(r['stage'], r['result']) for r in rows] == [(s, 'passed') for s in ('info', 'ops', 'step', 'schemes')], rows"
  # A stage without time is said, and the others are there.
  check "gpu_check.sh without time" bash "$here/../bench/gpu_check.sh" --build "$(dirname "$convoy")" --only info,ops --small --out late --seconds 1 >out 2>err
  check_python "import json; rows = json.load(open('late/gpu_check.json'))['rows']
assert [(r['stage'], r['result']) for r in rows] == [('info', 'passed'), ('ops', 'unsupported')], rows"
fi
finish
