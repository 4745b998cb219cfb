# What the documents and tables of scripts/bench have in common: `include "numbers";`, with `jq -L tests/bench`.

def median: sort | if length == 0 then null elif length % 2 == 1 then .[length / 2 | floor] else (.[length / 2 - 1] + .[length / 2]) / 2 end;
def digits($n): if . == null then null elif . == 0 then 0 else . as $x | (pow(10; $n - 1 - ($x | fabs | log10 | floor))) as $by | ($x * $by | round) / $by end;
def spread: map(select(. != null)) | {median: (median | digits(4)), min: (min | digits(4)), max: (max | digits(4)), rounds: length};
def over($other): if . == null or $other == null or $other == 0 then null else . / $other | digits(3) end;
# {contender, round, metric, value}… → {contender: {metric: spread}}
def spreads: group_by(.contender) | map({key: .[0].contender, value: (group_by(.metric) | map({key: .[0].metric, value: (map(.value) | spread)}) | from_entries)}) | from_entries;
# With so many places behind the point.
def fixed($n): if . == null then "-" else . as $x | ($x * pow(10; $n) | round) as $i
    | if $n == 0 then "\($i)" else ($i | tostring) as $s | ("0" * ([$n + 1 - ($s | length), 0] | max) // "") + $s | "\(.[:-$n]).\(.[-$n:])" end end;
