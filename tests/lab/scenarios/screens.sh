# shellcheck shell=bash
# What `status` and `status --watch` look like on a terminal of 80 columns, in a network with every kind of path; the README shows them.
# long: nothing that breaks, but for eyes
. "$(dirname "$0")/../lib.sh"
command -v tmux >/dev/null || scripts/install-deps more

lab_topology relay_three_nat
lab_host d 4
lab_nat b symmetric
lab_nat c udp-blocked
lab_nat d open
lab_wire b delay=9ms
lab_wire c delay=4ms
lab_wire d delay=14ms
lab_wire relay delay=6ms
lab_relay
on a shadowmesh network create office --relay "$RELAY_TICKET" --name desk
lab_up a
for guest in b:laptop c:printer d:server; do lab_up "${guest%:*}" "$(on a shadowmesh invite --name "${guest#*:}" 2>/dev/null)"; done
has() { lab_status a '.peers[] | select(.name == "'"$1"'") | .path.kind == "'"$2"'" and .paths_agree or error'; }
lab_wait 20 "the server directly" has server direct-udp
lab_wait 20 "the laptop over the relay" has laptop relay-udp
lab_wait 30 "the printer by TCP" has printer direct-tcp

terminal() { on a tmux -S "$LAB_DIR/terminal" "$@"; }
shown() { terminal capture-pane -p -t "$1"; }
# shows NAME WORDS — what NAME's terminal shows has these words; kept as NAME.txt, where no line is wider than the terminal.
shows() { shown "$1" | tee "$LAB_OUT/$1.txt" | grep -q -- "$2"; }
is_aligned() { # FILE: every peer's row has its columns where the heading has them.
    awk '/^PEER /{at = index($0, "ADDRESS"); next}
        at && /^(laptop|printer|server) /{if (substr($0, at - 1, 1) != " " || substr($0, at, 1) == " ") bad = 1; rows++}
        END {exit bad || rows < 3}' "$1"
}
fits() { ! grep -qE '^.{81,}' "$1"; }

step "status"
terminal new-session -d -x 80 -y 30 -s status 'shadowmesh status; echo; exec cat'
lab_wait 5 "status on a terminal" shows status server
lab_expect "status fits 80 columns" fits "$LAB_OUT/status.txt"
lab_expect "and is aligned" is_aligned "$LAB_OUT/status.txt"
terminal capture-pane -p -e -t status >"$LAB_OUT/status.colours"
lab_expect "it has colours on a terminal" grep -q $'\033\\[' "$LAB_OUT/status.colours"
on a shadowmesh status >"$LAB_OUT/status.piped"
lab_expect "and none elsewhere" sh -c "! grep -q $'\033' '$LAB_OUT/status.piped'"

step "status --watch, while bytes go and a path is moved"
terminal new-session -d -x 80 -y 30 -s watch 'exec shadowmesh status --watch'
lab_wait 5 "the view" shows watch server
lab_stream busy a d "$(quick 8 30)" 2000000 &
stream=$!
lab_hold "$(quick 2 12)" "bytes go"
lab_expect "onto the relay" on a shadowmesh path server --use relay
lab_hold "$(quick 1 5)" "over the relay"
lab_expect "and back" on a shadowmesh path server --use auto
wait "$stream" || lab_fail "the bytes did not all come"
lab_wait 30 "the server directly again" has server direct-udp
lab_wait 5 "the moves in the history" shows watch 'server relay, UDP to direct'
lab_expect "the view fits 80 columns" fits "$LAB_OUT/watch.txt"
lab_expect "it has lines of what was" grep -q '[▁▂▃▄▅▆▇█]' "$LAB_OUT/watch.txt"
terminal kill-server
cat "$LAB_OUT/status.txt" "$LAB_OUT/watch.txt"
