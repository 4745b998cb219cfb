# shellcheck shell=bash
# Single frames: put into a tunnel, and listened for where they come out. A part of lib.sh.

# Its whole path: a host begins at the root.
LAB_FRAME=$(realpath "${BASH_SOURCE[0]%/*}/../frame.py")

# lab_frames HOST COUNT FRAME… — puts a frame of frame.py into the host's tunnel, so often, five milliseconds apart.
lab_frames() {
    local host=$1 count=$2
    shift 2
    on "$host" python3 "$LAB_FRAME" "${LAB_DEVICE:-smesh0}" "$count" "$@"
}
# lab_listen LABEL HOST FILTER — notes what comes out of the host's tunnel from now on and fits the filter (pcap-filter(7));
# lab_heard LABEL — how many frames that were so far.
lab_listen() {
    start "$1" "$2" tcpdump -i "${LAB_DEVICE:-smesh0}" -Q in -n -l --immediate-mode "$3"
    lab_wait 5 "tcpdump on $2" grep -q 'listening on' "$LAB_OUT/$1.log"
}
lab_heard() { wc -l <"$LAB_OUT/$1.out"; }
# lab_refused HOST PEER CAUSE — how many frames of the peer its switch did not let in for this cause.
lab_refused() { on "$1" shadowmesh status --json | jq -r ".peers[] | select(.name == \"$2\") | .rx_refused.$3 // 0"; }
