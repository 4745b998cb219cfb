# The document of relay.jq → one table ($part: forwarded, latency, clients, asked), cells with tabs between.

include "numbers";

.rounds as $all | .metrics as $metrics |
def cell($name; $metric; $n): $metrics[$name][$metric] | if . == null or .median == null then "-"
    elif .rounds == 1 then .median | fixed($n) else "\(.median | fixed($n)) (\(.min | fixed($n))–\(.max | fixed($n)))" end;
def row($name; $metrics_of): [$name] + [$metrics_of[] | cell($name; .[0]; .[1])];
def there($name): $metrics[$name] != null;

if $part == "forwarded" then
    ["FORWARDED, packets of 1,200 bytes"] + [$batches[] | "\(.) a message: Gbit/s", "for a core", "lost %"],
    (["relay-ws", "relay-wss", "relay-udp", "iroh", "iroh-tls", "coturn"][] | select(there(.)) | row(.; [$batches[] | ["gbit_\(.)", 2], ["per_core_\(.)", 2], ["lost_pct_\(.)", 1]]))
elif $part == "latency" then
    ["ONE WAY, microseconds", "idle p50", "idle p99", "at Gbit/s", "p50", "p99"],
    (["relay-ws", "relay-wss", "relay-udp"][] | select(there(.)) | row(.; [["idle_p50_us", 0], ["idle_p99_us", 0], ["load_gbit", 2], ["load_p50_us", 0], ["load_p99_us", 0]]))
elif $part == "clients" then
    ["CLIENTS", "KiB each", "CPU %", "introduced p50 us", "p99 us"],
    ($metrics | keys[] | select(startswith("crowd-")) | {name: ., count: (ltrimstr("crowd-") | tonumber)}),
    {name: "pairs", count: null}
    | if type == "array" then . elif .name == "pairs" then
        (if there("pairs") then ["pairs that carry \(cell("pairs"; "mbit"; 0)) Mbit/s, \(cell("pairs"; "lost"; 0)) packets lost", cell("pairs"; "kib_per_pair"; 1), cell("pairs"; "cpu_pct"; 1), "-", "-"] else empty end)
      else [.name as $name | "\(.count) idle, TLS", cell($name; "kib_per_client"; 1), cell($name; "cpu_pct"; 2), cell($name; "matched_p50_us"; 0), cell($name; "matched_p99_us"; 0)] end
elif $part == "joins" then
    ["NEW CLIENTS", "a second", "for a second of a core", "introduced p50 us", "p99 us"], row("joins"; [["per_second", 0], ["per_relay_second", 0], ["matched_p50_us", 0], ["matched_p99_us", 0]])
else
    ["ASKED FOR", "CAME OUT", "WANTED"],
    (.asked[] | [.what, (if has("ratio") then "\(.ratio | fixed(2)) times" else "\(.value | fixed(1)) \(.unit)" end), "\(.sense) \(.wanted)\(if has("ratio") then "" else " \(.unit)" end)"])
end | join("\t")
