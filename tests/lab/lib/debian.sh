# shellcheck shell=bash
# Hosts whose files are those of a Debian that was installed a minute ago, and which have nothing of this machine but its kernel.

# lab_debian NAME PACKAGE… — fetches one of this machine's release, what every Debian has and these packages; LAB_ROOTS=DIR keeps it there for the
# next time.
lab_debian() {
    local root="${LAB_ROOTS:-$LAB_DIR/roots}/$1" suite
    LAB_DEBIAN[$1]=$root
    shift
    [[ ! -e $root.complete ]] || return 0
    command -v debootstrap >/dev/null || scripts/install-deps more
    # What programs built here can run on.
    suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
    step "Debian $suite is fetched, with $*"
    rm -rf "$root"
    mkdir -p "$root"
    debootstrap --include="$(IFS=, && echo "$*")" "$suite" "$root" >"$LAB_OUT/debootstrap.log" 2>&1 || lab_fail "debootstrap: $(tail -3 "$LAB_OUT/debootstrap.log")"
    : >"$root.complete"
}
declare -A LAB_DEBIAN=()

# lab_fresh HOST NAME [PREPARE [UNIT]] — from now on HOST's files are those of lab_debian NAME, under a layer of its own; PREPARE runs before, with the
# host's root directory in $root and the programs' in $bin. With UNIT the real systemd is its first process and starts that; what is to be seen
# by it is typed with `lab_inside`. After lab_topology.
lab_fresh() {
    local host=$1 home="$LAB_DIR/$1/fresh" unit=${4:-} spaces=()
    mkdir -p "$home/layer" "$home/root"
    [[ -z $unit ]] || spaces=(--pid --fork --ipc --cgroup --kill-child)
    # shellcheck disable=SC2016
    nsenter --net="/run/netns/$LAB-$host" unshare --mount --uts --propagation private "${spaces[@]}" -- bash -c '
        set -eu
        host=$1 here=$2 base=$3 bin=$4 unit=$6 root=$2/root
        hostname "$host"
        mount -t tmpfs -o size=2g tmpfs "$here/layer"
        mkdir "$here/layer/upper" "$here/layer/work"
        mount -t overlay -o "lowerdir=$base,upperdir=$here/layer/upper,workdir=$here/layer/work" overlay "$root"
        mount -t proc proc "$root/proc"
        mount -t sysfs sysfs "$root/sys"
        [[ -z $unit ]] || mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
        mount -t tmpfs tmpfs "$root/run"
        mount -t tmpfs -o mode=755 tmpfs "$root/dev"
        mkdir "$root/dev/net" "$root/dev/pts" "$root/dev/shm" "$root/dev/mqueue" "$root/dev/hugepages"
        mount -t devpts -o newinstance,ptmxmode=666 devpts "$root/dev/pts"
        ln -s pts/ptmx "$root/dev/ptmx"
        for node in null:3 zero:5 full:7 random:8 urandom:9; do mknod -m 666 "$root/dev/${node%:*}" c 1 "${node#*:}"; done
        mknod -m 666 "$root/dev/tty" c 5 0
        # As udev makes it.
        mknod -m 666 "$root/dev/net/tun" c 10 200
        printf "127.0.0.1 localhost\n127.0.1.1 %s\n" "$host" >"$root/etc/hosts"
        [[ -L $root/etc/resolv.conf ]] || : >"$root/etc/resolv.conf"
        eval "$5"
        mkdir "$root/old"
        cd "$root"
        pivot_root . old
        umount -l /old
        : >/run/ready
        if [[ -z $unit ]]; then exec sleep infinity; fi
        exec env -i container=lab PATH=/usr/bin:/usr/sbin:/bin:/sbin /lib/systemd/systemd --system --unit="$unit" --log-target=null --show-status=no
    ' holder "$host" "$home" "${LAB_DEBIAN[$2]}" "$SM_BIN" "${3:-}" "$unit" </dev/null >/dev/null 2>"$LAB_OUT/$host.holder.log" 3>&- &
    local holder=$!
    disown
    if [[ -n $unit ]]; then
        lab_wait 5 "a first process on $host ($(cat "$LAB_OUT/$host.holder.log" 2>/dev/null))" pgrep -P "$holder"
        holder=$(pgrep -P "$holder")
    fi
    LAB_HOLDER["$host"]=$holder
    lab_wait 10 "a fresh Debian on $host ($(cat "$LAB_OUT/$host.holder.log" 2>/dev/null))" on "$host" test -e /run/ready
    if [[ -n $unit ]]; then lab_wait 20 "systemd to run on $host" lab_boots "$host"; fi
}
# lab_inside HOST COMMAND… — as one of its own processes, which its systemd can ask about.
lab_inside() {
    local holder=${LAB_HOLDER[$1]}
    shift
    nsenter --target "$holder" --all -- env -i PATH=/usr/local/bin:/usr/bin:/usr/sbin:/bin:/sbin "$@"
}
lab_boots() { [[ $(lab_inside "$1" systemctl is-system-running) == @(running|degraded) ]]; }
