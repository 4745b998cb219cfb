# Numbers of all rounds → one document of scripts/bench relay: medians with spread, and what was asked for beside what came out. Judges nothing.
#   $results: {contender, round, metric, value}…

include "numbers";

($results | spreads) as $metrics
| def of($name; $metric): $metrics[$name][$metric].median;
  def ratio($what; $name; $other; $metric; $wanted): {what: $what, value: of($name; $metric), of_other: of($other; $metric), ratio: (of($name; $metric) | over(of($other; $metric))), sense: "at least", wanted: $wanted};
  def absolute($what; $name; $metric; $sense; $wanted; $unit): {what: $what, value: of($name; $metric), unit: $unit, sense: $sense, wanted: $wanted};
{
    machine: {cpu: $cpu, cores: $cores, kernel: $kernel}, commit: $commit, date: $date, rounds: $rounds, seconds: $seconds, versions: $versions,
    units: {gbit: "Gbit/s that arrive", per_core: "Gbit for each second of a core that the relay takes", us: "microseconds, one way", per_relay_second: "clients for each second of a core that the relay takes"},
    metrics: $metrics,
    asked: [
        ($batches[] | . as $n | ratio("relay-ws to iroh-relay, \($n) packets a message"; "relay-ws"; "iroh"; "gbit_\($n)"; 1.2)),
        ($batches[] | . as $n | ratio("the same for each second of a core that the relay takes, \($n) packets a message"; "relay-ws"; "iroh"; "per_core_\($n)"; 1.2)),
        absolute("relay-udp, 40 packets a call, for a core"; "relay-udp"; "per_core_40"; "at least"; 2; "Gbit/s"),
        ratio("relay-udp, one packet a call, to coturn, for a core"; "relay-udp"; "coturn"; "per_core_1"; 1),
        absolute("new clients for each second of a core that the relay takes"; "joins"; "per_relay_second"; "at least"; 1500; ""),
        absolute("an idle TLS client of \($most)"; "crowd-\($most)"; "kib_per_client"; "at most"; 24; "KiB"),
        absolute("an introduction beside \($most) clients, 99th percentile"; "crowd-\($most)"; "matched_p99_us"; "under"; 1000; "microseconds")
    ] | map(select(.value != null))
}
