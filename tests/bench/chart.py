#!/usr/bin/env python3
"""A document of scripts/bench to a chart, as SVG: TCP with one flow, both directions together, a bar each and a line from the lowest round to the highest.

    tests/bench/chart.py artifacts/bench/bench.json docs/performance-tcp.svg
"""

import html
import json
import sys

STYLE = """
text { font: 13px system-ui, sans-serif; fill: #222 }
.title { font-size: 16px; font-weight: 600 } .note { fill: #666; font-size: 12px }
.ours { fill: #2f6fb2 } .bare { fill: #9aa5b1 } .peer { fill: #d08a3c }
.spread { stroke: #222; stroke-width: 1.5 } .grid { stroke: #ddd }
@media (prefers-color-scheme: dark) {
  svg { background: #16181c }
  text { fill: #e4e4e4 } .note { fill: #a0a0a0 } .spread { stroke: #e4e4e4 } .grid { stroke: #33373d }
}
"""
WIDTH, LEFT, RIGHT, ROW, TOP = 880, 250, 110, 26, 62


def kind_of(name):
    if name.startswith("shadowmesh"):
        return "ours"
    return "bare" if name.startswith("bare") else "peer"


def step_of(most):
    """A round distance of grid lines, for five or so of them."""
    for step in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50):
        if most / step <= 6:
            return step
    return 100


def draw(document):
    # The plain link would make everything else short; it is in the note.
    rows = [
        (contender["name"], contender["cipher"], contender["metrics"]["tcp_1"])
        for contender in document["contenders"]
        if contender["metrics"].get("tcp_1", {}).get("median") is not None and contender["name"] != "veth"
    ]
    rows.sort(key=lambda row: -row[2]["median"])
    if not rows:
        sys.exit("chart.py: nothing was measured with one TCP flow")
    most = max(row[2]["max"] for row in rows)
    scale = (WIDTH - LEFT - RIGHT) / most
    height = TOP + ROW * len(rows) + 34
    machine = document["machine"]
    veth = next((c["metrics"].get("tcp_1", {}).get("median") for c in document["contenders"] if c["name"] == "veth"), None)
    note = f"{machine['cpu']}, {machine['cores']} cores for all, Linux {machine['kernel']}; medians of rounds ({document['rounds']}) of {document['seconds']} s"
    if veth is not None:
        note += f"; plain link {veth:.1f}"
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="TCP with one flow, Gbit/s">',
        f"<style>{STYLE}</style>",
        '<text class="title" x="12" y="24">TCP with one flow, Gbit/s</text>',
        f'<text class="note" x="12" y="44">{html.escape(note)}</text>',
    ]
    step = step_of(most)
    for n in range(int(most / step) + 1):
        x = LEFT + n * step * scale
        out.append(f'<line class="grid" x1="{x:.1f}" y1="{TOP - 6}" x2="{x:.1f}" y2="{height - 26}"/>')
        out.append(f'<text class="note" x="{x:.1f}" y="{height - 10}" text-anchor="middle">{n * step:g}</text>')
    for n, (name, cipher, value) in enumerate(rows):
        y = TOP + n * ROW
        label = name if kind_of(name) != "peer" else f"{name} ({cipher})"
        end = LEFT + value["median"] * scale
        spread = [LEFT + value[edge] * scale for edge in ("min", "max")]
        out += [
            f'<text x="{LEFT - 8}" y="{y + 15}" text-anchor="end">{html.escape(label)}</text>',
            f'<rect class="{kind_of(name)}" x="{LEFT}" y="{y + 2}" width="{end - LEFT:.1f}" height="{ROW - 8}"/>',
            f'<line class="spread" x1="{spread[0]:.1f}" y1="{y + 11}" x2="{spread[1]:.1f}" y2="{y + 11}"/>',
            f'<text x="{max(end, spread[1]) + 8:.1f}" y="{y + 15}">{value["median"]:.2f}</text>',
        ]
    out.append("</svg>\n")
    return "\n".join(out)


def main():
    if len(sys.argv) != 3:
        sys.exit("usage: chart.py BENCH.json CHART.svg")
    with open(sys.argv[1], encoding="utf-8") as file:
        document = json.load(file)
    with open(sys.argv[2], "w", encoding="utf-8") as file:
        file.write(draw(document))


if __name__ == "__main__":
    main()
