# Numbers of all rounds → one document: medians with spread, ratios, and what was asked for beside what came out. Judges nothing.
#   $results: {contender, round, metric, value}…   $contenders: {name, layer, cipher, about, version, left_out}…

include "numbers";

# Both directions of one round are one number as well: tcp_1 beside tcp_1_ab and tcp_1_ba.
def both_ways: group_by([.contender, .round])
    | map(. as $rows | .[0] as $of | ($rows | map({(.metric): .value}) | add) as $had
        | ["tcp_1", "tcp_4", "tcp_50"] | map(. as $metric | $had["\($metric)_ab"] as $ab | $had["\($metric)_ba"] as $ba
            | select($ab != null and $ba != null) | {contender: $of.contender, round: $of.round, metric: $metric, value: (($ab + $ba) / 2)}))
    | flatten;

($results + ($results | both_ways) | spreads) as $metrics
| def of($name; $metric): $metrics[$name][$metric].median;
  def is_other: .name | test("^(shadowmesh|veth|bare)") | not;
  def best(choose; $metric): [$contenders[] | select(is_other and choose) | {name, value: of(.name; $metric)} | select(.value != null)] | max_by(.value);
  def ratio($what; $name; $other; $metric; $sense; $wanted):
    {what: $what, name: $name, to: $other, metric: $metric, value: of($name; $metric), of_other: of($other; $metric),
     ratio: (of($name; $metric) | over(of($other; $metric))), wanted: $wanted, sense: $sense};
  def absolute($what; $name; $metric; $sense; $wanted; $unit):
    {what: $what, name: $name, to: null, metric: $metric, value: of($name; $metric), unit: $unit, ratio: null, wanted: $wanted, sense: $sense};
{
    machine: {cpu: $cpu, cores: $cores, kernel: $kernel}, commit: $commit, date: $date, rounds: $rounds, seconds: $seconds,
    units: {tcp: "Gbit/s", udp: "datagrams/s that arrive, a to b", rtt: "ms", cpu: "s/GB", rss: "kB"},
    contenders: [$contenders[] | . + {
        metrics: ($metrics[.name] // {}),
        to_veth: (of(.name; "tcp_1") | over(of("veth"; "tcp_1"))),
        to_best_other: (of(.name; "tcp_1") | over(best(true; "tcp_1").value))
    }],
    best_other: best(true; "tcp_1").name,
    best_other_of_layer_2: best(.layer == 2; "tcp_1").name,
    asked: (best(.layer == 2; "tcp_1").name as $layer2 | [
        ratio("1 TCP flow, ChaCha20-Poly1305 to boringtun"; "shadowmesh-chacha"; "boringtun"; "tcp_1"; "at least"; 3.5),
        ratio("1 TCP flow, AES-256-GCM to boringtun"; "shadowmesh-aes"; "boringtun"; "tcp_1"; "at least"; 5.5),
        ratio("1 TCP flow, ChaCha20-Poly1305 to boringtun with one thread"; "shadowmesh-chacha"; "boringtun-1"; "tcp_1"; "at least"; 3.5),
        ratio("1 TCP flow, AES-256-GCM to boringtun with one thread"; "shadowmesh-aes"; "boringtun-1"; "tcp_1"; "at least"; 5.5),
        ratio("1 TCP flow, AES-256-GCM to the best layer-2 peer"; "shadowmesh-aes"; $layer2 // "none"; "tcp_1"; "at least"; 5),
        ratio("1 TCP flow, ChaCha20-Poly1305 to wireguard-go"; "shadowmesh-chacha"; "wireguard-go"; "tcp_1"; "more than"; 1),
        ratio("1 TCP flow, AES-256-GCM to wireguard-go"; "shadowmesh-aes"; "wireguard-go"; "tcp_1"; "more than"; 1),
        ratio("64-byte datagrams, ChaCha20-Poly1305 to boringtun"; "shadowmesh-chacha"; "boringtun"; "udp_64"; "at least"; 2),
        ratio("64-byte datagrams, AES-256-GCM to boringtun"; "shadowmesh-aes"; "boringtun"; "udp_64"; "at least"; 2),
        ratio("64-byte datagrams, ChaCha20-Poly1305 to boringtun with one thread"; "shadowmesh-chacha"; "boringtun-1"; "udp_64"; "at least"; 2),
        ratio("64-byte datagrams, AES-256-GCM to boringtun with one thread"; "shadowmesh-aes"; "boringtun-1"; "udp_64"; "at least"; 2),
        ratio("idle round trip, ChaCha20-Poly1305 to boringtun"; "shadowmesh-chacha"; "boringtun"; "rtt_idle_p50"; "at most"; 1),
        ratio("idle round trip, AES-256-GCM to boringtun"; "shadowmesh-aes"; "boringtun"; "rtt_idle_p50"; "at most"; 1),
        ratio("idle round trip, ChaCha20-Poly1305 to boringtun with one thread"; "shadowmesh-chacha"; "boringtun-1"; "rtt_idle_p50"; "at most"; 1),
        ratio("idle round trip, AES-256-GCM to boringtun with one thread"; "shadowmesh-aes"; "boringtun-1"; "rtt_idle_p50"; "at most"; 1),
        ratio("1 TCP flow, ChaCha20-Poly1305 to the bare tunnel"; "shadowmesh-chacha"; "bare-chacha"; "tcp_1"; "at least"; 0.8),
        ratio("1 TCP flow, AES-256-GCM to the bare tunnel"; "shadowmesh-aes"; "bare-aes"; "tcp_1"; "at least"; 0.8),
        ratio("1 TCP flow, ChaCha20-Poly1305 with ring and acknowledgements to without"; "shadowmesh-chacha"; "shadowmesh-chacha-no-ring"; "tcp_1"; "at least"; 0.9),
        ratio("1 TCP flow, AES-256-GCM with ring and acknowledgements to without"; "shadowmesh-aes"; "shadowmesh-aes-no-ring"; "tcp_1"; "at least"; 0.9),
        absolute("1 TCP flow by relay-ws, AES-256-GCM"; "shadowmesh-aes-relay-ws"; "tcp_1"; "at least"; 1; "Gbit/s"),
        absolute("1 TCP flow by relay-ws, ChaCha20-Poly1305"; "shadowmesh-chacha-relay-ws"; "tcp_1"; "at least"; 1; "Gbit/s"),
        absolute("99 % of round trips under load, AES-256-GCM (3 times veth, or 20 ms)"; "shadowmesh-aes"; "rtt_load_p99"; "at most";
            [20, 3 * (of("veth"; "rtt_load_p99") // 0)] | max; "ms"),
        absolute("99 % of round trips under load, ChaCha20-Poly1305 (3 times veth, or 20 ms)"; "shadowmesh-chacha"; "rtt_load_p99"; "at most";
            [20, 3 * (of("veth"; "rtt_load_p99") // 0)] | max; "ms")
    ] | map(select(.value != null and (.to == null or .of_other != null))))
}
