#!/usr/bin/env bash
# A save that fails or dies at any of its system calls leaves the checkpoint before it whole, and the next
# start uses it and leaves nothing over. Injects with strace, at every system call of a save: an error (disk
# full), a full disk from there on, and SIGKILL.
#
#   tests/test_save_faults.sh BUILD/tests/save_faults    exit status 77: skipped, strace cannot be used here
set -euo pipefail
program=$(realpath "$1")

if ! strace -o /dev/null true 2>/dev/null; then
  echo "skipped: strace is missing, or may not trace here"
  exit 77
fi
parent=${TMPDIR:-/tmp}
[[ -w /dev/shm ]] && parent=/dev/shm  # syncs cost nothing there
work=$(mktemp -d "$parent/convoy-save-faults-XXXXXX")
trap 'rm -rf "$work"' EXIT

mkdir "$work/base"
for step in 1 2; do "$program" save "$work/base" $step; done
before=$(cd "$work/base" && cksum -- *)

# The calls of an undisturbed save, and how often each kind came before it.
cp -al "$work/base" "$work/run"
strace -f -o "$work/log" "$program" save "$work/run" 3
rm -rf "$work/run"
sed -nE '/the save begins here/s/.*/MARK/p; s/^[0-9]+ +([a-z_0-9]+)\(.*/\1/p' "$work/log" |
  awk '/^MARK$/ { marked = 1; next } { ++count[$1]; if (marked) print $1, count[$1] }' >"$work/calls"
calls=$(wc -l <"$work/calls")
for needed in openat pwrite64 fsync close rename; do
  grep -q "^$needed" "$work/calls" || { echo "FAILED: a save without $needed"; exit 1; }
done

fail() {
  echo "FAILED: $fault: $1"
  cat "$work/stderr"
  ls -la "$work/run"
  exit 1
}

cases=0 killed=0 failed=0 unharmed=0
inject() {  # call, what and when
  fault="$1:$2"
  rm -rf "$work/run"
  cp -al "$work/base" "$work/run"
  status=0
  (  # the inner shell keeps its "Killed" to itself
    strace -f -o /dev/null -e trace="$1" -e inject="$1:$2" \
      "$program" save "$work/run" 3 2>"$work/stderr"
    exit $?
  ) 2>/dev/null || status=$?
  cases=$((cases + 1))
  case $status in
    0)
      unharmed=$((unharmed + 1))
      [[ $2 == error=* && $1 =~ ^(pwrite64|fsync|rename) ]] && fail "the error went unseen"
      ;;
    1)
      failed=$((failed + 1))
      [[ $(wc -l <"$work/stderr") == 1 ]] || fail "not one line of error"
      compgen -G "$work/run/*.tmp" >/dev/null && fail "a temporary file is left"
      ;;
    137) killed=$((killed + 1)) ;;
    *) fail "exit status $status" ;;
  esac
  step=$("$program" check "$work/run" 2>>"$work/stderr") || fail "the next start fails"
  [[ $step == 3 || ($step == 2 && $status != 0) ]] || fail "the next start goes on from step $step"
  "$program" save "$work/run" 4 2>>"$work/stderr" || fail "the next save fails"
  [[ $("$program" check "$work/run") == 4 ]] || fail "the next save is not found"
}

while read -r call number; do
  inject "$call" "signal=KILL:when=$number"
  case $call in
    exit_group | brk | mmap | munmap | mprotect | madvise | futex) continue ;;  # no disk is concerned
    pwrite64 | fsync | openat | rename*) inject "$call" "error=ENOSPC:when=$number+" ;;
  esac
  inject "$call" "error=ENOSPC:when=$number"
  [[ $call == fsync || $call == close || $call == pwrite64 ]] && inject "$call" "error=EIO:when=$number"
done <"$work/calls"

if [[ $(cd "$work/base" && cksum -- *) != "$before" ]]; then
  echo "FAILED: a save changed a file in place"
  exit 1
fi
if ((killed < calls || failed <= 20)); then
  echo "FAILED: only $killed kills and $failed errors for $calls calls"
  exit 1
fi
echo "soak: {\"campaign\": \"save faults\", \"count\": $cases, \"failures\": 0, \"system_calls\": $calls, \"killed\": $killed}"
echo "passed: $cases faults at $calls system calls of a save:" \
  "killed $killed, error reported $failed, unharmed $unharmed"
