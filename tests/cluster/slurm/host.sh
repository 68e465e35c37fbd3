#!/bin/bash
# host.sh NAME RUN - first process of one host.  testcluster starts it in new UTS, mount, IPC and
# PID namespaces (and the host's network namespace); when it dies, the kernel ends all others there.
set -euo pipefail
name=$1 run=$2
# /proc is still the machine's own: this is our process id as seen from outside
read -r pid _ </proc/self/stat

hostname "$name"
mount -t proc proc /proc
mount --bind "$run/hosts" /etc/hosts
mount --bind "$run/etc" /etc/slurm
# no name server is reachable from here: an empty file makes look-ups fail at once, not in 10 s
if [ -e /etc/resolv.conf ]; then
  mount --bind "$run/resolv.conf" "$(readlink -f /etc/resolv.conf)"
fi
# each host sees a branch of its own, so that job 7's step on cpu1 is not job 7's step on cpu2
for group in /sys/fs/cgroup/*/"${run##*/}/$name"; do
  [ -d "$group" ] && mount --bind "$group" "${group%/"${run##*/}"/*}"
done
# as on real nodes, nobody else sees these
for folder in /tmp /var/tmp /dev/shm; do mount -t tmpfs -o mode=1777 tmpfs "$folder"; done
# in memory: fast, out of sight of the machine, and gone with the host
if [ "$name" = head ]; then
  mount -t tmpfs -o mode=755,uid=mysql,gid=mysql tmpfs "$run/mysql"
fi

echo "$pid" >"$run/host/.$name"
mv "$run/host/.$name" "$run/host/$name"
# bash collects dead children while it waits on a pipe that nobody writes to
exec 3<> <(:)
while :; do read -r -u 3 _ || true; done
