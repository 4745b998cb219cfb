# shellcheck shell=bash
# A session that nobody uses rests, at both ends and at no cost; who speaks wakes it within a second, and no frame is lost to that, also where both speak
# at once, or just when it was about to end.
# long: it is silences that are tried, one after the other
. "$(dirname "$0")/../lib.sh"
lab_topology relay_three_nat
# Without certificates: members of a few keep sessions for news of who is one.
lab_network --certificates off
# A kernel speaks IPv6 whenever it likes (router solicitations, MLD), and would wake who sleeps.
lab_only_oracle a b c
IDLE=3
peer() { lab_status "$1" ".peers[] | select(.name == \"$2\") | ($3) or error(tostring)"; }
# pair A B WHAT FILTER — waits until it is so of the other at each of the two.
pair() {
    lab_wait "${5:-20}" "$1 and $2 $3" peer "$1" "$2" "$4"
    lab_wait "${5:-20}" "$2 and $1 $3" peer "$2" "$1" "$4"
}
rests() { pair "$1" "$2" "to let their session end" '.state == "idle" and .handshake == null and .path == null and .asleep.last_path == "direct-udp"'; }
is_direct() { pair "$1" "$2" "to be direct" '.state == "connected" and .asleep == null and .path.kind == "direct-udp" and .paths_agree' 5; }
for two in "a b" "b c" "a c"; do
    read -r one other <<<"$two"
    is_direct "$one" "$other"
done

# From now on, while they run.
forwarded=$(lab_forwarded)
for host in a b c; do
    lab_expect "$host lets sessions rest" on "$host" sh -c "printf 'sessions = \"on-demand\"\nidle_after = \"${IDLE}s\"\n' >>/var/lib/shadowmesh/config.toml"
    lab_expect "and reads that again" on "$host" sh -c "shadowmesh reload --json | jq -e '.sessions == \"on-demand\" and .idle_after == \"${IDLE}s\"'"
done
began=$(lab_now_ms)
for two in "a b" "b c" "a c"; do
    read -r one other <<<"$two"
    rests "$one" "$other"
done
lab_within "until all three sessions rest" $(($(lab_now_ms) - began)) 15000
lab_expect "status says so once" sh -c "nsenter --target ${LAB_HOLDER[b]} --net --mount --uts -- shadowmesh status | grep -c 'wakes with the first frame' | grep -qx 1"

# What that costs: nothing of the pairs goes over the relay, and a host says no more than it must to be registered.
resident() { awk '/^VmRSS:/ { print $2 }' "/proc/${LAB_PID[b]}/status"; }
sent() { on b cat /sys/class/net/eth0/statistics/tx_packets; }
span=$(quick 10 60)
forwarded=$(lab_forwarded) packets=$(sent)
lab_hold "$span" "nobody says anything"
forwarded=$(($(lab_forwarded) - forwarded)) packets=$(($(sent) - packets))
lab_measure "bytes that the relay forwarded for three sessions at rest" "$forwarded" bytes 0
lab_measure "packets that a host with two of them sent in $span s" "$packets" packets
lab_measure "resident memory of a daemon with two of them" "$(resident)" KiB
[[ $forwarded -eq 0 ]] || lab_fail "the relay forwarded $forwarded bytes for sessions that rest"
# Heartbeats and STUN to the relay, each four a minute at most with what TCP answers; a direct path alone takes as many.
[[ $packets -le $((span / 2 + 10)) ]] || lab_fail "a host at rest sent $packets packets in $span s"
for host in a b c; do
    lab_expect "nobody woke $host" lab_status "$host" "([.peers[] | select(.state == \"idle\" and .asleep.age_s >= $((span - 1)))] | length) == 2 or error(.peers | tostring)"
done

# Who speaks wakes whom it speaks to, and nobody else; whichever of the two it is.
for two in "b c" "c b"; do
    read -r one other <<<"$two"
    address=$(lab_address "$other")
    lab_expect "the first ping from $one to $other is answered within a second" on "$one" ping -c 1 -W 1 "$address"
    lab_measure "the first ping to who rests" "$(sed -n 's/.* time=\([0-9.]*\) ms.*/\1/p' "$LAB_OUT/last-command.txt")" ms 1000
    lab_expect "and those after it, every one" on "$one" sh -c "ping -c 5 -i 0.2 -W 1 $address | grep -F ' 0% packet loss'"
    is_direct b c
    lab_expect "a was left alone" lab_status a '([.peers[] | select(.state == "idle")] | length) == 2 or error(.peers | tostring)'
    rests b c
done
lab_expect "shadowmesh ping wakes as well" on c sh -c "shadowmesh ping b -c 2 -i 0.2 --json | jq -e '.received == 2 and .replies[0].woken_ms < 1000 and .replies[1].woken_ms == null'"
rests b c

# Both at once, at full rate from the first frame on. No connection beside it: that would come first.
LAB_BESIDE=''
missed() { lab_status "$1" '[.peers[] | .lost + .tx_dropped] | add'; }
declare -A missed_before=([b]=$(missed b) [c]=$(missed c))
lab_oracle both-at-once b c --seconds "$(quick 3 5)"
is_direct b c
# Just when it is about to end: one asks after $IDLE s, the other a second later, and the answers take a moment.
rounds=0
for silence in $(quick "2.98 3.02 4.02" "2.9 2.96 2.98 3 3.01 3.02 3.04 3.06 3.1 3.2 3.97 4 4.01 4.02 4.04 4.1"); do
    rounds=$((rounds + 1))
    lab_hold "$silence" "nothing"
    lab_oracle "after-$silence-s" b c --seconds 0.5 --rate 200
done
for host in b c; do [[ $(missed "$host") == "${missed_before[$host]}" ]] || lab_fail "$host counts $(($(missed "$host") - missed_before[$host])) frames lost"; done
lab_measure "silences of about as long as a session may rest" "$rounds" times

# Without a relay nobody can be woken, and nobody is called idle who cannot: but whose session lives does not let it end then. When it is back, nobody
# greets anybody for that.
lab_oracle awake b c --seconds 1 --rate 200
is_direct b c
stop relay KILL
pair a b "to say that nobody can wake the other" '.state == "offline" and .asleep == null'
pair a c "to say the same" '.state == "offline" and .asleep == null'
lab_hold $((2 * IDLE + 1)) "nobody says anything, and there is no relay"
pair b c "to have their session still" '.state == "connected" and .path.kind == "direct-udp"' 1
lab_oracle no-relay b c --seconds "$(quick 2 8)"
lab_relay
for two in "a b" "a c" "b c"; do
    read -r one other <<<"$two"
    rests "$one" "$other"
done
for host in b c; do lab_expect "$host was not woken by that" lab_status a "(.peers[] | select(.name == \"$host\") | .asleep.age_s) > $IDLE or error(.peers | tostring)"; done
lab_expect "a ping from a to b wakes as before" on a ping -c 1 -W 1 "$(lab_address b)"
is_direct a b

# One that dies while its sessions rest is not called idle any more, and is greeted when it is back.
rests b c
stop c KILL
lab_wait 5 "b to say that c is gone" peer b c '.state == "offline" and .asleep == null'
lab_up c
lab_wait 20 "b and c to be connected" peer b c '.state == "connected"'
lab_only_oracle c
lab_oracle afterwards b c --seconds 2
# One that has just begun met everybody once, to know who is who; then it rests as well.
for host in a b; do rests "$host" c; done
