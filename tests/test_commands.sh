#!/usr/bin/env bash
# train, eval and predict of the built program on generated image files.   CONVOY=build-cpu/convoy
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/command_checks.sh
source "$here/command_checks.sh"
# json SCRIPT: python3 on the last command's stdout, parsed line by line into `lines`.
json() { check_python "import json; lines = [json.loads(x) for x in open('out')]; $1"; }
check_python() { if python3 -c "$1"; then ok; else wrong "$1"; fi; }
absent() { if [[ ! -e $1 ]]; then ok; else wrong "$1 was left behind"; fi; }

python3 "$here/make_images.py" images
cat >small.net <<'NET'
input 12x12x3
conv 8 3x3 pad 1
relu
maxpool 2
fc 3
NET
cat >gray.net <<'NET'
input 28x28x1
fc 10
NET
data=(--data images --image-size 12)
run=(--model small.net "${data[@]}" --batch-size 16 --threads 2)

# Training on a folder, and what it says at the end
printed 'on images: 60 training and 21 test images' train "${run[@]}" --epochs 8 --lr 0.02 --out run
check "no last figures" grep -qE '^test accuracy [0-9.]+ % \(best [0-9.]+ %\), [0-9]+ images/s' out
tail -3 out | sed 's/^  //' >next
check "not three commands to try next" test "$(grep -cF "$convoy" next)" -eq 3
while read -r command; do  # as they are: they are meant to be copied
  if bash -c "$command" >out 2>err </dev/null; then ok; else wrong "$command"; cat err; fi
done < <(sed 's/--model resnet18/--model mlp/' next)
check_python 'import json; m = [json.loads(x) for x in open("run/metrics.jsonl")]; s = json.load(open("run/summary.json"))
assert [x["epoch"] for x in m if x["event"] == "epoch"] == list(range(8)) and s["test_accuracy"] > 0.9, s'

# eval
printed '^loss [0-9.]+, top-1 [0-9.]+ %, top-5 100.00 %$' eval --checkpoint run
printed '^ +green +[0-9]+ +[0-9]+ +[0-9]+$' eval --checkpoint run
printed . eval --checkpoint run --json
json 'e = lines[0]; m = e["confusion"]; n = sum(map(sum, m)); right = sum(m[i][i] for i in range(3))
assert len(lines) == 1 and n == e["images"] == 21 and e["top1"] == right / n and e["top5"] == 1 and e["step"] == 32, e
assert [sum(row) for row in m] == [7, 7, 7] and e["classes"] == ["blue", "green", "red"], e
s = json.load(open("run/summary.json")); assert s["test_accuracy"] == e["top1"] and abs(s["test_loss"] - e["loss"]) < 1e-6 * e["loss"], s'
cp out first
printed . eval --checkpoint run --json --threads 1
if cmp -s out first; then ok; else wrong "eval with another number of threads"; fi
printed . eval --checkpoint run --json --batch-size 1000000
json 'assert lines[0]["confusion"] == json.load(open("first"))["confusion"]'
printed 'best.safetensors' eval --checkpoint run/best.safetensors
refused 2 'images are 16x16x3, the net takes 12x12x3' eval --checkpoint run --image-size 16
refused 2 'images are 32x32x3, the net takes 12x12x3' eval --checkpoint run --data shapes
refused 2 'has 4 classes, the net 3' eval --checkpoint run --data synthetic:12x12x3:4
refused 2 '--data nowhere' eval --checkpoint run --data nowhere
refused 2 '--checkpoint nowhere: [Nn]o such file' eval --checkpoint nowhere
mkdir empty
refused 2 '--checkpoint empty: holds no checkpoint' eval --checkpoint empty
refused 2 'images/text.png' eval --checkpoint images/text.png
refused 2 'images/text.png' predict --checkpoint images/text.png images

# predict
printed '^images/rgb.png: red [0-9.]+ %, ' predict --checkpoint run images/rgb.png
printed 'gray.png: ' predict --checkpoint run images/gray.png
printed . predict --checkpoint run --json --top 2 images/rgb.png images/val/red images/val/blue/0.png
json 'assert len(lines) == 9 and [x["file"] for x in lines][:2] == ["images/rgb.png", "images/val/red/0.png"], lines
for x in lines: p = [c["probability"] for c in x["classes"]]; assert len(p) == 2 and 1 >= p[0] >= p[1] >= 0 and sum(p) <= 1.000001, x
assert lines[0]["classes"][0]["name"] == "red" and lines[0]["classes"][0]["index"] == 2, lines[0]'
printed . predict --checkpoint run --json images/val
json 'assert len(lines) == 21 and all(abs(sum(c["probability"] for c in x["classes"]) - 1) < 1e-9 for x in lines)
e = json.load(open("first")); right = sum(x["file"].split("/")[2] == x["classes"][0]["name"] for x in lines); assert right / 21 == e["top1"], right'
for file in text.png cut.png empty.jpg missing.png; do refused 2 "images/$file: " predict --checkpoint run "images/$file"; done
refused 2 'empty: the folder holds no' predict --checkpoint run empty
if [[ $(id -u) -ne 0 ]]; then
  chmod 000 images/gray.png
  refused 2 'images/gray.png: .*[Pp]ermission denied' predict --checkpoint run images/gray.png
  chmod 644 images/gray.png
fi
if command -v setpriv >/dev/null && [[ $(id -u) -eq 0 ]]; then
  cp -r images closed && cp -r run closed/run && chmod 000 closed/gray.png && chmod 755 . closed
  setpriv --reuid 65534 --clear-groups "$convoy" predict --checkpoint closed/run closed/gray.png >out 2>err
  if [[ $? -eq 2 && $(wc -l <err) -eq 1 ]] && grep -q 'closed/gray.png: .*Permission denied' err; then ok
  else wrong "predict without permission"; cat err; fi
fi

# A net of gray images takes colour ones, and the reverse was above
printed . train --model gray.net --data synthetic:28x28x1:10 --steps 2 --out gray
printed 'rgb.png: class_[0-9]' predict --checkpoint gray images/rgb.png

# Options that name one epoch's data, given, kept in the checkpoint, and taken over by eval and --resume
printed . train "${run[@]}" --steps 6 --mean 0.5,0.25,0.125 --std 0.5 --out norm
check "--mean is not in config.toml" grep -q "^mean = .0.5,0.25,0.125.$" norm/config.toml
printed . eval --checkpoint norm --json
json 's = json.load(open("norm/summary.json")); assert abs(s["test_loss"] - lines[0]["loss"]) < 1e-6, lines'
check_python 'import json, struct
content = open("norm/checkpoint-6.safetensors", "rb").read()
meta = json.loads(content[8:8 + struct.unpack("<Q", content[:8])[0]])["__metadata__"]
numbers = lambda name: [float.fromhex(x) for x in meta[name].split()]
assert numbers("convoy.mean") == [0.5, 0.25, 0.125] and numbers("convoy.stddev") == [0.5] * 3, meta'
printed 'step 6' train --resume norm --steps 8
refused 2 'normalised in another way; give its --mean 0.5,0.25,0.125 and --std 0.5,0.5,0.5' train --resume norm --steps 9 --mean 0.5
for value in nan -0.1 1.5 x '0.5,' '0.5,,0.5' inf; do refused 2 "--mean '$value': expected" train "${run[@]}" --mean="$value" --out no; done
for value in 0 nan -1 1e-9 2 '0.5,0,0.5' x; do refused 2 "--std '$value': expected" train "${run[@]}" --std="$value" --out no; done
refused 2 '--mean has 2 numbers, the images have 3 channels' train "${run[@]}" --mean 0.5,0.5 --out no
absent no

# Weights under PyTorch's names; fine-tuning with another number of classes
fixture=$here/fixtures/state_dict_f32.safetensors
cat >torch.net <<'NET'
input 4x6x3
features.0: conv 4 3x3 pad 1 nobias
features.1: bn
relu
maxpool 2
classifier.0: fc 7
relu
classifier.2: fc 5
NET
printed 'epoch 1/1' train --model torch.net --data synthetic:4x6x3:5 --init "$fixture" --steps 1 --lr 0 --out torch
check_python "import json, struct
def tensors(path):
    content = open(path, 'rb').read()
    start = 8 + struct.unpack('<Q', content[:8])[0]
    return {k: content[start + v['data_offsets'][0]:start + v['data_offsets'][1]] for k, v in json.loads(content[8:start]).items() if k != '__metadata__'}
ours, theirs = tensors('torch/checkpoint-1.safetensors'), tensors('$fixture')
learned = [name for name in theirs if name.endswith(('weight', 'bias'))]
assert len(learned) == 7 and all(ours[name] == theirs[name] for name in learned), learned"
printed 'another number of classes: the last layer keeps its random weights' train --model torch.net \
  --data synthetic:4x6x3:9 --init "$fixture" --steps 1 --out nine
refused 2 'state_dict_f32.safetensors: ' train "${run[@]}" --init "$fixture" --steps 1 --out no
refused 2 'state_dict_f32.safetensors: another program wrote it.*--init' eval --checkpoint "$fixture"
mkdir -p two/train two/val
for part in train val; do cp -r images/$part/red images/$part/blue two/$part/; done
printed 'another number of classes: the last layer keeps its random weights' train --model small.net --data two \
  --image-size 12 --init run/best.safetensors --epochs 1 --batch-size 8 --out fine
printed '"classes":\["blue","red"\]' eval --checkpoint fine --json
printed 'another number of classes' train --model small.net --data two --image-size 12 --init run/best.safetensors --epochs 1 \
  --out job --resume auto
printed '^resumed job/checkpoint-1.safetensors' train --model small.net --data two --image-size 12 \
  --init run/best.safetensors --epochs 2 --out job --resume auto
refused 2 '--init and --resume contradict each other' train --init run/best.safetensors --resume job
refused 2 'nowhere.safetensors' train "${run[@]}" --init nowhere.safetensors --out no
sed 's/conv 8/conv 9/' small.net >other.net
refused 2 'run/best.safetensors: ' train --model other.net "${data[@]}" --init run/best.safetensors --out no
absent no

# --resume auto, a checkpoint of another net, a run that is complete
auto=("${run[@]}" --out auto --resume auto)
printed 'epoch 1/1' train "${auto[@]}" --epochs 1
printed 'the run is complete, nothing is left to do' train "${auto[@]}" --epochs 1
printed '^resumed auto/checkpoint-4.safetensors: step 4, epoch 2' train "${auto[@]}" --epochs 2
refused 2 'was trained with another net (small), not other; give its --model' train --out auto --resume auto --model other.net --epochs 3
refused 2 'another optimizer; give --optimizer sgd' train --out auto --resume auto --optimizer adamw --epochs 3
printed 'epoch 1/1' train --config auto/config.toml --epochs 1 --out fed
refused 2 'holds a run' train --config auto/config.toml --out fed

# An image that cannot be read, met in the middle of a run
cp -r images damaged && cp images/cut.png damaged/train/red/3.png
refused 2 'damaged/train/red/3.png: ' train --model small.net --data damaged --image-size 12 --epochs 2 --out damaged-run
cp images/train/red/3.png damaged/train/red/3.png && cp images/empty.jpg damaged/val/blue/0.png
refused 2 'damaged/val/blue/0.png: is empty' eval --checkpoint run --data damaged

# A learning rate that is too high
"$convoy" train "${run[@]}" --lr 1e9 --epochs 3 --out nan >out 2>err
if [[ $? -eq 1 && $(wc -l <err) -eq 1 ]] && grep -q 'the loss is not finite at step [0-9]*: the first layer .*checkpoint' err; then ok
else wrong "a loss that is not finite"; cat err; fi

# Nothing is made for a run that cannot start
refused 2 "no net 'nonsense'" train --model nonsense --out no
refused 2 '--data nowhere' train --data nowhere --out no
refused 2 'warm-up' train "${run[@]}" --epochs 1 --warmup-epochs 5 --out no
refused 2 'nowhere.toml' train --config nowhere.toml --out no
absent no
absent runs/no
refused 2 '--out images/rgb.png: is a file' train "${run[@]}" --out images/rgb.png

# Output that goes nowhere: a run does not mind, another command says so
"$convoy" train "${run[@]}" --epochs 2 --out closed-out >&- 2>err
check "train >&-" test $? -eq 0 -a ! -s err
check_python 'import json; [json.loads(x) for x in open("closed-out/metrics.jsonl")]'
"$convoy" train "${run[@]}" --epochs 30 --out piped 2>err | head -1 >/dev/null
check "train | head" test "${PIPESTATUS[0]}" -eq 0 -a -s piped/summary.json
for command in "eval --checkpoint run" "predict --checkpoint run images/rgb.png" "summary small.net" info; do
  # shellcheck disable=SC2086
  "$convoy" $command >/dev/full 2>err
  if [[ $? -eq 1 ]] && grep -q 'cannot write to the standard output: No space' err; then ok; else wrong "$command >/dev/full"; cat err; fi
done
finish
