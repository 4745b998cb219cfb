# The document of report.jq → one table ($part: tcp, udp, rest, asked, out), cells with tabs between.

include "numbers";

.rounds as $all |
def cell($metric; $by; $n): .metrics[$metric] | if . == null or .median == null then "-"
    elif $all == 1 then .median * $by | fixed($n)
    else "\(.median * $by | fixed($n)) (\(.min * $by | fixed($n))–\(.max * $by | fixed($n))\(if .rounds < $all then ", of \(.rounds) rounds" else "" end))" end;
def pair($a; $b; $by; $n): "\(.metrics[$a].median | if . == null then "-" else . * $by | fixed($n) end) / \(.metrics[$b].median | if . == null then "-" else . * $by | fixed($n) end)";
def shown: .contenders[] | select(.metrics != {});
def has($metric): any(.contenders[]; .metrics[$metric].median != null);

if $part == "tcp" then
    select(has("tcp_1")) |
    ["TCP, Gbit/s", "LAYER", "1 a→b", "1 b→a", "4 a→b", "4 b→a", "50 a→b", "50 b→a", "OF VETH", "OF \(.best_other // "the best other")"],
    (shown | [.name, .layer, cell("tcp_1_ab"; 1; 2), cell("tcp_1_ba"; 1; 2), cell("tcp_4_ab"; 1; 2), cell("tcp_4_ba"; 1; 2), cell("tcp_50_ab"; 1; 2), cell("tcp_50_ba"; 1; 2),
        (.to_veth | fixed(2)), (.to_best_other | fixed(2))])
elif $part == "udp" then
    select(has("udp_64")) |
    ["UDP, thousands a second that arrive", "64 bytes", "512 bytes", "1200 bytes", "1200, segmented by the kernel"],
    (shown | [.name, cell("udp_64"; 0.001; 1), cell("udp_512"; 0.001; 1), cell("udp_1200"; 0.001; 1), cell("udp_1200_segmented"; 0.001; 1)])
elif $part == "rest" then
    ["ROUND TRIP, ms", "idle p50", "idle p99", "load p50", "load p99", "CPU s/GB a→b: a / b", "relay", "b→a: a / b", "MB idle: a / b", "after load: a / b", "relay"],
    (shown | [.name, cell("rtt_idle_p50"; 1; 3), cell("rtt_idle_p99"; 1; 3), cell("rtt_load_p50"; 1; 2), cell("rtt_load_p99"; 1; 2),
        pair("cpu_ab_a"; "cpu_ab_b"; 1; 2), cell("cpu_ab_relay"; 1; 2), pair("cpu_ba_a"; "cpu_ba_b"; 1; 2),
        pair("rss_idle_a"; "rss_idle_b"; 0.001; 1), pair("rss_loaded_a"; "rss_loaded_b"; 0.001; 1), cell("rss_loaded_relay"; 0.001; 1)])
elif $part == "asked" then
    select(.asked != []) |
    ["ASKED FOR", "CAME OUT", "WANTED"],
    (.asked[] | [.what, (if .to then "\(.ratio | fixed(2)) times" else "\(.value | fixed(2)) \(.unit)" end),
        "\(.sense) \(.wanted)\(if .to then "" else " \(.unit)" end)"])
else
    (.contenders[] | select(.left_out) | ["left out: \(.name): \(.left_out)"]),
    (.contenders[] | select(.metrics.left_path) | ["\(.name) left its path in \(.metrics.left_path.rounds) of its rounds: those are not counted"])
end | join("\t")
