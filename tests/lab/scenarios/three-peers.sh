# shellcheck shell=bash
# Three hosts are one segment: everyone reaches everyone, and a frame for one is not carried to the other once its MAC is known.
# long: members has three hosts as well, and what is flooded is tested without kernels
. "$(dirname "$0")/../lib.sh"
lab_topology relay_three_nat
lab_network
addresses=$(for host in a b c; do lab_address "$host"; done | sort -u | wc -l)
[[ $addresses -eq 3 ]] || lab_fail "two hosts took one address"
for from in a b c; do
    for to in a b c; do
        [[ $from == "$to" ]] || lab_expect "$from reaches $to" on "$from" ping -c 2 -i 0.2 -W 2 "$(lab_address "$to")"
    done
done
lab_expect "a broadcast reaches both others" on a sh -c \
    "ping -6 -c 3 -i 0.3 -W 2 ff02::1%$(lab_device a) | grep -o 'from fe80[^%]*' | sort -u | wc -l | grep -qE '^[23]$'"

received() { on c cat "/sys/class/net/$(lab_device c)/statistics/rx_packets"; }
lab_oracle learning a b --seconds 1
before=$(received)
lab_oracle between-a-and-b a b --seconds "$(quick 3 5)"
strayed=$(($(received) - before))
lab_measure "frames between a and b that came to c" "$strayed" frames
[[ $strayed -lt 100 ]] || lab_fail "c is sent what is between a and b"

# All pairs at once.
oracles=()
for pair in "a b" "b c" "a c"; do
    read -r one two <<<"$pair"
    lab_oracle "all-$one$two" "$one" "$two" --seconds "$(quick 3 5)" --seed "$RANDOM" &
    oracles+=($!)
done
for pid in "${oracles[@]}"; do wait "$pid" || lab_fail "one of the pairs lost frames"; done

# One leaves; the others do not notice.
stop c
lab_oracle without-c a b --seconds "$(quick 2 3)"
