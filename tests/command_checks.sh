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
# same_weights RUN OTHER: their newest checkpoints are of one step, and hold the same tensors to the last bit.
same_weights() {
  python3 - "$@" <<'PY'
import json, re, struct, sys
def tensors(run):
    latest = open(f"{run}/latest").read().strip()
    data = open(f"{run}/{latest}", "rb").read()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + length])
    header.pop("__metadata__")
    start = 8 + length
    return re.search(r"\d+", latest).group(), {
        name: (t["shape"], data[start + t["data_offsets"][0]:start + t["data_offsets"][1]]) for name, t in header.items()}
first, second = map(tensors, sys.argv[1:])
sys.exit(first != second or not first[1])
PY
}
# only_run_files DIR: nothing is in it but what a complete run leaves.
only_run_files() {
  local name
  for name in "$1"/* "$1"/.[!.]*; do
    case ${name##*/} in
      config.toml | metrics.jsonl | summary.json | latest | best.safetensors | checkpoint-*.safetensors | ".[!.]*") ;;
      *) echo "left over: $name"; return 1 ;;
    esac
  done
}
# until_ok SECONDS COMMAND...: waits until it succeeds.
until_ok() {
  local most=$1 i
  shift
  for ((i = 0; i < most * 4; ++i)); do
    if "$@" >/dev/null 2>&1; then return 0; fi
    sleep 0.25
  done
  return 1
}
# steps RUN N: that many lines of steps stand in its metrics.
steps() { [[ $(grep -sc '"event":"step"' "$1/metrics.jsonl") -ge $2 ]]; }
# in_time: MINUTES have not gone by (0 or none: there is time).
in_time() { [[ ${MINUTES:-0} -eq 0 || $SECONDS -lt $((${MINUTES:-0} * 60)) ]]; }
# soaked NAME COUNT FAILURES [KEY=NUMBER...]: what a campaign of tests/soak.sh came to, for its JSON file.
soaked() {
  local line="soak: {\"campaign\": \"$1\", \"count\": $2, \"failures\": $3" more
  shift 3
  for more in "$@"; do line+=", \"${more%%=*}\": ${more#*=}"; done
  echo "$line}"
}
# finish: the last lines of a test.
finish() {
  echo "$checks checks, $bad wrong"
  [[ $bad -eq 0 ]]
  exit
}
