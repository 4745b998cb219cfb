# shellcheck shell=bash
# The lab proves itself: every router does what its name says, and the oracle sees every fault that the wire makes.
# long: about the lab, not about the product
. "$(dirname "$0")/../lib.sh"
lab_topology relay_two_nat
for type in open firewall full-cone address-restricted port-shifting symmetric udp-blocked tcp-443 relay-only port-restricted; do
    lab_nat a "$type"
done
lab_rebind a
lab_rebound a
step "after a rebind the router of a gives one other port for all (checked)"
lab_carrier a
lab_second_uplink b
lab_internet6
lab_add6 b
lab_only6 b

# A router that is not what it says is found out: one that lets TCP out where only 443 should, one whose TCP is symmetric.
found_out() { # WHAT EXPECT
    if (lab_does b "$2" "$1") 3>/dev/null; then lab_fail "$1 is not noticed"; fi
    step "$1 is noticed"
}
lab_no6 b
lab_nat b udp-blocked
found_out "TCP to other ports than 443" 'false null null null; true false null null'
lab_nat b symmetric
found_out "a port for each destination by TCP" 'true endpoint-dependent address-and-port-dependent *; true true endpoint-independent address-and-port-dependent'
# One that lets in by address remembers whom its host talks to for two minutes from the last packet, not from the first.
lab_nat b address-restricted
remembered() { on rb nft -j list set ip lab talked_to | jq "[.nftables[].set.elem // [] | .[].elem | select(.val == \"$RELAY_ADDRESS\").expires] | max"; }
was_a_while_ago() { [[ $(remembered) -lt 118 ]]; }
lab_expect "b talks to the relay" on b ping -c 1 -W 1 "$RELAY_ADDRESS"
lab_wait 10 "that to be a while ago" was_a_while_ago
lab_expect "b still talks to the relay" on b ping -c 1 -W 1 "$RELAY_ADDRESS"
[[ $(remembered) -ge 119 ]] || lab_fail "who is talked to is remembered for $(remembered) s more, not two minutes"
lab_nat b port-restricted

# Two ends and a wire between them.
for end in left right; do
    lab_namespace "$end"
    ip -n "$LAB-net" link add "w-$end" type veth peer name v netns "$LAB-$end"
    ip -n "$LAB-net" link set "w-$end" up
    ip -n "$LAB-$end" link set v up
done
mkfifo "$LAB_DIR/commands"
start wire net sh -c "exec '$LAB_TOOLS/wire' --a :w-left --b :w-right <>'$LAB_DIR/commands'"
lab_wait 5 "the wire" grep -q ready "$LAB_OUT/wire.out"

# counts FAULTS EXPECTED — the oracle's counts [lost, duplicated, reordered, corrupted] of left to right, as a jq condition.
counts() {
    echo "a-to-b $1" >"$LAB_DIR/commands"
    "$LAB_TOOLS/oracle" run --seconds 2 --a "$LAB-left:v" --b "$LAB-right:v" >"$LAB_OUT/oracle.json" 2>/dev/null || true
    local seen
    seen=$(jq -c '[.a_to_b | .lost, .duplicated, .reordered, .corrupted]' "$LAB_OUT/oracle.json")
    jq -e "$2" "$LAB_OUT/oracle.json" >/dev/null || lab_fail "with «$1» the oracle counts $seen, which is not $2"
    jq -e '.b_to_a | .lost + .duplicated + .reordered + .corrupted == 0' "$LAB_OUT/oracle.json" >/dev/null ||
        lab_fail "with «$1» one way the other way suffers too"
    step "«$1» is seen as $seen"
}
counts '' '.a_to_b | .lost + .duplicated + .reordered + .corrupted == 0'
counts 'nth=50' '.a_to_b | .lost == 40 and .duplicated + .reordered + .corrupted == 0'
counts 'loss=10%' '.a_to_b | .lost > 120 and .lost < 280'
counts 'burst=1%x20,delay=1ms' '.a_to_b | .lost > 100 and .longest_gap_ms >= 19'
counts 'duplicate=10%' '.a_to_b | .duplicated > 120 and .duplicated < 280 and .lost + .reordered == 0'
counts 'reorder=5%,reorder-by=5ms' '.a_to_b | .reordered > 50 and .lost + .duplicated == 0'
counts 'delay=30ms,jitter=5ms' '.a_to_b | .delay_ms.p50 >= 30 and .lost + .reordered == 0'
counts 'mtu=600' '.a_to_b | .lost > 800'
counts 'block' '.a_to_b | .received == 0'

# Damage: a rule of the kernel clears bytes of every hundredth frame.
echo "a-to-b" >"$LAB_DIR/commands"
on right nft 'table netdev damage { chain in { type filter hook ingress device v priority 0; ether type 0x88b5 numgen inc mod 100 == 0 @ll,432,32 set 0; }; }'
"$LAB_TOOLS/oracle" run --seconds 2 --a "$LAB-left:v" --b "$LAB-right:v" >"$LAB_OUT/oracle.json" 2>/dev/null && lab_fail "damage is not noticed"
jq -e '.a_to_b | .corrupted == 20 and .lost == 20' "$LAB_OUT/oracle.json" >/dev/null || lab_fail "damaged frames are counted wrongly"
step "20 damaged frames are seen as 20"

# A device that goes away and comes back, another one under the name: what was sent meanwhile is missing, and nothing else.
on right nft flush ruleset
stop wire
"$LAB_TOOLS/oracle" run --seconds 4 --a "$LAB-left:p" --b "$LAB-right:p" >"$LAB_OUT/oracle.json" 2>/dev/null && lab_fail "there is no device p"
pair() { ip -n "$LAB-left" link add p type veth peer name p netns "$LAB-right" && ip -n "$LAB-left" link set p up && ip -n "$LAB-right" link set p up; }
pair
"$LAB_TOOLS/oracle" run --seconds 4 --a "$LAB-left:p" --b "$LAB-right:p" >"$LAB_OUT/oracle.json" 2>/dev/null &
oracle=$!
arrived() { [[ $(on right cat /sys/class/net/p/statistics/rx_packets) -gt 500 ]]; }
lab_wait 5 "frames to pass" arrived
ip -n "$LAB-left" link delete p
lab_hold 1 "there is no device"
pair
if wait "$oracle"; then lab_fail "that a device was gone is not noticed"; fi
jq -e '[.a_to_b, .b_to_a] | all(.lost > 900 and .lost <= .longest_gap_ms + 2 and .received > 2000 and .duplicated + .reordered + .corrupted == 0)' "$LAB_OUT/oracle.json" >/dev/null ||
    lab_fail "a device that was gone for a second: $(jq -c '[.a_to_b, .b_to_a] | map([.lost, .longest_gap_ms])' "$LAB_OUT/oracle.json")"
step "a device that was gone for a second is seen as $(jq -c '[.a_to_b, .b_to_a] | map(.lost)' "$LAB_OUT/oracle.json")"
