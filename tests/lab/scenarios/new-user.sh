# shellcheck shell=bash
# A new user's machines: the README's first run, typed as it stands there, on three fresh Debian roots by a person who has sudo and nothing else.
# long: fetches a Debian with debootstrap (LAB_ROOT=DIR takes one that is there)
. "$(dirname "$0")/../lib.sh"

# What the README says.
block() { sed -n "/^$1/,/^## /s/^    //p" README.md | sed 's/ \{2,\}# .*//'; }
mapfile -t first_run < <(block '## First run' | sed -n 's/^\(relay\|a\|b\)\$ \+/\1 /p')
[[ ${#first_run[@]} -eq 4 ]] || lab_fail "the README promises four commands for the first run, and has ${#first_run[@]}: ${first_run[*]}"
mapfile -t installing < <(block 'Counted honestly' | grep -E '^(scripts/|cargo |sudo )')
[[ ${#installing[@]} -eq 3 && ${installing[0]} == "scripts/install-deps build" && ${installing[1]} == "cargo build --release --locked" ]] ||
    lab_fail "the README promises three commands for installing, of which the first fetches what the second builds with: ${installing[*]}"

mapfile -t members < <(block '## Who is a member' | sed -n 's/^\(a\|b\)\$ \+/\1 /p')
[[ ${#members[@]} -eq 5 ]] || lab_fail "the README has ${#members[@]} lines about members: ${members[*]}"

lab_debian base sudo

lab_topology relay_two_nat

for host in relay a b; do
    # A person who may use sudo, and where the second of the three commands left the programs.
    # shellcheck disable=SC2016
    lab_fresh "$host" base '
        chroot "$root" useradd --create-home --shell /bin/bash me
        echo "me ALL=(ALL) NOPASSWD: ALL" >"$root/etc/sudoers.d/me"
        mkdir -p "$root/home/me/target/release"
        mount --bind "$bin" "$root/home/me/target/release"
        # Of the checkout what the first command needs, and in place of the package archive, which is not to be reached from here, a list.
        cp -r scripts "$root/home/me/"
        printf "#!/bin/sh\necho \"\$*\" >>/run/apt-get\n" >"$root/usr/local/bin/apt-get"
        chmod 0755 "$root/usr/local/bin/apt-get"'
done

# types HOST LINE, or in the background with a LABEL — as a person does who has just logged in.
types() {
    step "$1\$ $2"
    on "$1" su - me -c "$2"
}
begins() {
    step "$2\$ $3"
    start "$1" "$2" su - me -c "exec $3"
}
# Building itself takes minutes and a Rust, and is done once, elsewhere.
lab_expect "${installing[0]}" types a "${installing[0]}"
fetched=$(on a grep install /run/apt-get)
for package in gcc binutils libc6-dev; do
    [[ " $fetched " == *" $package "* ]] || lab_fail "${installing[0]} does not fetch $package: $fetched"
done
for host in relay a b; do
    lab_expect "$host: ${installing[2]}" types "$host" "${installing[2]}"
done

# with LINE FROM TO — the line with what stands for something replaced; there must be such a thing.
with() {
    [[ $1 == *"$2"* ]] || lab_fail "the README's line has no $2: $1"
    echo "${1/"$2"/"$3"}"
}
line() { # NUMBER HOST — the README's line, if it is typed there.
    local typed=${first_run[$1]}
    [[ $typed == "$2 "* ]] || lab_fail "the README's line $(($1 + 1)) is not typed on $2: $typed"
    echo "${typed#"$2 "}"
}
relay_line=$(line 0 relay) a_line=$(line 1 a) b_line=$(line 2 b) ping_line=$(line 3 a)

began=$(lab_now_ms)
begins relay relay "$relay_line"
lab_wait 10 "the relay's ticket" grep -q '^relay ticket: smr1' "$LAB_OUT/relay.out"
ticket=$(sed -n 's/^relay ticket: \(smr1[A-Za-z0-9_-]*\)$/\1/p' "$LAB_OUT/relay.out")
a_line=$(with "$a_line" 'smr1…' "$ticket")
begins a a "$a_line"
lab_wait 10 "the line for the next host" grep -q '^join with: ' "$LAB_OUT/a.out"
join=$(sed -n 's/^join with: //p' "$LAB_OUT/a.out")
b_line=$(with "$b_line" 'smi1…' "$(grep -o 'smi1[A-Za-z0-9_-]*' <<<"$join")")
[[ $join == "$b_line" ]] || lab_fail "a says: join with: $join, and the README: $b_line"
begins b b "$b_line"
lab_wait 20 "a to be connected to b" lab_connected a 1
lab_wait 20 "b to be connected to a" lab_connected b 1
# `up` prints the addresses.
address=$(grep -ohE '\b10\.[0-9]+\.[0-9]+\.[0-9]+\b' "$LAB_OUT/b.out" | head -1)
ping_line=$(with "$ping_line" '<address of b>' "${address:?b printed no address}")
step "a\$ $ping_line"
# A person ends it.
on a su - me -c "timeout --signal INT 4 $ping_line" >"$LAB_OUT/ping.out" 2>&1 || true
grep -E 'packet loss' "$LAB_OUT/ping.out" | grep -q ' 0% packet loss' || lab_fail "ping: $(tail -3 "$LAB_OUT/ping.out")"
lab_measure "first command to ping answered, on machines that have never seen it" "$(($(lab_now_ms) - began))" ms
lab_direct a b
lab_oracle frames a b --seconds "$(quick 2 5)"

# The lines below the four.
lab_expect "sudo shadowmesh doctor finds nothing" types a "sudo shadowmesh doctor"
lab_expect "sudo shadowmesh down" types b "sudo shadowmesh down"
lab_wait 10 "b's daemon to end" stopped b
begins b b "sudo shadowmesh up"
lab_wait 20 "plain up to be enough" lab_connected b 1
# And those about members: b comes by an invite of its own, is seen, lost and shut out, and the secret replaced.
lab_expect "b is as new" types b "sudo shadowmesh leave && sudo rm /var/lib/shadowmesh/node.key"
lab_wait 10 "b's daemon to end" stopped b
invite_line=${members[0]#a } up_line=${members[1]#b } members_line=${members[2]#a } revoke_line=${members[3]#a } rotate_line=${members[4]#a }
step "a\$ $invite_line"
invite=$(on a su - me -c "$invite_line" 2>>"$LAB_OUT/invite.txt")
begins b b "$(with "$up_line" 'smi1…' "$invite")"
lab_wait 20 "b to be connected again" lab_connected b 1
name=$(sed -n 's/.*--name \([a-z]*\).*/\1/p' <<<"$invite_line")
called() { types a "$members_line" | grep -qE "^$name .* $2"; }
lab_wait 10 "b to be among the members as $name" called "$name" member
lab_expect "$revoke_line" types a "$revoke_line"
[[ $revoke_line == *" $name" ]] || lab_fail "the README revokes another than it invited: $revoke_line"
lab_wait 5 "b to know" lab_status b '.membership.state == "revoked" or error'
lab_expect "$rotate_line" types a "$rotate_line"
# What a person who may not is told.
told() { # LINE WORDS
    local said
    if said=$(on a su - me -c "$1" 2>&1); then lab_fail "$1 did not fail"; fi
    [[ $said == *$2* ]] || lab_fail "$1 says: $said"
    step "$1: ${said##*$'\n'}"
}
told "shadowmesh up" root
told "shadowmesh status" sudo
