#!/usr/bin/env bash
# What this machine has for Convoy, and what to load. Nothing is changed.
#   bash jobs/check_site.sh
set -uo pipefail
cd "$(dirname "$0")/.." || exit
need=()
row() { printf '%-12s %s\n' "$1" "$2"; }
first_line() { "$@" 2>&1 | head -1; }
# newest NAME...: the highest version of each module that is there
newest() { for name in "$@"; do module -t avail "$name" 2>&1 | grep -E "^${name}[-/]" | sed 's/(.*//' | sort -V | tail -1; done; }

row host "$(uname -n), $(sed -n 's/^PRETTY_NAME="\(.*\)"/\1/p' /etc/os-release 2>/dev/null)"
row processor "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | sort | uniq -c | sed 's/^ *\([0-9]*\) /\1 x /')"
isa=plain
grep -qw avx2 /proc/cpuinfo && isa=avx2
grep -qw avx512bw /proc/cpuinfo && isa=avx512
row kernels "$isa (chosen at run time; this process may use $(nproc) CPUs)"
row memory "$(awk '/^MemTotal/ { printf "%.0f GiB", $2 / 1048576 }' /proc/meminfo)"

if command -v g++ >/dev/null; then
  row compiler "$(first_line g++ --version)"
  echo 'int main() { if constexpr (true) return 0; }' | g++ -std=c++17 -x c++ - -o /dev/null 2>/dev/null ||
    need+=("a g++ that knows C++17 (8 or newer)")
else need+=("g++"); fi
if command -v cmake >/dev/null; then
  row cmake "$(first_line cmake --version)"
  printf '3.20\n%s\n' "$(cmake --version | sed -n '1s/.* //p')" | sort -VC || need+=("cmake 3.20 or newer")
else need+=("cmake 3.20 or newer (python3 -m pip install --user cmake ninja)"); fi
if command -v mpirun >/dev/null; then row MPI "$(first_line mpirun --version)"; else need+=("an MPI, such as openmpi, for several ranks"); fi
if command -v srun >/dev/null && sinfo -h >/dev/null 2>&1; then
  kinds=$(srun --mpi=list 2>&1 | tr '\n\t' '  ')
  row Slurm "$(first_line srun --version); srun --mpi=pmix: $([[ $kinds == *pmix* ]] && echo "there" || echo "not there, use mpirun")"
  row partitions "$(sinfo -h -o '%P %l %G' 2>/dev/null | sort -u | paste -sd ';' | sed 's/;/; /g')"
else row Slurm "none that answers: jobs/ghc.sh"; fi
if command -v nvcc >/dev/null; then row CUDA "$(nvcc --version | sed -n 's/.*release/release/p')"; else row CUDA "no nvcc"; fi
if command -v nvidia-smi >/dev/null; then row GPUs "$(nvidia-smi --query-gpu=name,compute_cap --format=csv,noheader 2>&1 | sort | uniq -c | paste -sd ';')"
else row GPUs "none seen here"; fi
if command -v module >/dev/null; then
  row modules "$(newest gcc openmpi cmake cuda | paste -sd ' ')"
  row load "MODULES=\"$(newest gcc openmpi cmake | paste -sd ' ')\" bash jobs/build_cluster.sh"
else row modules "none"; fi
for program in build-cluster/convoy build-cpu/convoy; do
  [[ ! -x $program ]] || row "$program" "$("$program" info | paste -sd ';' | sed 's/;/; /g')"
done
if [[ ${#need[@]} -eq 0 ]]; then row missing "nothing: bash jobs/build_cluster.sh"
else row missing "$(printf '%s; ' "${need[@]}")"; fi
