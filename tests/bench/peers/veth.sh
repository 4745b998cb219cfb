# shellcheck shell=bash
# The link itself: what the kernel does where no tunnel is.
contender veth 2 none "the plain link, no tunnel" veth_up

# shellcheck disable=SC2034 # read by who called
veth_up() { TUNNEL_B=$OUTER_B; }
