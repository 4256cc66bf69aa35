#!/usr/bin/env bash
# The README's ```sh blocks, in its order, in a scratch folder.   CONVOY=build-cpu/convoy
# Training ends after two seconds a command. A block is left out where the line above it is a comment that says why.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/command_checks.sh
source "$here/command_checks.sh"
readme=$here/../README.md

mkdir bin blocks
cat >bin/convoy <<'SH'
#!/usr/bin/env bash
[[ $1 == train ]] && set -- "$@" --max-minutes 0.035
exec "$REAL_CONVOY" "$@"
SH
chmod +x bin/convoy
export REAL_CONVOY=$convoy PATH=$PWD/bin:$PATH
python3 "$here/make_images.py" my-images
# mpirun as root, and on a machine with one core
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
no_mpi=""
command -v mpirun >/dev/null && "$convoy" info | grep -q '^MPI.*Open MPI' || no_mpi=1

awk '/^```sh$/ && above !~ /^<!-- not run by tests\/test_readme.sh: / { file = sprintf("blocks/%02d", ++n); next }
     /^```/ { file = "" } file != "" { print > file } { above = $0 }' "$readme"
for block in blocks/*; do
  [[ -z $no_mpi ]] || ! grep -q mpirun "$block" || continue
  if bash -euo pipefail "$block" >out 2>err </dev/null; then ok
  else wrong "README.md: $(cat "$block")"; cat out err; fi
done
check "fewer blocks than the README had" test "$(find blocks -type f | wc -l)" -ge 5

# What it says about them
"$convoy" summary --help >out
nets=$(sed -n 's/^Built in: \(.*\)[.] A net.*/\1/p' "$readme" | tr -d '`' | tr -s ', ' '\n' | sort | paste -sd ,)
check "the built-in nets are others: $nets" grep -qF "${nets//,/, }" out
"$convoy" train --help >out
check "another default number of epochs" grep -q 'default 8 when' out
for file in config.toml metrics.jsonl summary.json latest best.safetensors; do
  check "runs/images/$file is not there" test -s "runs/images/$file"
done
while read -r path; do check "README.md names $path" test -e "$here/../$path"; done < <(
  grep -oE '(include|kernels|src|tests|bench|jobs|docs|cmake|[.]ci)/[A-Za-z0-9_/.]+[A-Za-z_/]' "$readme" | grep -v '^bench/bench_' | sort -u)
options=$(for command in train eval predict summary plan bench-schemes; do "$convoy" $command --help; done)
while read -r option; do check "README.md names $option" grep -qE "^  ${option}[ ,]" <<<"$options"; done < <(
  grep -vE 'cmake|FETCHCONTENT|srun|SBATCH|^(nsys|ncu) ' "$readme" | grep -oE '(^|[ `(])--[a-z][a-z-]+' | tr -d ' `(' | grep -vE '^--(help|preset|build)$' | sort -u)
finish
