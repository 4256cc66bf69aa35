#!/usr/bin/env bash
# Builds Convoy and runs every test that this machine can run. The last line is "N passed, N failed, N skipped".
#   bash tests/run.sh [--quick]     --quick: the Release build, its fast tests and the shell tests only
# On a bare Debian or Ubuntu with root or sudo it installs what is missing.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
root=$PWD
quick=0
for argument in "$@"; do
  case $argument in
    --quick) quick=1 ;;
    -h | --help) sed -n '2,4s/^# //p' tests/run.sh; exit 0 ;;
    *) echo "tests/run.sh: unknown option $argument (--quick)" >&2; exit 2 ;;
  esac
done

# shellcheck source=jobs/packages.sh
source jobs/packages.sh
install_missing "build and test Convoy" "${build_packages[@]}" libopenmpi-dev=mpicxx openmpi-bin=mpirun \
  libgtest-dev=/usr/include/gtest/gtest.h python3=python3
if [[ $quick -eq 0 ]]; then
  install_missing "check Convoy" clang=clang++ clang-format=clang-format clang-tidy=clang-tidy shellcheck=shellcheck \
    strace=strace "libomp-dev=/usr/lib/llvm-*/lib/libomp.so" qemu-user=qemu-x86_64 curl=curl ccache=ccache
  # Not everywhere to be had. slurmctld and slurmd lie where only root looks.
  (PATH=$PATH:/usr/sbin:/sbin install_missing "run the jobs on a private Slurm" slurmctld=slurmctld slurmd=slurmd \
    slurm-client=sbatch munge=munged) || echo "goes on without Slurm: tests/test_slurm.sh will be skipped" >&2
fi

cores=$(nproc)
passed=0 failed=0 skipped=0 failures=()
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
launcher=()
command -v ccache >/dev/null && launcher=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)

stages=() stage="" began=0
section() {
  [[ -z $stage ]] || stages+=("$(printf '%5d s  %s' $((SECONDS - began)) "$stage")")
  stage=$* began=$SECONDS
  printf '\n== %s (after %d s)\n' "$*" "$SECONDS"
}
pass() { passed=$((passed + 1)); echo "passed: $*"; }
fail() { failed=$((failed + 1)); failures+=("$*"); echo "FAILED: $*"; }
skip() { skipped=$((skipped + 1)); echo "skipped: $*"; }
finish() {
  section "result"
  printf '%s\n' "${stages[@]}"
  printf '%5d s  in all\n' "$SECONDS"
  [[ ${#failures[@]} -eq 0 ]] || printf 'FAILED: %s\n' "${failures[@]}"
  if [[ $skipped -gt 0 ]]; then echo "$passed passed, $failed failed, $skipped skipped"
  else echo "$passed passed, $failed failed"; fi
  [[ $failed -eq 0 ]]
  exit
}

# build NAME FOLDER TARGETS... -- CMAKE_ARGUMENTS...: one test, whose log is shown when it fails.
build() {
  local name=$1 folder=$2 targets=()
  shift 2
  while [[ $1 != -- ]]; do targets+=("$1"); shift; done
  shift
  if cmake "$@" "${launcher[@]}" >"$logs/build" 2>&1 &&
    cmake --build "$folder" --target "${targets[@]}" -- -j "$cores" >>"$logs/build" 2>&1; then
    pass "build $name"
  else
    grep -E -A6 'error|Error|FAILED' "$logs/build" | head -80
    tail -20 "$logs/build"
    fail "build $name"
    return 1
  fi
}

# Runs ctest in FOLDER and adds up its JUnit file.
run_ctest() {
  local folder=$1 status
  shift
  ctest --test-dir "$folder" --output-on-failure --no-tests=error -j "$cores" --output-junit "$logs/junit.xml" "$@" \
    >"$logs/ctest" 2>&1 </dev/null
  status=$?
  grep -vE '^ +Start |   Passed ' "$logs/ctest"
  local counts
  if ! counts=$(python3 - "$logs/junit.xml" <<'PY'
import sys, xml.etree.ElementTree as tree
passed = failed = skipped = 0
for case in tree.parse(sys.argv[1]).getroot().iter("testcase"):
    note = case.find("skipped")  # of a program that is missing too
    if case.get("status") == "run": passed += 1
    elif case.get("status") == "disabled" or note is not None and note.get("message", "").startswith("SKIP_"): skipped += 1
    else: failed += 1
print(passed, failed, skipped)
PY
  ); then
    fail "ctest in $folder did not run"
    return
  fi
  local p f s
  read -r p f s <<<"$counts"
  passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
  [[ $f -eq 0 ]] || failures+=("$f tests of $(basename "$folder"), see above")
  [[ $status -eq 0 || $f -gt 0 ]] || fail "ctest in $folder ended with status $status"
}

section "Release build, warnings are errors"
build "cpu" build-cpu all -- --preset cpu -DCONVOY_WERROR=ON -DCONVOY_TESTS=ON -DCONVOY_BENCH=ON || finish

section "tests"
if [[ $quick -eq 1 ]]; then run_ctest build-cpu -LE slow; else run_ctest build-cpu; fi

section "shell tests"
export CONVOY=$root/build-cpu/convoy CONVOY_BUILD=$root/build-cpu
for script in tests/test_*.sh; do
  ! grep -q "$(basename "$script")" tests/CMakeLists.txt || continue  # ctest ran it
  bash "$script" >"$logs/shell" 2>&1 </dev/null
  status=$?
  case $status in
    0) pass "$script" ;;
    77) skip "$script: $(tail -1 "$logs/shell")" ;;
    *) tail -40 "$logs/shell"; fail "$script (status $status)" ;;
  esac
done
[[ $quick -eq 0 ]] || finish

# The CUDA kernels, run on the CPU; the operations' tests also with AddressSanitizer, whose build takes one way to run each.
section "CUDA emulated"
export CONVOY_TEST_BACKENDS=cuda
if build "emulated" build-emulated emulated_tests convoy bench_ops bench_step -- --preset emulated -DCONVOY_WERROR=ON; then
  run_ctest build-emulated -L emulated
  CONVOY_EMULATOR_ARCH=75 CONVOY_EMULATOR_WAYS=1 run_ctest build-emulated -L emulated -R '^(Conv|Fc)[.]'
  CONVOY_EMULATOR_ARCH=90 run_ctest build-emulated -L emulated -R '^(Conv|Fc)[.]'
  if CONVOY=$root/build-emulated/convoy bash tests/cuda_commands.sh >"$logs/shell" 2>&1 </dev/null; then
    pass tests/cuda_commands.sh
  else
    tail -40 "$logs/shell"
    fail tests/cuda_commands.sh
  fi
fi
section "CUDA emulated, AddressSanitizer, UndefinedBehaviorSanitizer"
if build "emulated-asan" build-emulated-asan emulated_operations -- --preset emulated-asan -DCONVOY_WERROR=ON; then
  CONVOY_EMULATOR_WAYS=1 run_ctest build-emulated-asan -L operation
  CONVOY_EMULATOR_ARCH=90 CONVOY_EMULATOR_WAYS=1 run_ctest build-emulated-asan -L operation -R '^Conv[.]'  # Hopper's
fi
unset CONVOY_TEST_BACKENDS
section "nvcc"
if command -v nvcc >/dev/null || [[ -x /usr/local/cuda/bin/nvcc ]]; then
  if cmake --build build-emulated --target nvcc_check -- -j "$cores" >"$logs/nvcc" 2>&1; then
    pass "nvcc: $(grep -c 'Compiling entry function' "$logs/nvcc") kernels, \
$(grep -o '[0-9]* bytes spill stores' "$logs/nvcc" | awk '{ n += $1 > 0 } END { print n + 0 }') of them spill registers"
  else
    grep -E 'error|warning' "$logs/nvcc" | head -20
    fail "nvcc"
  fi
else
  skip "nvcc: not there"
fi

# clang builds this too: its warnings, libFuzzer, the compile commands of clang-tidy.
section "AddressSanitizer, UndefinedBehaviorSanitizer"
sanitize=(--preset asan)
fuzzing=0
if command -v clang++ >/dev/null; then
  fuzzing=1
  sanitize+=(-DCMAKE_CXX_COMPILER=clang++ -DCONVOY_FUZZ=ON -DCONVOY_WERROR=ON)
  # OpenMP for clang is a package of its own.
  echo '#include <omp.h>' | clang++ -fopenmp -x c++ - -c -o /dev/null 2>/dev/null || sanitize+=(-DCONVOY_OPENMP=OFF)
else
  skip "fuzz targets and clang-tidy: no clang++"
fi
sanitized=0
if build "asan" build-asan sanitized_tests fuzzers -- "${sanitize[@]}"; then
  sanitized=1
  run_ctest build-asan -L sanitize
fi

if [[ $fuzzing -eq 1 && $sanitized -eq 1 ]]; then
  section "fuzz targets"
  fuzz() {  # 20 s, on seeds that are copied: libFuzzer adds to its first folder
    local name=$1
    mkdir -p "$logs/$name.corpus"
    "$root/build-asan/tests/fuzz_$name" -max_total_time=20 -timeout=5 -rss_limit_mb=1024 -print_final_stats=1 \
      -artifact_prefix="$logs/$name.found." "$logs/$name.corpus" "$root/tests/fuzz/corpus/$name" >"$logs/$name.log" 2>&1
    echo $? >"$logs/$name.status"
  }
  names=()
  for source in tests/fuzz/fuzz_*.cpp; do
    [[ -e $source ]] && names+=("$(basename "$source" .cpp | sed s/^fuzz_//)")
  done
  for ((i = 0; i < ${#names[@]}; i += 2)); do
    for name in "${names[@]:i:2}"; do fuzz "$name" & done
    wait
  done
  for name in "${names[@]}"; do
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$logs/$name.log")
    if [[ $(cat "$logs/$name.status") -eq 0 ]]; then pass "fuzz $name: 20 s, $runs runs"
    else
      tail -40 "$logs/$name.log"
      for found in "$logs/$name".found.*; do [[ -e $found ]] && { basename "$found"; base64 "$found" | head -40; }; done
      fail "fuzz $name"
    fi
  done
fi

section "clang-tidy, clang++ without OpenMP"
if [[ $fuzzing -eq 0 ]]; then
  :
elif ! command -v clang-tidy >/dev/null; then
  skip "clang-tidy: not there"
elif ! python3 - "$root" "$logs" <<'PY' >"$logs/files"
import json, sys
root, folder = sys.argv[1:]
entries = [e for e in json.load(open(root + "/build-asan/compile_commands.json"))
           if e["file"].startswith(root + "/src/") or "CONVOY_CPU=cpu_plain" in e["command"]]
json.dump(entries, open(folder + "/compile_commands.json", "w"))
print("\n".join(e["file"] for e in entries))
PY
then fail "clang-tidy: no compile commands"
elif xargs -P "$cores" -n 3 clang-tidy --quiet -p "$logs" <"$logs/files" >"$logs/tidy" 2>/dev/null; then
  pass "clang-tidy, $(wc -l <"$logs/files") files"
else
  grep -vE '^$' "$logs/tidy" | head -60
  fail "clang-tidy"
fi
if command -v clang++ >/dev/null; then
  if find kernels src/exec_cpu.cpp -name '*.cpp' -print0 | xargs -0 -P "$cores" -n 8 clang++ -std=c++17 -fsyntax-only -Wall \
    -Wextra -Wshadow -Werror -Wno-unknown-pragmas -Iinclude -Isrc -I. -DCONVOY_CPU=cpu_plain -DCONVOY_VECTOR_BYTES=16 \
    -DCONVOY_X86; then pass "clang++ without OpenMP"
  else fail "clang++ without OpenMP"; fi
fi

section "style"
# Another release lays code out in other ways.
if clang-format --version 2>/dev/null | grep -q 'version 14\.'; then
  if find include kernels src tests bench \( -name '*.h' -o -name '*.cpp' \) -print0 |
    xargs -0 clang-format --dry-run -Werror 2>"$logs/format"; then pass "clang-format"
  else grep -E 'error:' "$logs/format" | head -20; fail "clang-format (run: clang-format -i FILE)"; fi
else
  skip "clang-format: version 14 is not there"
fi
if command -v shellcheck >/dev/null; then
  if find . -path './build*' -prune -o \( -name '*.sh' -o -name '*.sbatch' -o -path ./.ci/run \) -print0 | xargs -0 shellcheck -x; then pass "shellcheck"
  else fail "shellcheck"; fi
else
  skip "shellcheck: not there"
fi

section "left out"
echo "CUDA: no GPU is used; the kernels run emulated, nvcc only compiles them"
echo "MPI: ranks of one machine under mpirun; several nodes and srun --mpi=pmix are simulated (tests/test_slurm.sh)"
echo "Downloads: FetchContent's network access is untested; tests/test_fetch.sh gives it local sources"
finish
