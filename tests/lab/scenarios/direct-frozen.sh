# shellcheck shell=bash
# A daemon with a direct path is frozen for half a minute and goes on as if nothing had been: what the other sent meanwhile is in its ring
# and arrives, what its own device could not take is what is missing.
. "$(dirname "$0")/../lib.sh"
lab_topology relay_two_nat
lab_network
lab_direct a b
lab_freezes "$(quick 5 30)"
for host in a b; do lab_expect "$host is direct" lab_path "$host" direct-udp; done
lab_oracle afterwards a b --seconds "$(quick 1 3)"
