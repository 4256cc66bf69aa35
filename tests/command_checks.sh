# shellcheck shell=bash
# For the tests of the built program: its path, a scratch folder to work in, and checks that count.
convoy=$(realpath "${CONVOY:?the built program}")
[[ -x $convoy ]] || { echo "$convoy is not there"; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
checks=0 bad=0
ok() { checks=$((checks + 1)); }
wrong() { checks=$((checks + 1)); bad=$((bad + 1)); echo "wrong: $*"; }

# check WHAT COMMAND...: the command succeeds.
check() {
  local what=$1
  shift
  if "$@"; then ok; else wrong "$what"; fi
}
# refused STATUS PATTERN ARGUMENTS...: one line on stderr that matches, nothing on stdout but help, the status.
refused() {
  local want=$1 pattern=$2 status
  shift 2
  "$convoy" "$@" >out 2>err </dev/null
  status=$?
  if [[ $status -eq $want && $(wc -l <err) -eq 1 ]] && grep -q "^convoy: error: .*$pattern" err; then ok
  else wrong "convoy $* -> $status, wanted $want and: $pattern; got:"; cat err; fi
}
# printed PATTERN ARGUMENTS...: status 0 and the pattern on stdout, stderr empty.
printed() {
  local pattern=$1 status
  shift
  "$convoy" "$@" >out 2>err </dev/null
  status=$?
  if [[ $status -eq 0 && ! -s err ]] && grep -qE -e "$pattern" out; then ok
  else wrong "convoy $* -> $status, wanted on stdout: $pattern; got:"; head -20 out err; fi
}
# finish: the last lines of a test.
finish() {
  echo "$checks checks, $bad wrong"
  [[ $bad -eq 0 ]]
  exit
}
