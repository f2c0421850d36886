#!/usr/bin/env bash
# A machine for roles to be applied to, in the caller's network namespace: the file system of this one under a layer of memory, with processes,
# mounts, name and control group of its own, and Debian's systemd as process 1, which starts nothing but itself and its journal.
#
#   machine.sh NAME DIR    DIR/NAME.pid appears when it is up, and holds the id of its process 1; DIR itself is the same inside.
#
# It ends with its caller.
set -euo pipefail
readonly name=$1 dir=$2

begin() {
    # Whoever enters a network namespace sees another /sys, without the groups.
    local groups=$dir/$name.groups group
    mkdir -p "$groups"
    mount -t cgroup2 cgroup2 "$groups"
    group=$groups/portway${dir##*/}-$name
    mkdir -p "$group"
    echo $$ >"$group/cgroup.procs"
    exec unshare --mount --pid --uts --ipc --cgroup --fork --kill-child --propagation private bash "$0" "$name" "$dir" inside
}

# What the image has enabled is not wanted, nor what makes a machine of hardware out of it.
enable_nothing() {
    local root=$1 wants unit
    for wants in "$root"/usr/lib/systemd/system/*.wants "$root"/etc/systemd/system/*.wants; do rm -rf "$wants"; done
    mkdir -p "$root"/usr/lib/systemd/system/{sockets,sysinit}.target.wants
    for unit in journald journald-dev-log; do
        ln -s "../systemd-$unit.socket" "$root/usr/lib/systemd/system/sockets.target.wants/"
    done
    ln -s ../systemd-journald.service "$root/usr/lib/systemd/system/sysinit.target.wants/"
    rm -rf "$root"/etc/portway "$root"/var/lib/portway "$root"/etc/cni "$root"/opt/cni
    # A package's services are started as anywhere. Manual pages of all packages are not indexed anew, and apt, which reads its lists each time, has none.
    rm -f "$root"/usr/sbin/policy-rc.d "$root"/var/lib/man-db/auto-update
    rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*.bin
}

devices() {
    local root=$1 device
    mount -t tmpfs -o mode=755 dev "$root/dev"
    mkdir "$root"/dev/{net,pts,shm}
    for device in null zero full random urandom tty net/tun; do
        touch "$root/dev/$device"
        mount --bind "/dev/$device" "$root/dev/$device"
    done
    mount -t devpts -o newinstance,ptmxmode=666 devpts "$root/dev/pts"
    ln -s pts/ptmx "$root/dev/ptmx"
    ln -s /proc/self/fd "$root/dev/fd"
    ln -s null "$root/dev/console"
}

inside() {
    local pid root=$dir/$name
    read -r pid _ </proc/self/stat # as /proc of the caller's namespace has it
    mkdir -p "$root"
    mount -t tmpfs tmpfs "$root"
    mkdir "$root"/{files,work,root}
    mount -t overlay overlay -o "lowerdir=/,upperdir=$root/files,workdir=$root/work" "$root/root"
    root=$root/root
    enable_nothing "$root"
    devices "$root"
    mount -t proc proc "$root/proc"
    mount -t sysfs -o ro sysfs "$root/sys"
    mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
    mount -t tmpfs -o mode=755 run "$root/run"
    mount -t tmpfs tmp "$root/tmp"
    mkdir -p "$root$dir"
    mount --bind "$dir" "$root$dir"
    if [[ -d /lib/modules/$(uname -r) ]]; then mount --rbind /lib/modules "$root/lib/modules"; fi
    hostname "$name"
    echo "$name" >"$root/etc/hostname"
    echo "$pid" >"$dir/$name.new"
    mkdir "$root/run/outside"
    cd "$root"
    pivot_root . run/outside
    mv "$dir/$name.new" "$dir/$name.pid"
    umount --lazy /run/outside
    exec env -i container=lab PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \
        /lib/systemd/systemd --system --unit=basic.target --log-target=null
}

case ${3-} in
    '') exec unshare --mount --propagation private bash "$0" "$name" "$dir" begin ;;
    *) "$3" ;;
esac
