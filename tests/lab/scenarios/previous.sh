# shellcheck shell=bash
# Programs of another version in one network with these: relay and clients, whoever is older and whoever is there first; and what either left
# on the disk is taken over by this one, and by no older one.
# long: it needs another version's programs: those in LAB_PREVIOUS=DIR, or it builds those of LAB_PREVIOUS_COMMIT, which takes minutes
. "$(dirname "$0")/../lib.sh"

# The last commit that knew of no versions of the protocol and of one layout of state.
LAB_PREVIOUS_COMMIT=${LAB_PREVIOUS_COMMIT:-5d99350}
if [[ -z ${LAB_PREVIOUS:-} ]]; then
    step "building $LAB_PREVIOUS_COMMIT"
    git worktree add --quiet --detach "$LAB_DIR/previous" "$LAB_PREVIOUS_COMMIT"
    (cd "$LAB_DIR/previous" && cargo build --quiet --locked --bins -p shadowmesh -p shadowmesh-relay --target-dir "$LAB_DIR/previous-target") ||
        lab_fail "commit $LAB_PREVIOUS_COMMIT does not build"
    git worktree remove --force "$LAB_DIR/previous"
    LAB_PREVIOUS=$LAB_DIR/previous-target/debug
fi
programs=(shadowmesh shadowmesh-relay)
for program in "${programs[@]}"; do
    [[ -x $LAB_PREVIOUS/$program ]] || lab_fail "LAB_PREVIOUS has no $program"
    ! cmp -s "$LAB_PREVIOUS/$program" "$(command -v "$program")" || lab_fail "$program of LAB_PREVIOUS is the same as ours"
done

# becomes HOST old|new — which programs it has from now on, where everybody looks for them.
becomes() {
    local program
    for program in "${programs[@]}"; do
        if [[ $2 == old ]]; then
            on "$1" mount --bind "$LAB_PREVIOUS/$program" "$(command -v "$program")"
        else
            on "$1" umount "$(command -v "$program")"
        fi
    done
    step "$1 has the $2 programs"
}
layout() { on "$1" grep -qx "version = $3" "/var/lib/$2/state.toml"; }
all_direct() { lab_status "$1" '[.peers[] | select(.state == "connected" and .path.kind == "direct-udp" and .paths_agree)] | length == 2 or error'; }
is_called() { lab_status "$1" ".peers[] | select(.name == \"$2\") | .member.standing == \"admitted\" or error"; }

# in_touch NAME — everybody with everybody, by the relay and directly, and what an admin says reaches all: c gets this name.
in_touch() {
    local from to
    lab_all_connected 25
    for from in a b c; do
        for to in a b c; do
            [[ $from == "$to" ]] || lab_expect "$from reaches $to" on "$from" ping -c 2 -i 0.2 -W 2 "$(lab_address "$to")"
        done
    done
    for from in a b c; do lab_wait 25 "$from to be direct with both" all_direct "$from"; done
    lab_oracle "$1-ab" a b --seconds "$(quick 2 5)"
    lab_oracle "$1-bc" b c --seconds "$(quick 2 5)"
    lab_expect "c is called $1" on a shadowmesh rename c "$1"
    for from in a b; do lab_wait 10 "$from to call it so" is_called "$from" "$1"; done
    lab_expect "and c again" on a shadowmesh rename "$1" c
    for from in a b; do lab_wait 10 "$from to call it so" is_called "$from" c; done
}

lab_topology relay_three_nat
becomes relay old
becomes b old
lab_relay
first_ticket=$RELAY_TICKET
lab_expect "the old relay writes the old layout" layout relay shadowmesh-relay 1

# An old relay, and an old client between two new ones, which were there first.
lab_expect "a new program makes a network" on a shadowmesh network create office --relay "$RELAY_TICKET" --name a
lab_up a
for_all=$(on a shadowmesh invite --uses any 2>/dev/null)
lab_up b "$for_all" --name b
lab_up c "$for_all" --name c
in_touch first
lab_expect "the old client has the old layout, the new ones this one" \
    eval 'layout b shadowmesh 1 && layout a shadowmesh 2 && layout c shadowmesh 2'
b_before="$(lab_status b .node.id) $(lab_address b)"

# A new relay where the old one was; the old client is there first.
for host in a b c; do stop "$host"; done
stop relay
becomes relay new
lab_relay
[[ $RELAY_TICKET == "$first_ticket" ]] || lab_fail "the upgraded relay has another ticket"
lab_expect "the relay's state was taken over" layout relay shadowmesh-relay 2
for host in b a c; do lab_up "$host"; done
in_touch second

# The relay goes and comes under old and new sessions.
stop relay KILL
lab_relay
in_touch third

# Who is revoked is cut off by old and new.
cut_off() { lab_status "$1" '[.peers[] | select(.name == "c" and .state == "connected")] | length == 0 or error'; }
lab_expect "c is revoked" on a shadowmesh revoke c
for host in a b; do lab_wait 5 "$host to cut it off" cut_off "$host"; done
stop c

# The old client is upgraded: the same node at the same address.
stop b
becomes b new
lab_up b
lab_wait 20 "a and b to be connected" lab_connected a 1
[[ "$(lab_status b .node.id) $(lab_address b)" == "$b_before" ]] || lab_fail "b is not what it was: $b_before"
lab_expect "its state was taken over" layout b shadowmesh 2
lab_oracle upgraded a b --seconds "$(quick 2 5)"
stop b

# There is no way back, and that is said before anything is touched.
becomes b old
before=$(on b sh -c 'cd /var/lib/shadowmesh && sha256sum *')
if on b shadowmesh up >"$LAB_OUT/downgrade.out" 2>&1; then lab_fail "the old program took the new layout"; fi
lab_expect "the old program says why it does not start" grep -q 'of layout 2, written by a newer shadowmesh, and this one knows only 1' "$LAB_OUT/downgrade.out"
[[ $(on b sh -c 'cd /var/lib/shadowmesh && sha256sum *') == "$before" ]] || lab_fail "the old program changed what it does not understand"
stop relay
becomes relay old
if on relay shadowmesh-relay >"$LAB_OUT/downgrade-relay.out" 2>&1; then lab_fail "the old relay took the new layout"; fi
lab_expect "so does the old relay" grep -q 'format 2, this program knows 1' "$LAB_OUT/downgrade-relay.out"
