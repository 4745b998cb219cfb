# shellcheck shell=bash
# n2n: a peer-to-peer VPN; its supernode introduces the two, here on a's side. Layer 2.
contender n2n 2 Twofish "tap" n2n_up
from_debian n2n n2n:edge n2n:supernode

n2n_up() {
    local host inside
    start a-supernode a supernode -l 7654
    for host in a b; do
        inside=$INNER_A && [[ $host == a ]] || inside=$INNER_B
        start "$host-edge" "$host" edge -d tap0 -a "$inside" -s 255.255.255.0 -c bench -k bench -l "$OUTER_A:7654" -M 1400
    done
    inner tap0 1400
}
