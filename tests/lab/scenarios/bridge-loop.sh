# shellcheck shell=bash
# Two hosts bridge their tunnels to one LAN: the loop is found and contained within a second, the LAN stays reachable, and when it is mended that shows.
. "$(dirname "$0")/../lib.sh"
lab_topology relay_three_nat
lab_network

# A LAN of its own, with a host h on it; the address of c in its range lies on the tunnel.
lab_namespace lan
on lan ip link add br0 type bridge
on lan ip link set br0 up
lab_namespace h
plug() { # NAMESPACE DEVICE
    ip -n "$LAB-lan" link add "l-$1" type veth peer name "$2" netns "$LAB-$1"
    ip -n "$LAB-lan" link set "l-$1" master br0 up
    ip -n "$LAB-$1" link set "$2" up
}
bridge() { # HOST — its tunnel and the LAN
    on "$1" ip link add br0 type bridge
    on "$1" ip link set br0 up
    on "$1" ip link set "$(lab_device "$1")" master br0
    plug "$1" lan0
    on "$1" ip link set lan0 master br0
}
plug h eth0
on h ip address add 172.31.9.2/24 dev eth0
on c ip address add 172.31.9.3/24 dev "$(lab_device c)"
bridge a
lab_expect "c reaches the LAN through a" on c ping -c 3 -i 0.3 -W 3 172.31.9.2
loop() { lab_status "$1" ".switch.loop | .state == \"$2\" or error"; }
for host in a b; do lab_expect "$host knows of no loop" loop "$host" none; done

# The second bridge closes it. Of the two the one with the higher MAC gives way.
gives_way=a stays=b
if [[ $(lab_status a .node.mac) < $(lab_status b .node.mac) ]]; then gives_way=b stays=a; fi
began=$(lab_now_ms)
bridge b
# Something that goes round; nobody answers it.
start shout h ping -c 1 -W 1 -b 172.31.9.255
lab_wait 3 "the loop to be contained" loop "$gives_way" blocked
took=$(($(lab_now_ms) - began))
# Building the bridge and asking for the status are in it.
lab_within "loop found and contained" "$took" 1000
lab_wait 3 "people to be told" grep -q "bridged to one LAN" "$LAB_OUT/$gives_way.log" "$LAB_OUT/$gives_way.out"

frames() { on lan cat /sys/class/net/l-h/statistics/tx_packets; }
before=$(frames)
lab_hold "$(quick 1 3)" "nothing is to go round"
stormed=$(($(frames) - before))
lab_measure "frames that came to the LAN's host meanwhile" "$stormed" frames
[[ $stormed -lt $(quick 50 100) ]] || lab_fail "the storm goes on"
lab_expect "c reaches the LAN all the same" on c ping -c 3 -i 0.2 -W 3 172.31.9.2
on c ip neigh flush dev "$(lab_device c)"
lab_expect "and finds it by ARP" on c ping -c 2 -i 0.3 -W 3 172.31.9.2

# Members' own frames are not hurt by any of this. (The two that bridge have no address on the tunnel: no transfer beside. A bridge takes frames before
# whoever listens for one ethertype, but not for all, as with tags.)
LAB_BESIDE='' lab_oracle frames a c --seconds 2 --vlan 7

[[ -z ${LAB_QUICK:-} ]] || exit 0
# By a probe of its own: ten seconds apart where nothing looks like a loop to it.
lab_wait 15 "$stays to know of it" loop "$stays" contained
# The one that gave way is unplugged.
on "$gives_way" ip link set lan0 down
lab_wait 60 "the loop to be over" loop "$gives_way" none
# A host that speaks is found where it is now, also by whoever knew it behind the bridge that is gone.
lab_expect "the LAN reaches c" on h ping -c 3 -i 0.3 -W 3 172.31.9.3
lab_expect "c reaches the LAN" on c ping -c 2 -i 0.3 -W 3 172.31.9.2
