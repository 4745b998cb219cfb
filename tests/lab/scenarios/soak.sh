# shellcheck shell=bash
# Twenty minutes of TCP both ways, as much as the machine takes, beside counted frames: none is damaged, doubled or out of order, and memory stays flat.
# long: twenty minutes (SOAK_SECONDS=N: others)
. "$(dirname "$0")/../lib.sh"
LAB_NO_CAPTURE=1
TOTAL=${SOAK_SECONDS:-$(quick 20 1200)}
# Until then buffers grow to what the load needs. Growth is judged from there on, and by the hour; of less than ten minutes it says nothing. Judged is what
# the programs themselves take: code and constants become resident when they are used first, a new key after minutes among it, and are the kernel's to drop.
SETTLED=$((TOTAL < 600 ? TOTAL / 2 : 300)) EACH=2
KB_PER_HOUR=1024
lab_topology relay_two_nat open
lab_network
lab_direct a b 10
start server b iperf3 --server
lab_wait 10 "the iperf3 server" on b sh -c "ss -Hltn | grep -q :5201"

on a iperf3 --client "$(lab_address b)" --bidir --time "$((TOTAL + 4))" --json >"$LAB_OUT/load.json" 3>&- &
load=$!
# Frames of the load push out those that are counted where a queue is full: that is no fault. Anything else is.
lab_oracle soak a b --rate 500 --seconds "$TOTAL" --max-lost 1000000000 &
oracle=$!
began=$SECONDS
while kill -0 "$oracle" 2>/dev/null; do
    for who in a b relay; do
        awk -v who="$who" -v at="$((SECONDS - began))" '/^Rss(Anon|File):/ { held = held "\t" $2 } END { print who "\t" at held }' "/proc/${LAB_PID[$who]}/status"
    done >>"$LAB_OUT/resident.tsv"
    sleep "$EACH" # how often it is asked
done
wait "$oracle" || lab_fail "frames were not what they were"
wait "$load" || lab_fail "iperf3: $(jq -r .error "$LAB_OUT/load.json")"
for way in sum_received sum_received_bidir_reverse; do
    lab_measure "TCP, $way" "$(jq ".end.$way.bits_per_second / 1e7 | round / 100" "$LAB_OUT/load.json")" Gbit/s
done
jq -e '[.a_to_b, .b_to_a] | all(.received > .sent / 10)' "$LAB_OUT/soak.json" >/dev/null || lab_fail "hardly a counted frame came through"
for host in a b; do
    lab_expect "$host is on direct-udp" lab_path "$host" direct-udp
    lab_measure "paths that $host changed" "$(lab_switches "$host")" moves
    # Segments that TCP took for reordered, and not for lost.
    reordered=$(on "$host" nstat -asz TcpExtTCPSACKReorder TcpExtTCPTSReorder | awk '!/^#/ { sum += $2 } END { print sum + 0 }')
    lab_measure "reorderings that TCP saw at $host" "$reordered" times 0
    ((reordered == 0)) || lab_fail "TCP saw segments out of order at $host"
done
# What a program has resident at most, what of that is its own, and after SETTLED seconds more than then, the largest change within a minute, and by how much it grows in an hour but for that
# one: a buffer that is bounded may need to be larger than ever before once more. Several such steps are growth, as is what grows a little all the time.
own_memory() {
    awk -v who="$1" -v from="$SETTLED" '
        $1 == who && $3 + $4 > all { all = $3 + $4 }
        $1 == who && $3 > most { most = $3 }
        $1 == who && $2 < from { settled = $3 }
        $1 == who && $2 >= from { minute = int(($2 - from) / 60); at[minute] = $3; until = $2 }
        END {
            before = settled
            for (m = 0; m in at; m++) { change = at[m] - before; if (change > step) step = change; before = at[m] }
            print all, most, before - settled, step + 0, int(until > from ? 3600 * (before - settled - step) / (until - from) : 0)
        }' "$LAB_OUT/resident.tsv"
}
growing=()
for who in a b relay; do
    read -r all most more step slope < <(own_memory "$who")
    lab_measure "$who, resident at most, code and constants included" "$all" kB
    lab_measure "$who, its own memory at most" "$most" kB
    lab_measure "$who, more of it at the end than after $SETTLED s" "$more" kB
    lab_measure "$who, the largest step of that" "$step" kB
    lab_measure "$who grows in an hour, by what it did after $SETTLED s but for that step" "$slope" kB "$KB_PER_HOUR"
    if ((slope > KB_PER_HOUR)); then growing+=("$who by $slope kB an hour"); fi
done
if ((TOTAL >= 600 && ${#growing[@]} > 0)); then lab_fail "memory grows: ${growing[*]}"; fi
