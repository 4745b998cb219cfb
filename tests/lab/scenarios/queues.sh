# shellcheck shell=bash
# Two queues at both ends (`up --queues 2`): eight transfers, a connection and two kinds of frames beside them through planned moves to the relay and back, and two that
# nobody planned. Every frame comes once and in order, and each queue's thread had its share.
. "$(dirname "$0")/../lib.sh"
lab_topology relay_two_nat
lab_wire a ''
lab_network --queues 2
for host in a b; do
    lab_expect "the device of $host has two queues" on "$host" test -d /sys/class/net/smesh0/queues/tx-1
    lab_expect "and no more" on "$host" test ! -d /sys/class/net/smesh0/queues/tx-2
    lab_expect "and $host says so" lab_status "$host" '.node.queues == 2 or error'
done
# Nothing direct is left when UDP fails.
lab_block_tcp a
lab_direct a b
lab_relay_known

# spent HOST THREAD — what a thread of its daemon had of the processors, ms.
spent() {
    local task
    for task in "/proc/${LAB_PID[$1]}"/task/*; do
        if [[ $(cat "$task/comm") == "$2" ]]; then awk '{ print int($1 / 1e6) }' "$task/schedstat"; fi
    done
}
start server b iperf3 --server
lab_wait 10 "the iperf3 server" on b sh -c "ss -Hltn | grep -q :5201"
declare -A before=()
for host in a b; do before[$host]=$(spent "$host" outbound-1); done

moves=$(quick 2 8)
seconds=$((3 * moves + 8))
# Of two protocols that are none of IP: each is one flow to the kernel, and in whichever queue that is.
lab_oracle frames a b --seconds "$seconds" --max-gap-ms 3000 &
frames=$!
LAB_BESIDE='' lab_oracle others a b --ethertype 0x88b6 --seconds "$seconds" --max-gap-ms 3000 &
others=$!
# Both ways, in all what a device's queue holds while a path is silent: what is dropped there is dropped by the kernel, of whichever flow.
on a iperf3 --client "$(lab_address b)" --parallel 8 --bidir --bitrate 3M --time "$seconds" --json >"$LAB_OUT/load.json" 3>&- &
load=$!
lab_frames_pass a 500
for ((n = 0; n < moves; n++)); do
    if ((n % 2)); then at=a peer=b; else at=b peer=a; fi
    on "$at" shadowmesh path "$peer" --use relay >/dev/null
    for host in a b; do lab_wait 3 "$host to be on the relay ($n)" lab_path "$host" relay-udp; done
    on "$peer" shadowmesh path "$at" --use direct >/dev/null
    for host in a b; do lab_wait 3 "$host to be direct ($n)" lab_path "$host" direct-udp; done
done
for host in a b; do on "$host" shadowmesh path "$(if [[ $host == a ]]; then echo b; else echo a; fi)" --use auto >/dev/null; done
lab_wire_change a both only=peer-udp,block
for host in a b; do lab_wait 3 "$host to be on the relay" lab_path "$host" relay-udp; done
kill -0 "$frames" 2>/dev/null || lab_fail "the moves took longer than the frames"
lab_wire_change a both ''
wait "$frames" || lab_fail "frames were lost, doubled or overtaken"
wait "$others" || lab_fail "frames of the other protocol were lost, doubled or overtaken"
wait "$load" || lab_fail "iperf3: $(jq -r .error "$LAB_OUT/load.json")"
for host in a b; do
    lab_expect "$host lost nothing" lab_status "$host" '.peers[0].lost == 0 or error'
    took=$(($(spent "$host" outbound-1) - before[$host]))
    lab_measure "time of the second queue's thread of $host" "$took" ms
    # Ten milliseconds of work are some hundred frames; a thread that only waits takes none.
    [[ $took -ge 10 ]] || lab_fail "the second queue of $host was read by nobody: $took ms"
done
lab_direct a b 20

# With one queue the device is as it always was, and a number that cannot be is refused.
if on a shadowmesh up --queues 9 >"$LAB_OUT/refused.txt" 2>&1; then lab_fail "nine queues"; fi
grep -q 'a device may have 1 to 8 queues' "$LAB_OUT/refused.txt" || lab_fail "refused with: $(cat "$LAB_OUT/refused.txt")"
stop a
lab_up a --queues 1
lab_connected a 1 || lab_wait 20 "a to be connected" lab_connected a 1
lab_expect "one queue" on a test ! -d /sys/class/net/smesh0/queues/tx-1
