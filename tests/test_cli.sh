#!/usr/bin/env bash
# The built program from outside: help, what is refused and how, exit statuses, signals, resume.   CONVOY=build-cpu/convoy
set -uo pipefail
# shellcheck source=tests/command_checks.sh
source "$(dirname "$0")/command_checks.sh"

# Help: every option of every command with its default or the word required.
for command in train eval predict summary plan bench-schemes info; do
  printed '^Exit status: 0 done, 2 bad usage or input, 75 saved on a signal' "$command" --help
  printed "^  $command " --help
  if grep -E '^ +--' out | grep -vE 'config|json|version'; then wrong "convoy --help lists options of commands"; fi
  "$convoy" "$command" --help | grep -E '^  --' | grep -vqE '[(]default|REQUIRED|--config|--json|^  --(lr-schedule|transport)' &&
    { wrong "convoy $command --help: an option without default"; "$convoy" "$command" --help | grep -E '^  --' | grep -vE '[(]default|REQUIRED'; }
done
printed '^convoy [0-9]+[.][0-9]+[.][0-9]+ [(]commit ([0-9a-f]{40}(-dirty)?|unknown)[)]$' --version
printed '1,070,794|1070794' summary
printed '' info
printf '[speed]\nconv-gflops = 1000\nfc-gflops = 1000\nupdate-gbytes = 100\n[links]\ngbps = 6\n' >figures.toml
printed '^scheme C, 3 passes' plan cifar_cnn --workers 3 --scheme c --figures figures.toml
printed '256 features +1048832 +348245 to 352342$' plan --model cifar_cnn --workers 3 --figures figures.toml
printed 'links of 2.5 GB/s either way, 30 us a message$' plan --link-gbps 2.5 --link-us 30 --figures figures.toml
printed '"workers": 4' plan --json --figures figures.toml
refused 2 'give a command'

# Spelling
refused 2 "unknown command 'trian'; did you mean train?" trian
refused 2 'unknown option --modle; did you mean --model? (convoy train --help' train --modle x
refused 2 'unknown option --learning-rate' train --learning-rate 1
refused 2 "unexpected argument 'extra'" train extra
refused 2 '--lr needs a value' train --lr
refused 2 '--lr is given more than once' train --lr 1 --lr 2
refused 2 '--checkpoint is required' eval
refused 2 'images is required' predict --checkpoint x

# Numbers
for value in -1 nan inf 1e999 x; do refused 2 "--lr '$value': expected a number" train "--lr=$value"; done
for value in -1 0 1.5 99999999999999999999 x; do
  refused 2 "--batch-size '$value': expected a whole number from 1" train --batch-size "$value"
  refused 2 "--batch-size '$value': expected a whole number from 1" eval --checkpoint x --batch-size "$value"
  refused 2 "--top '$value': expected a whole number from 1" predict --checkpoint x --top "$value" image
done
refused 2 "--optimizer 'adam': expected one of sgd, adamw; did you mean adamw?" train --optimizer adam
refused 2 "--isa 'mmx': expected one of auto, plain, avx2, avx512" eval --checkpoint x --isa mmx
refused 2 '--epochs 2 and --steps 3' train --epochs 2 --steps 3
refused 2 "--input '28x28'" summary resnet18 --input 28x28
refused 2 "--link-gbps '0': expected a number above 0" plan --figures figures.toml --link-gbps 0
refused 2 "--parallel 'hybird': expected one of data, hybrid, model; did you mean hybrid?" plan --figures figures.toml --parallel hybird

# Files
refused 2 "no net 'nonsense'" train --model nonsense
refused 2 'nowhere' train --config nowhere
printf 'lr = 0.1\nbatch_size = 3\n' >bad.toml
refused 2 "bad.toml:2:1: unknown setting 'batch_size'; did you mean batch-size?" train --config bad.toml
refused 2 'nowhere: cannot read the figures' plan --figures nowhere
refused 2 '--resume nowhere' train --resume nowhere
refused 2 'nowhere' eval --checkpoint nowhere
refused 2 'nowhere' predict --checkpoint nowhere image.png

# A run, its files, its config fed back with something overruled
run=(--model mlp --data synthetic:8x8x1:4 --threads 1 --batch-size 32 --log-every 1)
printed 'images/s' train "${run[@]}" --steps 6 --lr 0.25 --out run
for file in config.toml metrics.jsonl summary.json checkpoint-6.safetensors; do
  if [[ -s run/$file ]]; then ok; else wrong "run/$file is not there"; fi
done
python3 - <<'PY' || wrong "metrics.jsonl or summary.json is wrong"
import json
lines = [json.loads(line) for line in open("run/metrics.jsonl")]
assert [m["step"] for m in lines if m["event"] == "step"] == [1, 2, 3, 4, 5, 6], lines
summary = json.load(open("run/summary.json"))
assert summary["steps"] == 6 and summary["settings"]["lr"] == 0.25 and summary["status"] == "done", summary
PY
refused 2 'holds a run; go on with --resume' train "${run[@]}" --steps 6 --out run
printed 'images/s' train --config run/config.toml --steps 3 --out again
if grep -q '^lr = 0.25$' again/config.toml && grep -q '^steps = 3$' again/config.toml; then ok
else wrong "run/config.toml was not taken over"; fi
printed 'step 6' train --resume run --steps 8
if [[ $(grep -c '"event":"step"' run/metrics.jsonl) -eq 8 ]]; then ok; else wrong "metrics.jsonl after --resume"; fi

# Signals: saved, status 75, goes on to the end
for signal in TERM INT USR1 USR2; do
  # Job control gives the program its own SIGINT: a script's background jobs ignore it.
  set -m
  "$convoy" train "${run[@]}" --steps 100000000 --checkpoint-every 0 --out "stopped-$signal" >out 2>err </dev/null &
  pid=$!
  set +m
  for ((i = 0; i < 200; ++i)); do
    [[ -s stopped-$signal/metrics.jsonl ]] && break
    sleep 0.1
  done
  kill -s "$signal" "$pid"
  wait "$pid"
  status=$?
  files=("stopped-$signal"/checkpoint-*.safetensors)
  if [[ $status -eq 75 && -e ${files[0]} ]]; then ok; else wrong "SIG$signal -> status $status"; cat out err; fi
done
# A terminal that is closed, and one that is closed behind nohup
cat >terminal.py <<'PY'
import os, pty, signal, sys, time
pid, terminal = pty.fork()
if pid == 0:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the test itself may run behind nohup
    os.execvp(sys.argv[2], sys.argv[2:])
deadline = time.monotonic() + 300
while not os.path.exists(sys.argv[1]) or os.path.getsize(sys.argv[1]) == 0:
    assert time.monotonic() < deadline, "it does not train"
    time.sleep(0.05)
os.close(terminal)
status = os.waitpid(pid, 0)[1]
sys.exit(os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status))
PY
python3 terminal.py closed/metrics.jsonl "$convoy" train "${run[@]}" --steps 100000000 --checkpoint-every 0 --out closed
status=$?
if [[ $status -eq 75 && -s closed/latest ]]; then ok; else wrong "a closed terminal -> status $status"; fi
python3 terminal.py nohup/metrics.jsonl nohup "$convoy" train "${run[@]}" --max-minutes 0.03 --checkpoint-every 0 --out nohup
status=$?
if [[ $status -eq 0 && -s nohup/summary.json ]]; then ok; else wrong "a closed terminal behind nohup -> status $status"; fi
step=$(basename "${files[0]}" .safetensors)
printed "step ${step#checkpoint-}" train --resume stopped-USR2 --steps $((${step#checkpoint-} + 1))


# A signal while the test images are evaluated, which takes seconds here: saved at once, evaluated by whoever goes on.
printf 'input 32x32x3\nconv 64 5x5 pad 2\nconv 64 5x5 pad 2\nconv 64 5x5 pad 2\nmaxpool 16\nfc 4\n' >slow.net
set -m
"$convoy" train --model slow.net --data synthetic:32x32x3:4 --batch-size 4 --steps 1 --log-every 1 --isa plain --threads 1 \
  --out evaluated >out 2>err </dev/null &
pid=$!
set +m
for ((i = 0; i < 200; ++i)); do
  [[ -s evaluated/metrics.jsonl ]] && break
  sleep 0.1
done
kill -s TERM "$pid"
wait "$pid"
status=$?
if [[ $status -eq 75 && -s evaluated/checkpoint-1.safetensors && ! -e evaluated/summary.json ]] &&
  ! grep -q '"event":"epoch"' evaluated/metrics.jsonl; then ok; else wrong "a signal during the evaluation: status $status"; cat out err; fi
printed '^epoch 1/1 .* test loss [0-9.]+' train --resume evaluated --isa auto --threads 0
printed 'nothing is left to do' train --resume evaluated --isa auto --threads 0


# Steps that wait for a slow link (about 3 s each): a signal is seen at the end of the step that it came in, not of the next.
printf 'input 16x16x3\nconv 8 3x3 pad 1\nrelu\nfc 10\n' >small.net
"$convoy" train --model small.net --data synthetic:16x16x3:10 --batch-size 32 --workers 2 --threads 1 --steps 1000 --log-every 1 \
  --link-gbps 0.00003 --out link >out 2>err </dev/null &
pid=$!
for ((i = 0; i < 6000; ++i)); do
  [[ $(grep -sc '"step",' link/metrics.jsonl) -ge 2 ]] && break
  sleep 0.05
done
sleep 0.7  # the workers vote early in a step: this is later
kill -s TERM "$pid"
at=$(grep -c '"step",' link/metrics.jsonl)
wait "$pid"
status=$?
if [[ $status -eq 75 && -s link/checkpoint-$((at + 1)).safetensors ]]; then ok
else wrong "a signal $at steps into a run on a slow link: status $status"; ls link; cat out err; fi

# What is wrong with the command line is said once by the ranks of mpirun.
if command -v mpirun >/dev/null && "$convoy" info | grep -q '^MPI.*Open MPI'; then
  export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
  for words in "train --batchsize 3" "train --lr high" "nothing" "train --device cuda --precision f32 --model nowhere"; do
    # shellcheck disable=SC2086  # several words
    mpirun -np 3 "$convoy" $words >out 2>err </dev/null
    status=$?
    if [[ $status -eq 2 && $(grep -c '^convoy: ' err) -eq 1 ]]; then ok; else wrong "mpirun, $words: status $status"; cat err; fi
  done
  # A rank that is alone with its fault says it.
  # shellcheck disable=SC2016  # for the program
  printf '#!/usr/bin/env bash\n[[ $OMPI_COMM_WORLD_RANK -ne 1 ]] || set -- train --no-such-option\nexec %q "$@"\n' "$convoy" >one-differs
  chmod +x one-differs
  mpirun -np 2 ./one-differs train "${run[@]}" --steps 3 --out differs >out 2>err </dev/null
  if grep -q '^convoy: rank 1 (.*): error: unknown option --no-such-option' err; then ok; else wrong "a fault of rank 1 alone"; cat err; fi
fi

finish
