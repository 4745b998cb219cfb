# shellcheck shell=bash
# A host moves between networks with IPv4, IPv6 and both, in all nine ways: nothing is lost, and it is direct again at once.
# long: not part of scripts/test
. "$(dirname "$0")/../lib.sh"
lab_topology relay_two_nat
lab_second_uplink a
lab_internet6
lab_add6 b
lab_relay --listen '[::]:8443'
lab_up a --relay "$RELAY_TICKET"
lab_invite a
lab_up b "$INVITE"
lab_all_connected 20
lab_direct a b

# Every way once: each word is where the next move begins.
before=4 device=eth0
for after in 4 6 6 dual dual 4 dual 6 4; do
    if [[ $device == eth0 ]]; then device=eth1; else device=eth0; fi
    lab_oracle "$before-to-$after" a b --seconds 9 --max-reordered 100000 --max-gap-ms 3000 &
    oracle=$!
    lab_frames_pass a 500
    lab_uplink_family a "$device" "$after"
    began=$(lab_now_ms)
    n=1
    if [[ $device == eth1 ]]; then n=41; fi
    case "$after" in
    4) from="\"198.51.100.${n/#1/11}:\"" ;;
    6) from="\"[2001:db8:$n:\"" ;;
    # Whichever of the two was quicker.
    dual) from="\"198.51.100.${n/#1/11}:\", \"[2001:db8:$n:\"" ;;
    esac
    lab_wait 15 "b to send to $from" lab_status b ".peers[0].path.remote as \$at | any($from; . as \$from | \$at | startswith(\$from)) or error"
    lab_direct a b 15
    took=$(($(lab_now_ms) - began))
    step "from $before to $after: direct again after $took ms"
    lab_took "another family to direct again" "$took" 5000
    wait "$oracle" || lab_fail "frames were lost from $before to $after"
    lab_silence "longest silence, another family" "$before-to-$after" 1000
    before=$after
done
