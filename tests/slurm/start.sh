#!/usr/bin/env bash
# Starts a private Slurm with two simulated nodes, everything of it in DIR. No root, systemd or cgroups.
#   eval "$(tests/slurm/start.sh DIR)"        and at the end: tests/slurm/stop.sh DIR
# Exit status 77: it is not installed.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
PATH=$PATH:/usr/sbin:/sbin
for program in slurmctld slurmd munged sbatch srun scontrol; do
  command -v "$program" >/dev/null || {
    echo "no $program: apt-get install --no-install-recommends slurmctld slurmd slurm-client munge" >&2
    exit 77
  }
done
mkdir -p "$1"
dir=$(cd "$1" && pwd)
chmod 755 "$dir"
mkdir -p "$dir"/{munge,state,spool/node1,spool/node2,tmp/node1,tmp/node2}
port=$((20000 + $$ % 20000))
(umask 077; head -c 1024 /dev/urandom >"$dir/munge.key")
munged --force --key-file="$dir/munge.key" --socket="$dir/munge/socket" --pid-file="$dir/munged.pid" \
  --log-file="$dir/munged.log" --seed-file="$dir/munge.seed" >&2
sed -e "s|@DIR@|$dir|g; s|@USER@|$(id -un)|g; s|@HOST@|$(uname -n | cut -d. -f1)|g" \
  -e "s|@PORT@|$port|g; s|@PORT1@|$((port + 1))|g; s|@PORT2@|$((port + 2))|g" "$here/slurm.conf.in" >"$dir/slurm.conf"
# Slurm wants a character device behind each GPU.
mkdir "$dir/dev"
for gpu in {0..7}; do ln -s /dev/null "$dir/dev/nvidia$gpu"; done
echo "Name=gpu Type=v100-32 File=$dir/dev/nvidia[0-7]" >"$dir/gres.conf"
export SLURM_CONF=$dir/slurm.conf
slurmctld -i -c >&2
for node in node1 node2; do slurmd -c -N "$node" >&2; done
for ((i = 0; i < 150; ++i)); do
  if [[ $(sinfo -h -p RM -N -o %T 2>/dev/null | grep -cx idle) -eq 2 ]]; then
    # Ranks of simulated nodes must not try shared memory with one another.
    echo "export SLURM_CONF=$SLURM_CONF OMPI_MCA_btl=self,tcp OMPI_MCA_btl_tcp_if_include=lo OMPI_MCA_pml=ob1"
    exit 0
  fi
  sleep 0.1
done
tail -n 5 "$dir"/*.log >&2
"$here/stop.sh" "$dir"
exit 1
