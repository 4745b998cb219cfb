# shellcheck shell=bash
# What a connected pair and its relay take while nobody uses them: memory, threads, wake-ups. As root; a part of scripts/bench, whose document it prints.
LAB_OUT=artifacts/bench-idle
LAB_NO_CAPTURE=1
. tests/lab/lib.sh
lab_topology relay_two_nat open
lab_network
lab_direct a b

# PID → resident kilobytes; PID → context switches of all its threads (a wait that ended is one)
resident() { awk '/^VmRSS:/ { print $2 }' "/proc/$1/status"; }
waits() { cat "/proc/$1"/task/*/status | awk '/^(non)?voluntary_ctxt_switches:/ { sum += $2 } END { print sum }'; }
# A tunnel is idle when the hosts are: no router solicitations or neighbour checks of the kernel's own just after traffic.
lab_hold 5 "settling"
declare -A before=()
for label in a b relay; do before[$label]=$(waits "${LAB_PID[$label]}"); done
lab_hold "$BENCH_SECONDS" "idle"
idle='{}'
for label in a b relay; do
    pid=${LAB_PID[$label]}
    idle=$(jq --arg name "$label" --argjson kb "$(resident "$pid")" --argjson threads "$(find "/proc/$pid/task" -mindepth 1 -maxdepth 1 | wc -l)" \
        --argjson waits "$(($(waits "$pid") - ${before[$label]}))" --argjson s "$BENCH_SECONDS" \
        '. + {($name): {resident_kb: $kb, threads: $threads, wakeups_per_s: ($waits / $s * 100 | round / 100)}}' <<<"$idle")
done
# shellcheck disable=SC2153 # of prelude.sh
jq -n --argjson idle "$idle" --arg cpu "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1)" --argjson cores "$(nproc)" --arg kernel "$(uname -r)" \
    --arg commit "$(git -c safe.directory="$ROOT" rev-parse --short HEAD 2>/dev/null || echo unknown)" \
    '{machine: {cpu: $cpu, cores: $cores, kernel: $kernel}, commit: $commit, idle_connected: $idle}' >&4
