# shellcheck shell=bash
# A daemon on the relay's stream is frozen for half a minute (a laptop lid, a busy hypervisor) and goes on as if nothing had been.
# long: direct-frozen shows the same
. "$(dirname "$0")/../lib.sh"
lab_topology relay_two_nat "${LAB_TYPE:-relay-only}"
lab_network
lab_freezes "${LAB_OUTAGE:-30}"
lab_all_connected 5
lab_oracle afterwards a b --seconds 3
