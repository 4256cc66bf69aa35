#!/usr/bin/env bash
# The README's first command: it reaches 95 %, says what to try next, and ends with a table of the schemes.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bash jobs/demo.sh --out "$work/run" >"$work/out" 2>&1 </dev/null || { cat "$work/out"; exit 1; }
tail -32 "$work/out"
grep -q "run directory: $work/run" "$work/out" || { echo "no run directory"; exit 1; }
[[ $(grep -cE '^  (bash .* && )?build-cpu/convoy (eval|train|predict) ' "$work/out") -eq 3 ]] || { echo "not three commands to try next"; exit 1; }
for row in 'data +-' 'hybrid +A' 'hybrid +B' 'hybrid +C' 'model +C'; do
  grep -qE "^  $row +2 " "$work/out" || { echo "no row $row in the table of the schemes"; exit 1; }
done
grep -q '^# rows that differ from one worker by more than rounding: 0$' "$work/out" || { echo "wrong rows"; exit 1; }
python3 - "$work/run/summary.json" <<'PY'
import json, sys
summary = json.load(open(sys.argv[1]))
accuracy = summary["test_accuracy"]
print(f"test accuracy {accuracy}, {summary['training_seconds']:.1f} s of training")
sys.exit(0 if accuracy >= 0.95 else f"test accuracy {accuracy} is under 0.95")
PY
