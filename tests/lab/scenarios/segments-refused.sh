# shellcheck shell=bash
# The way to the peer refuses a call with many segments, as the kernel does for one that IPsec takes (EIO): they go one by one, and no frame is lost, doubled or out of order.
# long: strace stands in for the kernel's refusal, and few have it
. "$(dirname "$0")/../lib.sh"
command -v strace >/dev/null || lab_fail "strace is not there: scripts/install-deps more"
lab_topology relay_two_nat open
lab_network
lab_direct a b 10
start server b iperf3 --server
lab_wait 10 "the iperf3 server" on b sh -c "ss -Hltn | grep -q :5201"
lab_oracle frames a b --seconds 20 --max-lost 1000000 &
oracle=$!
# Less than what fills a queue: what is dropped there is nobody's refusal.
on a iperf3 --client "$(lab_address b)" --bitrate 300M --time 20 --json >"$LAB_OUT/load.json" 3>&- &
load=$!
lab_frames_pass b 500

# refuse — the fiftieth call that sends from now on is refused, and the next, by which a library tries the same without what old kernels do not know; the 300 after them are
# looked at. All of them → $LAB_OUT/calls.
with_segments='cmsg_level=SOL_UDP, cmsg_type=(UDP_SEGMENT|0x67)'
refuse() {
    local tracer
    strace --follow-forks --attach="${LAB_PID[a]}" --trace=sendmsg --inject=sendmsg:error=EIO:when=50..51 2>"$LAB_OUT/calls" 3>&- &
    tracer=$!
    lab_wait 5 "so many calls" looked_at
    kill "$tracer"
    wait "$tracer" || true
}
later() { awk '/INJECTED/ { seen++; next } seen >= 2' "$LAB_OUT/calls"; }
looked_at() { [[ $(later | grep -c sendmsg) -ge 300 ]]; }
# One datagram alone that is refused is lost, as on any kernel: these are counted. The library says the same without what old kernels do not know once, and not again.
alone=0
for ((n = 0; ; n++)); do
    ((n < 20)) || lab_fail "segments go where they are refused"
    refuse
    hit=$(grep INJECTED "$LAB_OUT/calls" | grep -Ec "$with_segments") || true
    alone=$((alone + 2 - hit))
    # A call of another thread may have been on its way.
    after=$(later | tail -n +3 | grep -Ec "$with_segments") || true
    if ((hit > 0 && after == 0)); then break; fi
done
lab_expect "there were calls with segments before" grep -Eq "$with_segments" <(sed '/INJECTED/,$d' "$LAB_OUT/calls")
wait "$oracle" || lab_fail "frames were not what they were"
wait "$load" || lab_fail "iperf3: $(jq -r .error "$LAB_OUT/load.json")"
lab_measure "lost, of $alone that were refused alone" "$(jq .a_to_b.lost "$LAB_OUT/frames.json")" frames "$alone"
jq -e ".a_to_b.lost <= $alone and .b_to_a.lost == 0" "$LAB_OUT/frames.json" >/dev/null || lab_fail "frames were lost"
for host in a b; do lab_expect "$host is on direct-udp" lab_path "$host" direct-udp; done
lab_measure "TCP" "$(jq '.end.sum_received.bits_per_second / 1e7 | round / 100' "$LAB_OUT/load.json")" Gbit/s
