#!/usr/bin/env bash
# Runs of several workers from the command line: the same run in every mode, what it leaves, what is refused.
# CONVOY=build-cpu/convoy
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/command_checks.sh
source "$here/command_checks.sh"
check_python() { if python3 -c "$1"; then ok; else wrong "$1"; fi; }

cat >small.net <<'NET'
input 12x12x3
conv 8 3x3 pad 1
relu
maxpool 2
fc 20
relu
dropout 0.25
fc 10
NET
run=(--model small.net --data synthetic:12x12x3:10 --batch-size 500 --steps 6 --lr 0.01 --threads 1 --log-every 1)
printed 'plain|avx2|avx512' train "${run[@]}" --out one
for mode in data 'hybrid --scheme a' 'hybrid --scheme b' 'hybrid --scheme c' 'hybrid --scheme c --fc-batch-size 70' model; do
  for workers in 2 3; do
    out="run-${mode// /_}-$workers"
    # shellcheck disable=SC2086  # the mode is several words
    printed "$workers workers" train "${run[@]}" --workers $workers --parallel $mode --out "$out"
    check_python "import json
a, b = ([json.loads(x) for x in open(f + '/metrics.jsonl')] for f in ('one', '$out'))
assert len(a) == len(b) == 7
for x, y in zip(a, b):
  name = 'loss' if x['event'] == 'step' else 'test_loss'
  assert abs(x[name] - y[name]) < 2e-6 * x[name], (x, y)
y = b[1]; kinds = ('row', 'column', 'gradient', 'other')
assert abs(y['step_seconds'] - y['compute_seconds'] - sum(y['exposed_%s_seconds' % k] for k in kinds)) < 1e-9, y
assert (y['row_bytes'] > 0) == ('$mode' != 'data') and (y['gradient_bytes'] > 0) == ('$mode' != 'model'), y
assert json.load(open('$out/summary.json'))['workers'] == $workers"
  done
done

# A checkpoint goes on with any number of workers and any mode.
printed 'resumed' train --resume run-hybrid_--scheme_b-3 --steps 8 --workers 2 --parallel model --out branch
printed 'resumed' train --resume run-model-2 --steps 8 --workers 1 --parallel data --out alone
check_python "import json
a, b = (json.load(open(f + '/summary.json')) for f in ('branch', 'alone'))
assert a['steps'] == b['steps'] == 8 and abs(a['train_loss'] - b['train_loss']) < 2e-6 * a['train_loss'], (a, b)"

# More workers than rows, than outputs
printed '8 workers' train "${run[@]/500/3}" --workers 8 --parallel hybrid --out many
printed 'averaged every 2' train "${run[@]}" --workers 2 --sync average --average-every 2 --average-init different --out apart
printed 'updated each pass' train "${run[@]}" --workers 2 --parallel hybrid --scheme b --fc-update pass --fc-lr 0.005 --out each
printed '3 workers' train "${run[@]}" --workers 3 --parallel hybrid --trace trace.json --out traced
check_python "import json
e = json.load(open('trace.json'))['traceEvents']
spans = [x for x in e if x['ph'] == 'X']
assert {(x['pid'], x['tid']) for x in spans} == {(p, t) for p in range(3) for t in range(2)}, spans[0]
assert any('gather rows' in x['name'] and x['args']['bytes'] > 0 for x in spans) and any('conv_forward' in x['name'] for x in spans)"
printed '2 workers' train "${run[@]}" --workers 2 --parallel hybrid --link-gbps 0.05 --link-us 20 --out slow
check_python "import json
waits = [[json.loads(x)['exposed_row_seconds'] for x in open(f + '/metrics.jsonl') if 'exposed_row' in x] for f in ('slow', 'run-hybrid_--scheme_c-2')]
assert min(waits[0]) > 1e-3, waits"

# What is wrong is said once, by one of them, and leaves nothing behind
refused 2 'nowhere' train --data nowhere --workers 3 --out none
refused 2 'No such file' train "${run[@]}" --workers 2 --init nowhere.safetensors --out none
refused 2 'holds a run' train "${run[@]}" --workers 2 --out one
refused 2 '--scheme has no meaning' train --workers 2 --scheme b
refused 2 '--fc-update pass has no meaning with --scheme a' train --workers 2 --parallel hybrid --scheme a --fc-update pass
refused 2 '--clip-norm' train --workers 2 --parallel hybrid --fc-update pass --clip-norm 1
refused 2 '--sync average' train --workers 2 --parallel model --sync average
refused 2 '--link-us' train --workers 2 --link-us 5
refused 2 '--workers' train --workers 2000
refused 1 'loss is not finite at step' train "${run[@]/0.01/1e9}" --workers 3 --parallel hybrid --out nan
printf 'input 8x8x1\na: conv 4 3x3 pad 1\nb: conv 4 3x3 pad 1 split outputs\nadd b a\nc: conv 4 3x3 pad 1\nadd c a\nfc 10\n' >two.net
printed '2 workers' train --model two.net --data synthetic:8x8x1:10 --workers 2 --parallel hybrid --steps 2 --out two
if [[ -e none ]]; then wrong "a refused run left its directory"; else ok; fi
finish
