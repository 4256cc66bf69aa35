#!/usr/bin/env bash
# Ends the Slurm that start.sh DIR started: each program by its own pid file.
dir=$1
[[ ! -e $dir/slurm.conf ]] || SLURM_CONF=$dir/slurm.conf timeout 5 scancel -u "$(id -un)" 2>/dev/null
shopt -s nullglob
for file in "$dir"/slurmd.*.pid "$dir"/slurmctld.pid "$dir"/munged.pid; do
  pid=$(<"$file")
  kill "$pid" 2>/dev/null || continue
  for ((i = 0; i < 100; ++i)); do
    [[ $(ps -o stat= -p "$pid") == [^Z]* ]] || break
    sleep 0.1
  done
  kill -9 "$pid" 2>/dev/null
done
exit 0
