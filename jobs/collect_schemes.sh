#!/usr/bin/env bash
# One table from the JSON files of jobs/schemes_array.sbatch.
#   bash jobs/collect_schemes.sh [DIR]        default runs/schemes; the table also becomes DIR/schemes.txt
set -euo pipefail
dir=${1:-runs/schemes}
shopt -s nullglob
files=("$dir"/workers-*.json)
[[ ${#files[@]} -gt 0 ]] || { echo "$dir holds no workers-*.json: run jobs/schemes_array.sbatch" >&2; exit 2; }
python3 - "${files[@]}" <<'PY' | tee "$dir/schemes.txt"
import json, sys

results = []
for name in sys.argv[1:]:
    with open(name) as file:
        try:
            results.append((name, json.load(file)))
        except ValueError as error:
            sys.exit(f"{name}: {error}: run that task of the array again")
facts = results[0][1]["facts"]
for name, value in facts.items():
    others = {str(result["facts"].get(name)) for _, result in results}
    print(f"# {name}: {value if len(others) == 1 else ' | '.join(sorted(others))}")
rows = sorted((row for _, result in results for row in result["rows"]), key=lambda row: row["workers"])
alone = set()  # each file has the row of one worker
rows = [row for row in rows if row["workers"] > 1 or not (row["mode"] in alone or alone.add(row["mode"]))]
columns = [name for name in rows[0] if any(row.get(name) not in (None, "") for row in rows)]
cell = lambda value: "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
table = [columns] + [[cell(row.get(name)) for name in columns] for row in rows]
widths = [max(len(line[c]) for line in table) for c in range(len(columns))]
for line in table:
    print("  ".join(text.rjust(width) for text, width in zip(line, widths)).rstrip())
PY
