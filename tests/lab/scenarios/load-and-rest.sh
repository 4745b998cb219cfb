# shellcheck shell=bash
# A daemon with nothing to do wakes three times a second at most and takes little memory; under load it takes more, within bounds, and gives it back. A ping
# beside a saturating transfer is answered in 20 ms, or in three times what the plain line takes; on a machine that is busy otherwise it fails beyond three
# times that.
. "$(dirname "$0")/../lib.sh"
LAB_NO_CAPTURE=1
IDLE=$(quick 10 30) LOADED=$(quick 4 10)
WAKEUPS=3
# What the programs themselves take, kB, code and constants apart (they are the kernel's to drop): a peer that says nothing, and one that is busy, beside
# its ring (16 MiB).
IDLE_PEER=1024 BUSY_PEER=10240 RING=16384
# All that is resident, kB, of programs as they are released: those for tests are larger.
IDLE_ALL=12288
LEAST_MS=20
lab_topology relay_two_nat open
lab_relay
own() { awk '/^RssAnon:/ { print $2 }' "/proc/${LAB_PID[$1]}/status"; }
resident() { awk '/^VmRSS:/ { print $2 }' "/proc/${LAB_PID[$1]}/status"; }
# Without what debuggers need it is a sixth of that.
is_released() { (($(stat --dereference --format %s "/proc/${LAB_PID[a]}/exe") < 40000000)); }
# Waits that ended, of all its threads.
waits() { cat "/proc/${LAB_PID[$1]}"/task/*/status | awk '/^voluntary_ctxt_switches:/ { sum += $2 } END { print sum }'; }
# Some seconds after something happened: the last addresses and routes are settled, and what only the beginning needed is given back.
rest() { lab_hold 12 "everything rests"; }

lab_up a --relay "$RELAY_TICKET"
lab_invite a
rest
alone=$(own a)
lab_up b "$INVITE"
lab_all_connected 20
lab_direct a b
rest
declare -A before=()
for who in a b relay; do before[$who]=$(waits "$who"); done
lab_hold "$IDLE" "nobody says anything"
for who in a b relay; do
    woken=$(jq -n "($(waits "$who") - ${before[$who]}) / $IDLE * 100 | round / 100")
    lab_measure "$who, wake-ups a second with nothing to do" "$woken" 1/s "$WAKEUPS"
    jq -en "$woken <= $WAKEUPS" >/dev/null || lab_fail "$who woke $woken times a second with nothing to do"
done
declare -A idle=() MOST=()
for who in a b relay; do
    idle[$who]=$(own "$who")
    lab_measure "$who, its own memory with nothing to do" "${idle[$who]}" kB
    lab_measure "$who, resident with nothing to do" "$(resident "$who")" kB "$IDLE_ALL"
    if ! is_released; then
        step "not judged: these programs have what debuggers need"
    elif (($(resident "$who") > IDLE_ALL)); then
        lab_fail "$who takes $(resident "$who") kB with nothing to do"
    fi
done
lab_measure "a peer that says nothing takes" "$((idle[a] - alone))" kB "$IDLE_PEER"
((idle[a] - alone <= IDLE_PEER)) || lab_fail "a peer that says nothing takes $((idle[a] - alone)) kB"

start server b iperf3 --server
lab_wait 10 "the iperf3 server" on b sh -c "ss -Hltn | grep -q :5201"
# loaded NAME ADDRESS — pings (200 a second) beside one TCP flow that takes what there is: P99, ms; one that was lost counts as a second. Meanwhile
# how much memory each takes: MOST.
loaded() {
    local name=$1 load ping
    on a iperf3 --client "$2" --time "$((LOADED + 1))" --json >"$LAB_OUT/$name.json" 3>&- &
    load=$!
    on a ping -i 0.005 -W 1 -c "$((200 * LOADED))" "$2" >"$LAB_OUT/$name.ping" &
    ping=$!
    MOST=([a]=0 [b]=0 [relay]=0)
    while kill -0 "$ping" 2>/dev/null; do
        for who in a b relay; do if (($(own "$who") > MOST[$who])); then MOST[$who]=$(own "$who"); fi; done
        sleep 0.1 # how often it is asked
    done
    wait "$ping" || lab_fail "hardly a ping of $name was answered"
    wait "$load" || lab_fail "iperf3 of $name: $(jq -r .error "$LAB_OUT/$name.json")"
    P99=$(awk '/ time=/ { sub(/.* time=/, ""); print $1 + 0; seen++ } /packets transmitted/ { for (; seen < $1; seen++) print 1000 }' "$LAB_OUT/$name.ping" |
        sort -n | awk '{ all[NR] = $1 } END { at = int(NR * 0.99 + 0.999999); print all[at < 1 ? 1 : at] }')
    lab_measure "$name, TCP" "$(jq '.end.sum_received.bits_per_second / 1e7 | round / 100' "$LAB_OUT/$name.json")" Gbit/s
}
loaded plain 203.0.113.34
plain=$P99
lab_measure "plain, p99 of pings beside it" "$plain" ms
# waits_of THREAD — the same as of all, of one thread of a.
waits_of() {
    local task
    for task in "/proc/${LAB_PID[a]}"/task/*; do
        if [[ $(cat "$task/comm") == "$1" ]]; then awk '/^voluntary_ctxt_switches:/ { print $2 }' "$task/status"; fi
    done
}
unloaded=$(waits_of outbound)
loaded tunnel "$(lab_address b)"
lab_took "p99 of pings through the tunnel beside it" "$P99" "$(jq -n "[3 * $plain, $LEAST_MS] | max | ceil")"
shrunk() { (($(own "$1") <= idle[$1] + IDLE_PEER)); }
for who in a b relay; do
    lab_measure "$who, its own memory under load, at most" "${MOST[$who]}" kB
    ((MOST[$who] - idle[$who] <= BUSY_PEER + RING)) || lab_fail "$who takes $((MOST[$who] - idle[$who])) kB for a peer that is busy"
    lab_wait 20 "$who to give back what it took for the load" shrunk "$who"
done
# The thread that helped under load has given its half back, and hears of nothing any more.
helped=$(waits_of outbound) did=$(waits_of inbound)
((helped > unloaded)) || lab_fail "nobody helped under load"
on a ping -q -i 0.01 -c 100 "$(lab_address b)" >"$LAB_OUT/alone.ping"
lab_measure "waits of the thread that helped, with a ping alone" "$(($(waits_of outbound) - helped))" waits 0
[[ $(waits_of outbound) == "$helped" ]] || lab_fail "a half was not given back after the load"
(($(waits_of inbound) >= did + 100)) || lab_fail "the ping was answered by nobody"
for host in a b; do lab_expect "$host was on direct-udp" lab_path "$host" direct-udp; done
