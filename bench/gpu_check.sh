#!/usr/bin/env bash
# Proves the CUDA backend on a GPU, in stages that each leave their log and result:
#   bash bench/gpu_check.sh [--out DIR] [--build DIR] [--only STAGE,STAGE] [--seconds N]
#     info        GPU, driver, toolkit, commit
#     wrappers    every named PTX instruction against plain loops
#     operations  the operations' tests, in f32, bf16 and f16, three times each
#     runs        whole steps: exact, in every mode with workers that share the GPU; recorded steps; the command line
#     sanitizer   compute-sanitizer on a few of them
#     step        images/s of training steps, and PyTorch's where `python3 -c "import torch"` works
# DIR defaults to gpu_check. The build (default build-cuda) is made where there is none: cmake --preset cuda. A stage that the
# machine refuses is unsupported, which is no failure. The last lines are one table; DIR/gpu_check.json holds it.
# Exit status: 0 nothing failed, 1 a stage failed, 2 bad usage, 77 there is no GPU.
set -uo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
out=gpu_check build=$root/build-cuda only="" seconds=420
while [[ $# -gt 0 ]]; do
  case $1 in
    --out) out=${2:?}; shift ;;
    --build) build=$(realpath "${2:?}"); shift ;;
    --only) only=${2:?}; shift ;;
    --seconds) seconds=${2:?}; shift ;;
    -h | --help) sed -n '2,12s/^# //p' "$0"; exit 0 ;;
    *) echo "gpu_check.sh: unknown option $1 (--out, --build, --only, --seconds)" >&2; exit 2 ;;
  esac
  shift
done
stages=(info wrappers operations runs sanitizer step)
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
for folder in /usr/local/cuda/lib64 "$(python3 -c 'import nvidia.cublas as n; print(list(n.__path__)[0] + "/lib")' 2>/dev/null)"; do
  [[ -d $folder ]] && export LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$folder
done
"$build/convoy" info >"$out/info.log" 2>&1 || { cat "$out/info.log" >&2; exit 1; }
if ! grep -qE '^CUDA devices +[1-9]' "$out/info.log"; then
  echo "gpu_check.sh: no GPU here:" >&2
  grep '^CUDA' "$out/info.log" >&2
  exit 77
fi
export CONVOY_TEST_BACKENDS=cuda
rows=() failed=0 began=$SECONDS
row() {  # STAGE NAME RESULT DETAIL
  rows+=("$(printf '{"stage":"%s","name":"%s","result":"%s","detail":"%s"}' "$1" "$2" "$3" "${4//\"/}")")
  printf '  %-11s %-34s %-12s %s\n' "$1" "$2" "$3" "$4"
  [[ $3 != failed ]] || failed=1
}
wanted() { [[ -z $only || ",$only," == *",$1,"* ]] && [[ $((SECONDS - began)) -lt $seconds ]]; }
# program STAGE NAME [ARGUMENTS...]: one test program
program() {
  local stage=$1 name=$2 log=$out/$2.log status
  shift 2
  [[ -x $build/tests/$name ]] || { row "$stage" "$name" unsupported "not built"; return; }
  timeout 240 "$build/tests/$name" "$@" >"$log" 2>&1
  status=$?
  local passed skipped
  passed=$(sed -n 's/^\[  PASSED  \] \([0-9]*\) test.*/\1/p' "$log")
  skipped=$(sed -n 's/^\[  SKIPPED \] \([0-9]*\) test.*/\1/p' "$log" | head -1)
  if [[ $status -eq 0 ]]; then row "$stage" "$name" passed "${passed:-0} tests${skipped:+, $skipped of them skipped}"
  else row "$stage" "$name" failed "status $status: $(grep -m1 -E 'Failure|error|what' "$log" | tr -d '\\\n' | cut -c1-120)"; fi
}
printf '# %-11s %-34s %-12s %s\n' stage what result detail
if wanted info; then row info "$(sed -n 's/^device 0 *//p' "$out/info.log")" passed "$(sed -n 's/^commit *//p' "$out/info.log" | cut -c1-12)"; fi
if wanted wrappers; then for t in test_wrappers test_wrappers_hopper; do program wrappers $t; done; fi
if wanted operations; then
  for t in fill cast add relu dropout normalize pool lrn columns sgd softmax batchnorm fc conv empty; do program operations test_$t; done
fi
if wanted runs; then
  for t in comm_cuda parallel parallel_update cuda_run equivalence; do program runs test_$t; done
  if CONVOY=$build/convoy bash "$root/tests/cuda_commands.sh" >"$out/cuda_commands.log" 2>&1; then
    row runs cuda_commands.sh passed "$(tail -1 "$out/cuda_commands.log")"
  else row runs cuda_commands.sh failed "$(tail -1 "$out/cuda_commands.log")"; fi
fi
if wanted sanitizer; then
  if ! command -v compute-sanitizer >/dev/null; then row sanitizer compute-sanitizer unsupported "not installed"
  else
    for tool in memcheck racecheck synccheck; do
      timeout 120 compute-sanitizer --tool $tool --error-exitcode 9 "$build/tests/test_cuda_run" \
        --gtest_filter=CudaRun.NonfiniteLossChangesNothing >"$out/sanitizer-$tool.log" 2>&1
      status=$?
      if [[ $status -eq 0 ]]; then row sanitizer $tool passed "$(tail -1 "$out/sanitizer-$tool.log" | tr -d '=')"
      elif [[ $status -eq 9 ]]; then row sanitizer $tool failed "$(grep -m1 '=====' "$out/sanitizer-$tool.log")"
      else row sanitizer $tool unsupported "status $status: $(tail -1 "$out/sanitizer-$tool.log" | cut -c1-80)"; fi
    done
  fi
fi
if wanted step; then
  peer=()
  python3 -c 'import torch; assert torch.cuda.is_available()' 2>/dev/null && peer=(--peer "$(command -v python3)" --peer-script "$root/bench/peers/torch_step.py")
  for net in cifar_cnn@32 vgg16@32 resnet18@224 alexnet@224 vgg16@224; do
    wanted step || { row step "$net" unsupported "no time left"; continue; }
    if timeout 150 "$build/bench/bench_step" --device cuda --net "$net" --rounds 3 --seconds 1 "${peer[@]}" --json "$out/step-$net.json" \
      >"$out/step-$net.log" 2>&1; then
      row step "$net" passed "$(grep -E "^  $net" "$out/step-$net.log" | tr -s ' ')"
    else row step "$net" failed "$(tail -1 "$out/step-$net.log" | cut -c1-120)"; fi
  done
fi
{
  printf '{"bench":"gpu_check","date":"%s","info":%s,"rows":[\n' "$(date -u +%F)" \
    "$(python3 -c 'import json, sys; print(json.dumps(open(sys.argv[1]).read()))' "$out/info.log" 2>/dev/null || echo '""')"
  for ((i = 0; i < ${#rows[@]}; i++)); do printf ' %s%s\n' "${rows[i]}" "$([[ $i -lt $((${#rows[@]} - 1)) ]] && echo ,)"; done
  printf ']}\n'
} >"$out/gpu_check.json"
printf '# %d rows, %s, %d s; %s\n' "${#rows[@]}" "$([[ $failed -eq 0 ]] && echo "none failed" || echo "FAILED")" $((SECONDS - began)) "$out/gpu_check.json"
exit $failed
