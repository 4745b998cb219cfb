# shellcheck shell=bash
# Ten peers behind one NAT, who do not reach each other inside: every one of the 45 pairs is direct, by the NAT's outside address, and stays so over
# an hour's mappings and two hours' rekeys, in two minutes, and where nothing but heartbeats keeps the mappings. In the short form five of them, for seconds.
# long: ten daemons for two minutes
. "$(dirname "$0")/../lib.sh"
lab_topology relay_two_nat
read -ra hosts < <(quick "a b c d j" "a b c d e f g h i j")
for ((n = 3; n < ${#hosts[@]}; n++)); do lab_host "${hosts[n - 1]}" "$n"; done
others=$((${#hosts[@]} - 1))
seconds=${LAB_SECONDS:-$(quick 6 120)}
# The last has no number of its own in the addresses outside, and needs none.
LAB_HOSTS+=(j)
lab_namespace j
ip -n "$LAB-j" link add eth0 type veth peer name spare
for host in "${hosts[@]:1}"; do lab_same_lan a "$host"; done
lab_isolate a j
# What the router knows of a flow lives 4 s, a thirtieth of two minutes (RFC 4787 §4.3), and keys 2 s, a sixtieth of 120 s.
on ra sh -c 'for name in udp_timeout udp_timeout_stream; do echo 4 >/proc/sys/net/netfilter/nf_conntrack_$name; done'
# find_each_other NAME COMMAND… — COMMAND begins them all; frames between two pass from the first on, while all look for each other.
find_each_other() {
    local name=$1 oracle host
    shift
    lab_oracle "$name" a j --from-first 60 --seconds "$(quick 6 12)" &
    oracle=$!
    "$@"
    for host in "${hosts[@]}"; do lab_wait 40 "$host to be direct to all others" all_direct "$host"; done
    wait "$oracle" || lab_fail "frames were lost while they looked for each other"
}
all_direct() {
    lab_status "$1" '([.peers[] | select(.path.kind == "direct-udp" and .paths_agree and (.path.remote | startswith("198.51.100.11:")))] | length) == '"$others"'
        or error([.peers[] | select(.path.kind != "direct-udp" or .paths_agree == false) | {name, path}] | tostring)'
}
find_each_other found lab_network --rekey-interval 2s
declare -A moves=()
for host in "${hosts[@]}"; do moves[$host]=$(lab_status "$host" '[.peers[].switches] | add'); done
# Between two of them frames all the time; the other pairs say nothing but what they must.
lab_oracle hour a j --seconds "$seconds"
for host in "${hosts[@]}"; do
    lab_expect "$host is direct to all others" all_direct "$host"
    lab_expect "$host rekeyed" lab_status "$host" "([.peers[].handshake.rekeys] | min) >= $seconds * 5 / 12 or error"
    lab_expect "$host lost nothing" lab_status "$host" '([.peers[].lost] | add) == 0 or error'
    now=$(lab_status "$host" '[.peers[].switches] | add')
    [[ $now == "${moves[$host]}" ]] || lab_fail "$host moved $((now - moves[$host])) times"
done
# Every pair, not only the two: nobody has to look for anybody.
for host in "${hosts[@]:1}"; do lab_expect "a reaches $host" on a ping -c 2 -i 0.2 -W 1 "$(lab_address "$host")"; done

# direct_pairs — how many there are, each seen from both ends.
direct_pairs() {
    local host seen=0
    for host in "${hosts[@]}"; do seen=$((seen + $(lab_status "$host" '[.peers[] | select(.path.kind == "direct-udp" and .paths_agree)] | length'))); done
    echo $((seen / 2))
}
lab_measure "direct pairs of $((${#hosts[@]} * others / 2))" "$(direct_pairs)" pairs
[[ $(direct_pairs) == $((${#hosts[@]} * others / 2)) ]] || lab_fail "not all pairs are direct"

[[ -z ${LAB_QUICK:-} ]] || exit 0
# Nobody says anything, no key is replaced, and the router forgets what is silent for half a minute.
for host in "${hosts[@]}"; do stop "$host"; done
on ra sh -c 'for name in udp_timeout udp_timeout_stream; do echo 30 >/proc/sys/net/netfilter/nf_conntrack_$name; done'
begin_anew() { for host in "${hosts[@]}"; do lab_up "$host" --rekey-interval 120s; done; }
find_each_other found-anew begin_anew
where() { lab_status "$1" '[.peers[] | [.name, .path.remote]] | sort | tostring'; }
declare -A remotes=()
for host in "${hosts[@]}"; do
    moves[$host]=$(lab_status "$host" '[.peers[].switches] | add')
    remotes[$host]=$(where "$host")
done
lab_hold 100 "nobody says anything"
for host in "${hosts[@]}"; do
    lab_expect "$host is direct to all others" all_direct "$host"
    lab_expect "$host has the keys that it had" lab_status "$host" '([.peers[].handshake.rekeys] | add) == 0 or error'
    [[ $(where "$host") == "${remotes[$host]}" ]] || lab_fail "$host was seen elsewhere: a mapping was not kept"
    [[ $(lab_status "$host" '[.peers[].switches] | add') == "${moves[$host]}" ]] || lab_fail "$host moved"
done
lab_oracle afterwards a j --seconds 3
