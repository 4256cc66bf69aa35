#!/usr/bin/env bash
# The README's first command: it reaches 95 % and ends with what to try next.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bash jobs/demo.sh --out "$work/run" >"$work/out" 2>&1 </dev/null || { cat "$work/out"; exit 1; }
tail -8 "$work/out"
grep -q "run directory: $work/run" "$work/out" || { echo "no run directory"; exit 1; }
[[ $(grep -cE '^  (bash .* && )?build-cpu/convoy (eval|train|predict) ' "$work/out") -eq 3 ]] || { echo "not three commands to try next"; exit 1; }
python3 - "$work/run/summary.json" <<'PY'
import json, sys
summary = json.load(open(sys.argv[1]))
accuracy = summary["test_accuracy"]
print(f"test accuracy {accuracy}, {summary['training_seconds']:.1f} s of training")
sys.exit(0 if accuracy >= 0.95 else f"test accuracy {accuracy} is under 0.95")
PY
