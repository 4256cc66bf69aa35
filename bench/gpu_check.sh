#!/usr/bin/env bash
# Proves the CUDA backend on a GPU, in stages that each leave their log and result:
#   bash bench/gpu_check.sh [--out DIR] [--build DIR] [--only STAGE,STAGE] [--seconds N] [--peer-variants LIST] [--small]
#     info        GPU, driver, toolkit, commit
#     wrappers    every named PTX instruction against plain loops
#     operations  the operations' tests, in f32, bf16 and f16, three times each
#     runs        whole steps: exact, in every mode with workers that share the GPU; recorded steps; the command line
#     ops         every layer of VGG16, AlexNet and ResNet-18: its time, its floor, and cuDNN's time
#     step        images/s of training steps, and PyTorch's
#     schemes     AlexNet with 2 and 4 workers that share the GPU, data-parallel and in every exchange scheme: compute and waiting
#     sanitizer   compute-sanitizer on a few of the tests
# DIR defaults to gpu_check. The build (default build-cuda) is made where there is none: cmake --preset cuda. PyTorch is the
# peer where `python3 -c "import torch"` works; --peer-variants are torch_step.py's (default channels_last). A stage that the
# machine refuses is unsupported, which is no failure. Each stage has its part of N seconds (default 530, the build apart)
# and what those before it left; what does not end in time is cut off and said. --small: tiny problems, to test this script.
# The last lines are one table; DIR/gpu_check.json, written anew after each row, holds it.
# Exit status: 0 nothing failed, 1 a stage failed, 2 bad usage, 77 there is no GPU.
set -uo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
out=gpu_check build=$root/build-cuda only="" seconds=530 variants=channels_last small=0
while [[ $# -gt 0 ]]; do
  case $1 in
    --out) out=${2:?}; shift ;;
    --build) build=$(realpath "${2:?}"); shift ;;
    --only) only=${2:?}; shift ;;
    --seconds) seconds=${2:?}; shift ;;
    --peer-variants) variants=${2:?}; shift ;;
    --small) small=1 ;;
    -h | --help) sed -n '2,19s/^# //p' "$0"; exit 0 ;;
    *) echo "gpu_check.sh: unknown option $1 (--out, --build, --only, --seconds, --peer-variants, --small)" >&2; exit 2 ;;
  esac
  shift
done
[[ $seconds =~ ^[1-9][0-9]*$ ]] || { echo "gpu_check.sh: --seconds $seconds: expected a whole number" >&2; exit 2; }
stages=(info wrappers operations runs ops step schemes sanitizer)
declare -A share=([info]=5 [wrappers]=20 [operations]=70 [runs]=90 [ops]=125 [step]=120 [schemes]=55 [sanitizer]=45) whole=530
for stage in ${only//,/ }; do
  [[ " ${stages[*]} " == *" $stage "* ]] || { echo "gpu_check.sh: no stage $stage (${stages[*]})" >&2; exit 2; }
done
mkdir -p "$out" && out=$(realpath "$out") || exit 2
if [[ ! -x $build/convoy ]]; then
  echo "building $build" >&2
  (cd "$root" && cmake --preset cuda -B "$build" >"$out/build.log" 2>&1 && cmake --build "$build" >>"$out/build.log" 2>&1) ||
    { tail -20 "$out/build.log" >&2; exit 1; }
fi
# cuBLAS of the toolkit, or the one that PyTorch brought
for folder in /usr/local/cuda/lib64 "$(timeout 20 python3 -c 'import nvidia.cublas as n; print(list(n.__path__)[0] + "/lib")' 2>/dev/null)"; do
  [[ -d $folder ]] && export LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$folder
done
"$build/convoy" info >"$out/info.log" 2>&1 || { cat "$out/info.log" >&2; exit 1; }
if ! grep -qE '^CUDA devices +[1-9]' "$out/info.log"; then
  echo "gpu_check.sh: no GPU here:" >&2
  grep '^CUDA' "$out/info.log" >&2
  exit 77
fi
export CONVOY_TEST_BACKENDS=cuda PYTHONDONTWRITEBYTECODE=1
rows=() failed=0 began=$SECONDS deadline=$SECONDS
plain() { tr -d '\\"\000-\037' <<<"$1" | cut -c1-200; }
write() {
  {
    printf '{"bench":"gpu_check","date":"%s","info":%s,"rows":[\n' "$(date -u +%F)" \
      "$(python3 -c 'import json, sys; print(json.dumps(open(sys.argv[1]).read()))' "$out/info.log" 2>/dev/null || echo '""')"
    for ((i = 0; i < ${#rows[@]}; i++)); do printf ' %s%s\n' "${rows[i]}" "$([[ $i -lt $((${#rows[@]} - 1)) ]] && echo ,)"; done
    printf ']}\n'
  } >"$out/gpu_check.json"
}
row() {  # STAGE NAME RESULT DETAIL
  rows+=("$(printf '{"stage":"%s","name":"%s","result":"%s","detail":"%s"}' "$1" "$(plain "$2")" "$3" "$(plain "$4")")")
  printf '  %-11s %-34s %-12s %s\n' "$1" "$2" "$3" "$(plain "$4")"
  [[ $3 != failed ]] || failed=1
  write
}
# Whether the stage is asked for; then it has until `deadline`.
wanted() {
  [[ -z $only || ",$only," == *",$1,"* ]] || return 1
  deadline=$((deadline + share[$1] * seconds / whole))
}
# run STAGE NAME LOG COMMAND...: cut off at the stage's deadline; its status, or 124 with a row that says so.
run() {
  local stage=$1 name=$2 log=$3 left=$((deadline - SECONDS)) status
  shift 3
  if [[ $left -lt 2 ]]; then
    row "$stage" "$name" unsupported "no time left"
    return 124
  fi
  timeout -k 5 "$left" "$@" >"$log" 2>&1 </dev/null
  status=$?
  [[ $status -ne 124 && $status -ne 137 ]] || { row "$stage" "$name" failed "not done after $left s: $(tail -1 "$log")"; return 124; }
  return $status
}
why() { grep -m1 -E 'Failure|rror|what|failed' "$1" || tail -1 "$1"; }
# program STAGE NAME [ARGUMENTS...]: one test program
program() {
  local stage=$1 name=$2 log=$out/$2.log status
  shift 2
  [[ -x $build/tests/$name ]] || { row "$stage" "$name" unsupported "not built"; return; }
  run "$stage" "$name" "$log" "$build/tests/$name" "$@"
  status=$?
  local passed skipped
  passed=$(sed -n 's/^\[  PASSED  \] \([0-9]*\) test.*/\1/p' "$log")
  skipped=$(sed -n 's/^\[  SKIPPED \] \([0-9]*\) test.*/\1/p' "$log" | head -1)
  if [[ $status -eq 0 ]]; then row "$stage" "$name" passed "${passed:-0} tests${skipped:+, $skipped of them skipped}"
  elif [[ $status -ne 124 ]]; then row "$stage" "$name" failed "status $status: $(why "$log")"; fi
}
# measured STAGE NAME PATTERN COMMAND...: a benchmark, whose result is the last line that matches.
measured() {
  local stage=$1 name=$2 pattern=$3 log=$out/$1-$2.log status
  shift 3
  [[ -x $1 ]] || { row "$stage" "$name" unsupported "not built: $1"; return; }
  run "$stage" "$name" "$log" "$@"
  status=$?
  if [[ $status -eq 0 ]]; then row "$stage" "$name" passed "$(grep -E "$pattern" "$log" | tail -1 | tr -s ' ')"
  elif [[ $status -ne 124 ]]; then row "$stage" "$name" failed "status $status: $(why "$log")"; fi
}
torch=""
if [[ -z $only || ,$only, == *,ops,* || ,$only, == *,step,* ]]; then
  ! timeout 60 python3 -c 'import torch; assert torch.cuda.is_available()' 2>/dev/null || torch=$(command -v python3)
fi
printf '# %-11s %-34s %-12s %s\n' stage what result detail
if wanted info; then row info "$(sed -n 's/^device 0 *//p' "$out/info.log")" passed "$(sed -n 's/^commit *//p' "$out/info.log" | cut -c1-12)"; fi
if wanted wrappers; then for t in test_wrappers test_wrappers_hopper; do program wrappers $t; done; fi
if wanted operations; then
  for t in fill cast add relu dropout normalize pool lrn columns sgd softmax batchnorm fc conv tf32 empty; do program operations test_$t; done
fi
if wanted runs; then
  for t in comm_cuda parallel parallel_update cuda_run equivalence; do program runs test_$t; done
  run runs cuda_commands.sh "$out/cuda_commands.log" env CONVOY="$build/convoy" CONVOY_BENCHES=no bash "$root/tests/cuda_commands.sh"
  status=$?
  if [[ $status -eq 0 ]]; then row runs cuda_commands.sh passed "$(tail -1 "$out/cuda_commands.log")"
  elif [[ $status -ne 124 ]]; then row runs cuda_commands.sh failed "$(grep -m1 '^wrong' "$out/cuda_commands.log"); $(tail -1 "$out/cuda_commands.log")"; fi
fi
cat >"$out/small.net" <<'NET'
input 6x6x3
conv 8 3x3 pad 1
relu
conv 8 3x3 pad 1 stride 2 nobias
relu
fc 16
relu
fc 4
NET
if wanted ops; then
  nets=(vgg16 alexnet resnet18) arguments=(--batch 256)
  [[ $small -eq 0 ]] || { nets=("$out/small.net") arguments=(--batch 2 --seconds 0.001); }
  [[ -z $torch ]] || arguments+=(--peer "$torch" --peer-script "$root/bench/peers/torch_ops.py" --peer-seconds $((share[ops] * seconds / whole / 5)))
  for net in "${nets[@]}"; do
    name=$(basename "$net" .net)
    measured ops "$name" '^# [0-9]+ rows' "$build/bench/bench_ops" --device cuda --net "$net" "${arguments[@]}" --json "$out/ops-$name.json"
  done
fi
if wanted step; then
  nets=(cifar_cnn@32 vgg16@32 resnet18@224 alexnet@224 vgg16@224) arguments=(--rounds 3 --seconds 1)
  [[ $small -eq 0 ]] || { nets=("$out/small.net") arguments=(--rounds 1 --seconds 0.01 --batch 4); }
  for net in "${nets[@]}"; do  # ours first: nobody's PyTorch costs us a figure
    measured step "$(basename "$net" .net)" '^  ' "$build/bench/bench_step" --device cuda --net "$net" "${arguments[@]}" \
      --json "$out/step-$(basename "$net" .net).json"
  done
  if [[ -n $torch && $small -eq 0 ]]; then
    for net in "${nets[@]}"; do
      measured step "$net-peer" '^  ' "$build/bench/bench_step" --device cuda --net "$net" --rounds 1 --seconds 1 --peer "$torch" \
        --peer-script "$root/bench/peers/torch_step.py" --peer-variants "$variants" --peer-seconds $((share[step] * seconds / whole / 3)) \
        --json "$out/step-$net-peer.json"
    done
  fi
fi
if wanted schemes; then
  if [[ $small -eq 0 ]]; then
    for workers in 2 4; do
      measured schemes "alexnet-$workers" '^  hybrid +C' "$build/convoy" bench-schemes --model alexnet --device cuda --transport local \
        --workers $workers --batch-size 256 --precision bf16 --modes data,hybrid --steps 10 --json "$out/schemes-alexnet-$workers.json"
    done
  else
    measured schemes "small-2" '^  hybrid +C' "$build/convoy" bench-schemes --model "$out/small.net" --device cuda --transport local \
      --workers 2 --batch-size 6 --steps 2 --modes hybrid --json "$out/schemes-small-2.json"
  fi
fi
if wanted sanitizer; then
  if ! command -v compute-sanitizer >/dev/null; then row sanitizer compute-sanitizer unsupported "not installed"
  else
    for tool in memcheck racecheck synccheck; do
      run sanitizer $tool "$out/sanitizer-$tool.log" compute-sanitizer --tool $tool --error-exitcode 9 "$build/tests/test_cuda_run" \
        --gtest_filter=CudaRun.NonfiniteLossChangesNothing
      status=$?
      if [[ $status -eq 0 ]]; then row sanitizer $tool passed "$(tail -1 "$out/sanitizer-$tool.log" | tr -d '=')"
      elif [[ $status -eq 9 ]]; then row sanitizer $tool failed "$(grep -m1 '=====' "$out/sanitizer-$tool.log")"
      elif [[ $status -ne 124 ]]; then row sanitizer $tool unsupported "status $status: $(tail -1 "$out/sanitizer-$tool.log")"; fi
    done
  fi
fi
printf '# %d rows, %s, %d s; %s\n' "${#rows[@]}" "$([[ $failed -eq 0 ]] && echo "none failed" || echo "FAILED")" $((SECONDS - began)) "$out/gpu_check.json"
exit $failed
