#!/usr/bin/env bash
# What style asks of the files and no compiler checks.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
bad=0
wrong() { bad=$((bad + 1)); echo "wrong: $*"; }

files=()
while IFS= read -r file; do files+=("$file"); done < <(
  find include kernels src tests bench cmake jobs \( -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh' -o -name '*.sh' \
    -o -name '*.py' -o -name '*.cmake' \) -not -path '*/__pycache__/*' | sort)
[[ ${#files[@]} -gt 50 ]] || wrong "only ${#files[@]} source files were found"
for file in "${files[@]}"; do
  lines=$(wc -l <"$file")
  [[ $lines -le 500 ]] || wrong "$file has $lines lines; 500 is the limit"
done
foreign=$(grep -nE '#include *[<"](cuda|cublas|nccl|mpi)' include/convoy/*.h)
[[ -z $foreign ]] || wrong "a device's or a transport's header in include/convoy:"$'\n'"$foreign"
conditional=$(grep -nE '^ *# *(if|ifdef|ifndef)\b' src/*.cpp src/*.h include/convoy/*.h | grep -vE '^src/(backends|exec_cpu|info|memory_cpu|process_memory)\.cpp:')
[[ -z $conditional ]] || wrong "conditional compilation on the host belongs to src/backends.cpp, exec_cpu.cpp, info.cpp, memory_cpu.cpp, process_memory.cpp:"$'\n'"$conditional"
for file in include/convoy/*.h src/*.h kernels/*.h; do
  grep -q '^#pragma once' "$file" || wrong "$file has no #pragma once"
done
marks=$(grep -nE '\b(TODO|FIXME|XXX)\b' "${files[@]}" | grep -v '^tests/test_style.sh')
[[ -z $marks ]] || wrong "unfinished:"$'\n'"$marks"
[[ $bad -eq 0 ]] && echo "${#files[@]} files"
[[ $bad -eq 0 ]]
