# shellcheck shell=bash
# The command line around the four commands: stdin invites, --detach, JSON, completions, what systemd must not see, exit codes.
. "$(dirname "$0")/../lib.sh"
lab_topology relay_two_nat
lab_relay
lab_expect "the relay prints its ticket again" on relay sh -c "shadowmesh-relay ticket | grep -q '^smr1\|^relay ticket: smr1'"
lab_expect "as JSON, too" [ "$(on relay shadowmesh-relay ticket --json | jq -r .ticket)" = "$(on relay shadowmesh-relay ticket | grep -o 'smr1[A-Za-z0-9_-]*')" ]
lab_expect "the relay's status is JSON" on relay sh -c 'shadowmesh-relay status --json | jq -e .version'

# Under systemd `up` shows no invite, because the journal keeps everything; it says how to get one.
start a a env JOURNAL_STREAM=8:1234 shadowmesh up --relay "$RELAY_TICKET"
lab_wait 15 "the daemon of a" lab_answers a
lab_wait 5 "the hint" grep -q 'shadowmesh invite' "$LAB_OUT/a.out" "$LAB_OUT/a.log"
if grep -q smi1 "$LAB_OUT/a.out" "$LAB_OUT/a.log"; then lab_fail "an invite in the journal"; fi

invite=$(on a shadowmesh invite --expires 1h | grep -om1 'smi1[A-Za-z0-9_-]*')
on b sh -c 'cp /etc/group /run/group && chmod 644 /run/group && echo "shadowmesh:x:977:" >>/run/group && mount --bind /run/group /etc/group'
# From standard input, so that it is in no process list; in the background, so that the shell is free again.
# shellcheck disable=SC2016
lab_expect "up - --detach returns" timeout 20 nsenter --target "${LAB_HOLDER[b]}" --net --mount --uts -- sh -c 'echo "$1" | shadowmesh up - --detach' sh "$invite"
lab_wait 20 "b to be connected" lab_connected b 1
# Another scenario may run beside this one: its invites are its own.
if on b pgrep -fa -- "$invite" >"$LAB_OUT/processes.txt" 2>&1; then lab_fail "the invite is in a process list"; fi

lab_expect "status for people" on b sh -c 'shadowmesh status | grep -Eq "^a +10\.[0-9.]+ +(relay, stream|direct, UDP) "'
# Programs read these fields; they are a contract.
on b shadowmesh status --json >"$LAB_OUT/status.json"
lab_expect "status --json has every field of the contract" jq -e '
    def has_all($names): ($names - keys) as $missing | if $missing == [] then true else error("missing: \($missing)") end;
    has_all(["version", "node", "network", "relays", "peers"]) and
    (.node | has_all(["id", "name", "addresses", "mac", "device", "mtu", "queues"])) and
    (.network | has_all(["id", "name"])) and
    (.relays[0] | has_all(["url", "state", "rtt_ms", "observed_tcp", "observed_udp"])) and
    (.peers[0] | has_all(["id", "name", "addresses", "state", "path", "standby", "peer_path", "paths_agree", "handshake", "tx_bytes",
        "rx_bytes", "tx_frames", "rx_frames", "switches", "last_switch", "next_direct_try_s"])) and
    (.peers[0].path | has_all(["kind", "remote", "rtt_ms", "mtu", "loss_pct", "why"])) and
    (.peers[0].handshake | has_all(["pattern", "kem", "cipher", "age_s", "rekeys"]))' "$LAB_OUT/status.json"
lab_wait 12 "netcheck to know the router" on b sh -c "shadowmesh netcheck --json | jq -e '.udp and .mapping == \"endpoint-independent\" and .filtering == null and (.relays[0].rtt_ms > 0)'"
lab_expect "netcheck for people" on b sh -c 'shadowmesh netcheck | grep -q "^mapping    endpoint-independent"'
lab_expect "ping by name" on b shadowmesh ping a -c 2 -i 0.2
lab_expect "ping by address" on b shadowmesh ping "$(lab_address a)" -c 1
lab_expect "ping by the start of an id" on b shadowmesh ping "$(lab_status a '.node.id[0:6]')" -c 1
lab_expect "ping --json" on b sh -c 'shadowmesh ping a -c 2 -i 0.2 --json | jq -se "length > 0"'
# The group shadowmesh reads and changes nothing; everybody else is kept out. (The daemon of b was started with the group there.)
as() { on b setpriv --reuid 12345 --regid "$1" --clear-groups shadowmesh "${@:2}"; }
lab_expect "a member of the group reads the status" as 977 status --json
refused=$(as 977 down 2>&1) && lab_fail "a member of the group stops the daemon"
[[ $refused == *"only root"* ]] || lab_fail "why it may not is not said: $refused"
refused=$(as 12345 status 2>&1) && lab_fail "anybody reads the status"
[[ $refused == *permission* || $refused == *allowed* || $refused == *sudo* ]] || lab_fail "why it is kept out is not said: $refused"
lab_expect "global options after the command" on b shadowmesh status --json --socket /run/shadowmesh/control.sock
lab_expect "global options before the command" on b shadowmesh --json --socket /run/shadowmesh/control.sock status
for shell in bash zsh fish; do lab_expect "completions $shell" on b sh -c "shadowmesh completions $shell | grep -q shadowmesh"; done
lab_oracle frames a b --seconds 2

# Settings by signal, while a ping goes on. What a remembers is a file that people may write as well.
settings() { on a sh -c 'cat >/var/lib/shadowmesh/config.toml'; }
budget_is() { lab_status a ".switch.flood_budget == \"$1\" or error" >/dev/null; }
on b ping -q -i 0.02 -c 250 "$(lab_address a)" >"$LAB_OUT/ping-reload.txt" 2>&1 &
pinging=$!
printf 'flood_budget = "2mbit"\nsessions = "all"\nmtu = 1300\n' | settings
kill -HUP "${LAB_PID[a]}"
lab_wait 5 "the budget of the file" budget_is 2mbit
lab_wait 5 "what was applied to be in the log" grep -q 'flood_budget = 2mbit: applied' "$LAB_OUT/a.log"
lab_wait 5 "and what waits" grep -q 'mtu = 1300: counts from the next start on' "$LAB_OUT/a.log"
[[ $(lab_status a .node.mtu) == 1400 ]] || lab_fail "the MTU is another without a start"
printf 'flood_budget = "3mbit"\nsesions = "all"\n' | settings
kill -HUP "${LAB_PID[a]}"
lab_wait 5 "the fault to be in the log" grep -q 'line 2, column 1 has the unknown field `sesions`, did you mean `sessions`?' "$LAB_OUT/a.log"
lab_expect "what was in force is" budget_is 2mbit
refused=$(on a shadowmesh reload 2>&1) && lab_fail "a file with a fault is taken"
[[ $refused == *"line 2, column 1"*"nothing is changed"* ]] || lab_fail "the fault is not said: $refused"
printf 'flood_budget = "3mbit"\nsessions = "auto"\n' | settings
for _ in {1..100}; do kill -HUP "${LAB_PID[a]}"; done
lab_wait 5 "the budget after a storm of signals" budget_is 3mbit
lab_expect "reload --json has nothing more to apply" on a sh -c "shadowmesh reload --json | jq -e '.applied == [] and .waits == [] and .restart == null'"
wait "$pinging" || lab_fail "the ping beside it failed: $(tail -2 "$LAB_OUT/ping-reload.txt")"
grep -q ' 0% packet loss' "$LAB_OUT/ping-reload.txt" || lab_fail "reloads cost frames: $(tail -2 "$LAB_OUT/ping-reload.txt")"
step "ok: 250 pings beside 102 signals, none lost"

lab_expect "b leaves when told" on b shadowmesh down
lab_wait 5 "a to see that b left" lab_status a '[.peers[] | select(.state == "connected")] == [] or error'
if on b shadowmesh status >/dev/null 2>&1; then lab_fail "status of a daemon that is gone succeeds"; fi
lab_expect "plain up --detach comes back" timeout 20 nsenter --target "${LAB_HOLDER[b]}" --net --mount --uts -- shadowmesh up --detach
lab_wait 20 "b to be connected again" lab_connected b 1
lab_expect "down" on b shadowmesh down

# In the foreground of a terminal that goes away, as when its window is closed: it ends as cleanly as by a word. With a terminal a SIGHUP is a reload.
lab_expect "script(1) is here" command -v script
start window b script -qfec "exec shadowmesh up" /dev/null
lab_wait 20 "b to be connected again" lab_connected b 1
daemon=$(on b cat /var/lib/shadowmesh/.lock)
lab_expect "it has a terminal" [ "$(on b ps -o tty= -p "$daemon" | tr -d ' ')" != "?" ]
on b sh -c 'echo "flood_budget = \"2mbit\"" >>/var/lib/shadowmesh/config.toml'
lab_expect "SIGHUP" on b kill -HUP "$daemon"
lab_wait 5 "the settings to be read again" lab_status b '.switch.flood_budget == "2mbit" or error'
before=$(lab_now_ms)
stop window KILL
gone() { on b sh -c '! kill -0 "$1" 2>/dev/null && [ ! -e /run/shadowmesh/control.sock ] && ! ip link show smesh0 2>/dev/null' sh "$daemon"; }
lab_wait 10 "the daemon, its socket and its device to be gone" gone
parted() { lab_status a '[.peers[] | select(.state == "connected")] == [] or error'; }
lab_wait 5 "a to be told" parted
lab_took "a terminal goes away: until all is gone and the peer knows" "$(($(lab_now_ms) - before))" 5000

# What `up --detach --json` prints has the shape of its schema; where it made the network, others join by it.
of_schema() {
    on b shadowmesh schema up | jq -e --slurpfile up "$1" '(.properties | keys) == ($up[0] | keys) and (.required - ($up[0] | keys)) == []'
}
timeout 20 nsenter --target "${LAB_HOLDER[b]}" --net --mount --uts -- shadowmesh up --detach --json >"$LAB_OUT/again.json" || lab_fail "up --detach --json: $?"
lab_expect "it is of its schema" of_schema "$LAB_OUT/again.json"
lab_expect "the document of a network that was there" jq -e \
    --arg address "$(lab_address b)" '.device == "smesh0" and .mtu == 1400 and .invite == null and (.relay | startswith("ws://")) and
    (.addresses | map(split("/")[0]) | index($address) != null) and .log == "/var/lib/shadowmesh/daemon.log"' "$LAB_OUT/again.json"
lab_expect "down" on b shadowmesh down
# In the foreground it is a line of that, and the next when it says something else.
start lines b shadowmesh up --json
lab_wait 20 "b to be connected again" lab_connected b 1
for which in head tail; do
    "$which" -n 1 "$LAB_OUT/lines.out" >"$LAB_OUT/$which.json"
    lab_expect "a line is of its schema" of_schema "$LAB_OUT/$which.json"
done
lab_expect "the first line is said before a relay is there" jq -e '.device == "smesh0" and .relay == null and .log == null' "$LAB_OUT/head.json"
lab_expect "the last is what --detach says" jq -e --slurpfile again "$LAB_OUT/again.json" 'del(.log) == ($again[0] | del(.log)) and .log == null' "$LAB_OUT/tail.json"
lab_expect "stdout has nothing else" jq -es 'length == 2' "$LAB_OUT/lines.out"
stop lines
lab_expect "b leaves its network" on b shadowmesh leave
timeout 20 nsenter --target "${LAB_HOLDER[b]}" --net --mount --uts -- shadowmesh up --detach --json --relay "$RELAY_TICKET" >"$LAB_OUT/made.json" || lab_fail "up --detach --json: $?"
lab_expect "it is of its schema" of_schema "$LAB_OUT/made.json"
lab_expect "a network that was made has an invite" jq -e '.invite | startswith("smi1")' "$LAB_OUT/made.json"
stop a
lab_expect "a leaves" on a shadowmesh leave
lab_up a "$(jq -r .invite "$LAB_OUT/made.json")"
lab_wait 20 "others to join by it" lab_connected a 1
lab_expect "down" on b shadowmesh down
