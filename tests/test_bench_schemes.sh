#!/usr/bin/env bash
# bench-schemes and the measured plan of the built program.   CONVOY=build-cpu/convoy
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/command_checks.sh
source "$here/command_checks.sh"
check_python() { if python3 -c "$1"; then ok; else wrong "$1"; fi; }
cat >small.net <<'NET'
input 16x16x3
conv 8 3x3 pad 1
relu
maxpool 2
fc 32
relu
fc 10
NET
cat >norm.net <<'NET'
input 8x8x3
conv 8 3x3 pad 1
bn
relu
fc 10
NET

# Every mode and scheme: right, in all three forms
printed '# rows that differ from one worker by more than rounding: 0' bench-schemes --model small.net --batch-size 12 \
  --workers 2,3 --steps 2 --plan --link-gbps 0.05 --link-us 10 --json table.json --page page.html
check_python 'import json; t = json.load(open("table.json")); rows = t["rows"]
assert t["facts"]["links"] == "simulated, 0.05 GB/s either way, 10 us a message", t["facts"]
assert [(r["mode"], r["scheme"], r["workers"]) for r in rows] == [("one worker", "", 1)] + [x for k in (2, 3) for x in
  [("data", "", k)] + [(m, s, k) for m in ("hybrid", "model") for s in "ABC"]], rows
for r in rows:
  assert 0 <= r["wrong"] <= 1 and r["step_seconds"] > 0 and r["modelled_seconds"] > 0, r
  waits = r["exposed_row_seconds"] + r["exposed_column_seconds"] + r["exposed_gradient_seconds"]
  assert r["compute_seconds"] + waits < r["step_seconds"] + 1e-9 and r["compute_seconds"] > 0, r
  assert abs(r["images_per_second"] * r["step_seconds"] - 12) < 1e-9, r
two = {(r["mode"], r["scheme"]): r for r in rows if r["workers"] == 2}
# 8x8x8 features of 6 other rows, there and back; twice half the parameters, whose tensors begin on cache lines
assert two["hybrid", "A"]["row_bytes"] == two["hybrid", "B"]["row_bytes"] == two["hybrid", "C"]["row_bytes"] == 2 * 6 * 512 * 4
assert 0 <= two["data", ""]["gradient_bytes"] - 4 * (8 * 27 + 8 + 512 * 32 + 32 + 330) < 6 * 64, two["data", ""]
a, b, c = (r for r in rows if r["mode"] == "hybrid" and r["workers"] == 3)
assert a["buffer_bytes"] > b["buffer_bytes"] == c["buffer_bytes"] > 0, (a, b, c)  # 12 rows, or 4 of two passes
# One pass hides nothing: A waits for all of its transfers.
assert a["least_row_seconds"] > 0.9 * a["row_transfer_seconds"] > 0, a'
check_python 'import xml.dom.minidom as m; page = m.parse("page.html")
assert len(page.getElementsByTagName("h3")) == 15, "a timeline a row"
text = open("page.html").read()
for word in ("gather rows", "gather columns", "sum gradients", "rank 2 transfer"): assert word in text, word'

# What a net cannot have is left out, and said
printed '^# left out, model B: .*batch norm in the split half' bench-schemes --model norm.net --batch-size 8 --steps 1
check "scheme A of model is there" grep -qE '^  model +A +2 ' out
printed '^  hybrid +C +2 ' bench-schemes --model small.net --batch-size 8 --steps 1 --modes hybrid --schemes c --fc-batch-size 3
check "modes that were not asked for" test "$(grep -cE '^  ' out)" -eq 2

# Whoever asks for what there is not
refused 2 "--modes 'data,hybird': expected one of data, hybrid, model, .*did you mean hybrid?" bench-schemes --modes data,hybird
refused 2 "--schemes 'a,': expected one of a, b, c" bench-schemes --schemes a,
refused 2 "--workers 'two'" bench-schemes --workers two
refused 2 "--workers '0'" bench-schemes --workers 2,0
refused 2 "--link-us 5 needs --link-gbps" bench-schemes --link-us 5
refused 2 "--steps '0'" bench-schemes --steps 0
refused 2 'nowhere.net' bench-schemes --model nowhere.net
refused 1 '--json nowhere/x: No such file' bench-schemes --model small.net --batch-size 4 --steps 1 --modes data --json nowhere/x

# Under MPI the workers are the processes, and one of them prints
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
if command -v mpirun >/dev/null && "$convoy" info | grep -q '^MPI.*Open MPI'; then
  check "under mpirun" timeout 60 mpirun -np 2 "$convoy" bench-schemes --model small.net --batch-size 8 --steps 1 >out 2>err
  check "one table of 8 rows" test "$(grep -cE '^  ' out)" -eq 8
  check "right under mpirun" grep -qx '# rows that differ from one worker by more than rounding: 0' out
  timeout 60 mpirun -np 2 "$convoy" bench-schemes --workers 2,4 >out 2>err
  check "two numbers of workers under mpirun" grep -q -e '--workers: the workers are the processes' err
else
  echo "no mpirun, or no MPI in this build: left out"
fi

# plan, with layers as measured here
printed '^layers: measured here, cpu_[a-z0-9]+, 2 workers at a time of 1 thread; links of 0.1 GB/s' plan --model small.net \
  --batch-size 16 --workers 2 --scheme b --link-gbps 0.1
printed '"layers": "measured here' plan --model small.net --batch-size 16 --workers 2 --parallel model --json
check_python 'import json; m = json.load(open("out"))["model"]; assert 0 < m["seconds"] < 10 and m["compute_seconds"] > 0, m'
finish
