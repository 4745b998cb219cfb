# shellcheck shell=bash
# Twelve hosts behind as many kinds of routers join by one command each, and all 66 pairs end on the path that the matrix says. Under frames one is renamed, rules
# change, one is revoked, the secret is replaced, and the relay goes and comes back: nothing is lost, and all hear of it.
# long: twelve daemons for more than a minute; members and rotate-secret try each step with three
. "$(dirname "$0")/../lib.sh"
EXPECTED="$(dirname "$0")/../matrix.tsv"
# What each is behind, in the words of the matrix. l is on the LAN of b, which has IPv6 beside.
declare -A behind=([a]=open [b]=dual-port-restricted [c]=address-restricted [d]=firewall [e]=full-cone [f]=port-shifting [g]=symmetric
    [h]=udp-blocked [i]=tcp-443 [j]=carrier [k]=ipv6-only [l]=port-restricted)

lab_topology relay_two_nat
n=3
for host in c d e f g h i j k l; do
    lab_host "$host" "$n"
    n=$((n + 1))
done
hosts=("${LAB_HOSTS[@]}")
lab_internet6
# SYNs cross on a line that takes its time.
lab_wire h delay=10ms
checks=()
for host in a c d e f g h i; do
    lab_nat "$host" "${behind[$host]}" &
    checks+=($!)
done
lab_nat j port-restricted
lab_carrier j
lab_only6 k
lab_same_lan b l
lab_add6 b
for pid in "${checks[@]}"; do wait "$pid" || exit 1; done
# Devices are others now.
lab_capture_anew

# ── from zero, one command each ─────────────────────────────────────────────────────────────────────────────────────

lab_relay --listen '[::]:8443' --listen '[::]:443'
lab_expect "a network with certificates is made" on a shadowmesh network create office --relay "$RELAY_TICKET"
lab_up a
INVITE=$(on a shadowmesh invite --uses 11 2>/dev/null)

# Usable is who has had a frame from a, and a one of it; nothing may be lost from then on, while each finds its way to all others.
declare -A began=() first=()
# Late is as good as lost beyond that.
settle=$(quick 700 2000)
n=1
for host in "${hosts[@]:1}"; do
    n=$((n + 1))
    lab_oracle "usable-$host" a "$host" --from-first 30 --seconds 2 --settle-ms "$settle" --rate 50 --max-frame 200 --seed "$n" >"$LAB_OUT/usable-$host.txt" &
    first[$host]=$!
done
started=$(lab_now_ms)
for host in "${hosts[@]:1}"; do
    began[$host]=$(lab_now_ms)
    start "$host" "$host" shadowmesh up "$INVITE"
done
for host in "${hosts[@]}"; do lab_wait 30 "$host to be connected to all others" lab_connected "$host" 11; done
step "all 66 pairs are connected, $(($(lab_now_ms) - started)) ms after the first of eleven commands"

declare -A id=() address=()
for host in "${hosts[@]}"; do
    id[$host]=$(lab_status "$host" .node.id)
    address[$host]=$(lab_address "$host")
done
# kind A B — what the matrix says of two of them. Of whom that has no cell, both families beside: IPv4, as if it had no other.
kind() {
    local one=${behind[$1]} two=${behind[$2]} found
    if [[ $1$2 == bl || $1$2 == lb ]]; then one=same-lan two=port-restricted; fi
    for one in "$one" "${one#dual-}"; do
        for two in "$two" "${two#dual-}"; do
            found=$(awk -F '\t' -v a="$one" -v b="$two" '$1 == a && $2 == b || $1 == b && $2 == a { print $3; exit }' "$EXPECTED")
            if [[ -n $found ]]; then echo "$found" && return; fi
        done
    done
    lab_fail "tests/lab/matrix.tsv says nothing of ${behind[$1]} and ${behind[$2]}"
}
declare -A expected=()
for one in "${hosts[@]}"; do
    for two in "${hosts[@]}"; do
        if [[ $one < $two ]]; then
            expected[$one$two]=$(kind "$one" "$two")
            expected[$two$one]=${expected[$one$two]}
        fi
    done
done

# The relay tells b how it is seen by the family of its stream. That is IPv6 unless the relay was just not there when it was asked by that: of TCP by IPv4,
# without which h has no direct path, b knows nothing before a stream of its was by IPv4.
bh_by_ipv4=${expected[bh]} expected[bh]=relay-ws expected[hb]=relay-ws
look_at_b() {
    if lab_status b '.relays[0].observed_tcp | test("^[0-9.]+:[0-9]+$") or error'; then expected[bh]=$bh_by_ipv4 expected[hb]=$bh_by_ipv4; fi
}

# Who is a member still.
members=("${hosts[@]}")
without() { # HOST… — the members but these
    local host
    for host in "${members[@]}"; do if [[ " $* " != *" $host "* ]]; then echo "$host"; fi; done
}
# on_its_paths HOST — whether it is connected to every other member by what the matrix says, and they to it.
on_its_paths() {
    local host wanted=()
    if [[ $1 == [bh] ]]; then look_at_b >/dev/null 2>&1; fi
    for host in $(without "$1"); do wanted+=("{\"id\": \"${id[$host]}\", \"kind\": \"${expected[$1$host]}\"}"); done
    lab_status "$1" ".peers as \$peers | [$(IFS=,; echo "${wanted[*]}")] | map(. as \$wanted |
        \$peers[] | select(.id == \$wanted.id and .state == \"connected\" and .path.kind == \$wanted.kind and .paths_agree)) |
        length == ${#wanted[@]} or error"
}
# full_mesh SECONDS — until all are.
full_mesh() {
    local host
    for host in "${members[@]}"; do lab_wait "$1" "$host to be on the path of the matrix to each other member" on_its_paths "$host"; done
}
full_mesh 60
lab_took "from the first of eleven commands to 66 pairs on their best path" $(($(lab_now_ms) - started)) 5000
for host in "${hosts[@]:1}"; do
    wait "${first[$host]}" || lab_fail "$host: $(cat "$LAB_OUT/usable-$host.oracle")"
    first[$host]=$(jq --argjson began "${began[$host]}" '.started_unix_ms + ([.a_to_b, .b_to_a | .first_ms] | max) - $began | ceil' "$LAB_OUT/usable-$host.json")
    lab_took "from up to usable, by invite, eleven at once" "${first[$host]}" 3000
done

# ping_all — all of them each other at once, three times.
ping_all() {
    local host other others pids=() answered ways=$((${#members[@]} * (${#members[@]} - 1)))
    for host in "${members[@]}"; do
        others=()
        for other in $(without "$host"); do others+=("${address[$other]}"); done
        # shellcheck disable=SC2016
        on "$host" sh -c 'for to; do { ! ping -c 3 -i 0.2 -W 2 "$to" | grep -q " 3 received" || echo "$to"; } & done; wait' sh "${others[@]}" >"$LAB_OUT/ping-$host.txt" &
        pids+=($!)
    done
    wait "${pids[@]}"
    answered=$(for host in "${members[@]}"; do cat "$LAB_OUT/ping-$host.txt"; done | wc -l)
    lab_measure "of $ways ways a ping went by, thrice" "$answered" ways "$ways"
    [[ $answered == "$ways" ]] || lab_fail "$((ways - answered)) of $ways ways lost a ping; ping-HOST.txt has those that did not"
}
ping_all

# The table: what each pair is on, as its left one says.
{
    printf 'HOST\tBEHIND\tUSABLE\t%s\n' "$(IFS=$'\t'; echo "${hosts[*]}")"
    for host in "${hosts[@]}"; do
        printf '%s\t%s\t%s' "$host" "${behind[$host]}" "${first[$host]:--}${first[$host]:+ ms}"
        paths=$(lab_status "$host" '.peers | map({key: .id, value: (.path.kind | {"direct-udp": "udp", "direct-tcp": "tcp", "relay-udp": "relay", "relay-ws": "stream"}[.])}) | from_entries')
        for other in "${hosts[@]}"; do printf '\t%s' "$(jq -r ".\"${id[$other]}\" // \"·\"" <<<"$paths")"; done
        echo
    done
} | column -t -s $'\t' >"$LAB_OUT/table.txt"
cat "$LAB_OUT/table.txt"

# ── under frames ────────────────────────────────────────────────────────────────────────────────────────────────────

# under NAME COMMAND… — while frames pass between c and j, who are direct, and f and g, who are not: none is lost, doubled, late or damaged.
under() {
    local name=$1 pids=() pid seconds
    seconds=$(quick 5 15)
    # As long as the relay takes.
    if [[ $name == *relay* ]]; then seconds=$(quick 8 20); fi
    shift
    lab_oracle "$name-direct" c j --seconds "$seconds" --settle-ms "$settle" &
    pids+=($!)
    if [[ $name != *relay* ]]; then
        lab_oracle "$name-relayed" f g --seconds "$seconds" --settle-ms "$settle" --seed 2 &
        pids+=($!)
        lab_frames_pass f 500
    fi
    lab_frames_pass c 500
    "$@"
    for pid in "${pids[@]}"; do kill -0 "$pid" 2>/dev/null || lab_fail "the frames were over before: $name"; done
    for pid in "${pids[@]}"; do wait "$pid" || lab_fail "frames were lost: $name"; done
}
# all_say WHAT SINCE LIMIT_MS FILTER HOST… — until each of them says so in its status; how long after SINCE the last one did. One after the other, for that is work.
all_say() {
    local what=$1 since=$2 limit=$3 filter=$4 host waiting took=0
    shift 4
    while [[ $# -gt 0 ]]; do
        waiting=()
        for host in "$@"; do if lab_status "$host" "$filter" >/dev/null 2>&1; then took=$(($(lab_now_ms) - since)); else waiting+=("$host"); fi; done
        [[ ${#waiting[@]} -eq 0 || $(lab_now_ms) -lt $((since + 3 * limit)) ]] || lab_fail "$what: not by ${waiting[*]}"
        set -- "${waiting[@]}"
    done
    lab_within "$what" "$took" "$limit"
}
named() { echo "any(.peers[]; .id == \"${id[$1]}\" and .name == \"$2\") or error"; }

rename_one() {
    local since
    since=$(lab_now_ms)
    lab_expect "h is renamed" on a shadowmesh rename h harbour
    # shellcheck disable=SC2046
    all_say "from rename to said by all others" "$since" 5000 "$(named h harbour)" $(without h)
    lab_expect "and h says so of itself" lab_status h '.membership.name == "harbour" or error'
}
under rename rename_one

# reaching SECONDS — how many of the others get a word from port 7777 of e.
start server e python3 -c '
import socket
listener = socket.create_server(("0.0.0.0", 7777))
while True: listener.accept()[0].sendall(b"x")'
lab_wait 5 "the server" on e sh -c "ss -ltn | grep -q :7777"
reaching() {
    local host
    for host in $(without e); do
        # shellcheck disable=SC2016
        on "$host" timeout "$1" bash -c 'exec 3<>"/dev/tcp/$1/7777" && read -r -N 1 -u 3 && echo "$2"' bash "${address[e]}" "$host" 2>/dev/null &
    done | sort | wc -l
}
dropped_by_rules() { lab_status e '[.dropped | to_entries[] | select(.key | startswith("access_")) | .value] | add // 0'; }
rules_change() {
    local since dropped reach
    reach=$(reaching 4)
    [[ $reach == 11 ]] || lab_fail "without rules $reach of 11 reach port 7777 of e"
    printf 'deny any -> any tcp 7777\nallow any -> any\n' >"$LAB_DIR/a/run/rules"
    dropped=$(dropped_by_rules)
    since=$(lab_now_ms)
    lab_expect "rules are published" on a shadowmesh rules publish /run/rules
    all_say "from rules publish to in force at all" "$since" 5000 '.rules.count == 2 or error' "${members[@]}"
    reach=$(reaching 1)
    [[ $reach == 0 ]] || lab_fail "with rules $reach of 11 reach port 7777 of e"
    dropped=$(($(dropped_by_rules) - dropped))
    lab_measure "SYNs of eleven that the rules dropped" "$dropped" frames
    [[ $dropped -ge 11 ]] || lab_fail "eleven were refused, and e counts $dropped frames that its rules dropped"
    printf '' >"$LAB_DIR/a/run/rules"
    since=$(lab_now_ms)
    lab_expect "rules are taken back" on a shadowmesh rules publish /run/rules
    all_say "from rules taken back to gone at all" "$since" 5000 '.rules.count == 0 or error' "${members[@]}"
    reach=$(reaching 4)
    [[ $reach == 11 ]] || lab_fail "without rules again $reach of 11 reach port 7777 of e"
}
under rules rules_change

# cut_off NAME HOST OTHER… — NAME is revoked, which is HOST, and pings all others twenty times a second. HOST's own silence proves nothing: each of the
# OTHERs has to say that it shut it out, and when.
shut_out() { echo "WARN .*${id[$1]:0:10}.* is not let in: .*revoked"; }
begin_pings() {
    local other
    for other in $(without "$1"); do start "ping-$1-$other" "$1" ping -D -i 0.05 -W 1 "${address[$other]}"; done
    for other in $(without "$1"); do lab_wait 10 "$other to answer $1" grep -q 'icmp_seq=5 ' "$LAB_OUT/ping-$1-$other.out"; done
}
cut_off() {
    local name=$1 host=$2 other
    shift 2
    revoked_at=$(lab_now_ms)
    lab_expect "$name is revoked" on a shadowmesh revoke "$name"
    for other in "$@"; do lab_wait 5 "$other to shut $name out" grep -q "$(shut_out "$host")" "$LAB_OUT/$other.log"; done
    all_say "from revoke to said by $#" "$revoked_at" 5000 "all(.peers[]; .id != \"${id[$host]}\" or .state != \"connected\") or error" "$@"
    # Twice as long as any may answer it.
    lab_hold 2 "listening"
}
# was_cut_off HOST OTHER… — when each heard of it, and answered last.
was_cut_off() {
    local host=$1 other line learned last slowest=0 longest=-1000
    shift
    for other in "$@"; do
        line=$(grep -m1 "$(shut_out "$host")" "$LAB_OUT/$other.log")
        learned=$(date -d "${line%% *}" +%s%3N)
        last=$(sed -n '/bytes from/s/^\[\([0-9]*\)\.\([0-9][0-9][0-9]\).*/\1\2/p' "$LAB_OUT/ping-$host-$other.out" | tail -n 1)
        step "$other heard of it $((learned - revoked_at)) ms after the command, and its last answer came $((last - learned)) ms after that"
        slowest=$((learned - revoked_at > slowest ? learned - revoked_at : slowest))
        longest=$((last - learned > longest ? last - learned : longest))
    done
    lab_took "from revoke to heard by the last of $#" "$slowest" 1000
    lab_within "from hearing it to the last answer, the longest of $#" "$longest" 1000
    for other in $(without "$host"); do stop "ping-$host-$other"; done
    mapfile -t members < <(without "$host")
}
mapfile -t others < <(without e)
begin_pings e
under revoke cut_off e e "${others[@]}"
was_cut_off e "${others[@]}"

replace_secret() {
    local since said
    since=$(lab_now_ms)
    said=$(on a shadowmesh rotate-secret 2>&1) || lab_fail "the secret is not replaced: $said"
    [[ $said == *'all 10 other members have it'* ]] || lab_fail "rotate-secret does not say that all 10 have it: $said"
    all_say "from rotate-secret to held by all" "$since" 3000 '.membership.secret.generation == 1 or error' "${members[@]}"
    # Each under both, and e, who is out, under the one that it knows.
    lab_wait 15 "everybody to be at the relay under both" sh -c "nsenter --target ${LAB_HOLDER[relay]} --net --mount --uts -- shadowmesh-relay status --json | jq -e '.clients == 23 and .networks == 2'"
    lab_expect "who was revoked has it not" lab_status e '.membership.secret.generation == 0 or error'
}
under secret replace_secret

# ── without the relay ───────────────────────────────────────────────────────────────────────────────────────────────

# i has nothing but the relay, and hears of nothing meanwhile; all others of all, k by b, for a cannot reach it.
relay_goes() {
    local host since
    stop relay KILL
    for host in "${members[@]}"; do lab_wait 10 "$host to say that the relay is away" lab_status "$host" '.relays[0].state != "connected" or error'; done
    since=$(lab_now_ms)
    lab_expect "l is renamed" on a shadowmesh rename l library
    # shellcheck disable=SC2046
    all_say "without the relay, from rename to said by all but the one that has nothing else" "$since" 5000 "$(named l library)" $(without l i)
    cut_off d d "${others[@]}"
}
mapfile -t others < <(without d i)
begin_pings d
under no-relay relay_goes
was_cut_off d "${others[@]}"
lab_silence "longest silence of a direct pair while the relay goes" no-relay-direct 100
lab_expect "i, who has nothing but the relay, is alone" lab_status i 'all(.peers[]; .state != "connected") or error'
lab_expect "and knows nothing of the new name" lab_status i "any(.peers[]; .id == \"${id[l]}\" and .name == \"l\") or error"

relay_back() {
    local since
    since=$(lab_now_ms)
    lab_relay --listen '[::]:8443' --listen '[::]:443'
    full_mesh 60
    lab_took "from the relay's return to 45 pairs on their best path" $(($(lab_now_ms) - since)) 5000
    all_say "and i has the new name" "$since" 30000 "$(named l library)" i
    lab_expect "and knows who was revoked" sh -c "nsenter --target ${LAB_HOLDER[i]} --net --mount --uts -- shadowmesh members --json | jq -e '.members | any(.id == \"${id[d]}\" and .standing == \"revoked\")'"
}
under relay-back relay_back
ping_all
if [[ -z ${LAB_QUICK:-} ]]; then under afterwards true; fi
for host in "${members[@]}"; do lab_expect "$host is on the path of the matrix to all 9 others" on_its_paths "$host"; done
