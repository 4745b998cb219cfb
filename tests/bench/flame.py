#!/usr/bin/env python3
"""`perf script --fields ip,sym` on stdin to a flame graph, an SVG without scripts, and shares by stage as JSON on stdout.

A flame graph (Brendan Gregg, CACM 59(6), 2016) has the stacks side by side: a box is a function, as wide as its share of the samples, above the
function that called it. A box's title, which a browser shows under the pointer, has its full name and share.
"""

import argparse
import html
import json
import re
import sys

# What a sample is spent on: the first line of which anything in the stack, from the innermost function on, matches. The kernel's own by the call
# that led there, so what the receiving stack does in a write to the TAP is part of that write.
STAGES = [
    ("cipher", r"(?i)chacha|poly1305|gcm|aes(ni|_hw|v8)|ghash|EVP_AEAD|aead"),
    ("copies", r"^_*(mem(cpy|move|set|cmp|mmove)|__mem).*"),
    ("write to the device", r"tun_chr_write|tun_get_user"),
    ("read from the device", r"tun_chr_read|tun_do_read"),
    ("send to the socket", r"udp_sendmsg|udpv6_sendmsg|tcp_sendmsg|sys_send"),
    ("receive from the socket", r"udp_recvmsg|udpv6_recvmsg|tcp_recvmsg|sys_recv"),
    ("waiting and waking", r"sys_(poll|ppoll|epoll|futex|nanosleep)|schedule|do_idle"),
    ("checksums", r"checksum|::partial::"),
    ("cutting superframes", r"offload::split|Cutting|Segments"),
    ("merging frames", r"offload::merge|merging|Merge"),
    ("session: ring, window, acknowledgements", r"shadowmesh_proto::session"),
    ("switch and rules", r"switch::|access::"),
    ("the rest of the plane", r"plane::|transport::"),
    ("other system calls", r"entry_SYSCALL|do_syscall"),
]

# Told apart in light and in dark: the kernel's, ours, the cipher's.
STYLE = """
text { font: 11px ui-monospace, monospace; fill: #111; pointer-events: none }
.title { font: 14px system-ui, sans-serif; fill: #222 }
.kernel { fill: #9ec5e8 } .own { fill: #f2b880 } .cipher { fill: #b7d99a } .other { fill: #d0cdc8 }
rect { stroke: #fff; stroke-width: .5 }
@media (prefers-color-scheme: dark) { svg { background: #16181c } .title { fill: #ddd } rect { stroke: #16181c } }
"""
WIDTH, ROW, TOP, NARROWEST = 1200, 17, 30, 0.4


def stacks(lines):
    """Yields each sample's function names, outermost first."""
    stack = []
    for line in lines:
        line = line.strip()
        if not line:
            if stack:
                yield stack[::-1]
            stack = []
            continue
        _, _, name = line.partition(" ")
        # Rust's hash says nothing to people.
        stack.append(re.sub(r"::h[0-9a-f]{16}$", "", name.strip()) or "[unknown]")
    if stack:
        yield stack[::-1]


def stage_of(stack):
    for name, pattern in STAGES:
        if any(re.search(pattern, function) for function in reversed(stack)):
            return name
    return "everything else"


def kind_of(function):
    if re.search(STAGES[0][1], function):
        return "cipher"
    if "::" in function or "shadowmesh" in function:
        return "own"
    return "other" if function.startswith("[") or function in ("_start", "clone", "clone3", "start_thread") or function.startswith("__libc") else "kernel"


def tree_of(all_stacks):
    root = [0, {}]
    for stack in all_stacks:
        node = root
        node[0] += 1
        for function in stack:
            node = node[1].setdefault(function, [0, {}])
            node[0] += 1
    return root


def draw(root, title):
    boxes, deepest = [], 0
    scale = WIDTH / max(root[0], 1)

    def walk(node, left, depth):
        nonlocal deepest
        for name, (count, children) in sorted(node[1].items()):
            width = count * scale
            if width >= NARROWEST:
                deepest = max(deepest, depth)
                boxes.append((left, depth, width, name, count))
                walk((count, children), left, depth + 1)
            left += width

    walk(root, 0.0, 0)
    height = TOP + (deepest + 1) * ROW + 6
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{html.escape(title)}">',
        f"<style>{STYLE}</style>",
        f'<text class="title" x="6" y="19">{html.escape(title)}: {root[0]} samples</text>',
    ]
    for left, depth, width, name, count in boxes:
        y = height - 6 - (depth + 1) * ROW
        full = html.escape(f"{name}, {100 * count / root[0]:.1f} %")
        out.append(f'<g><title>{full}</title><rect class="{kind_of(name)}" x="{left:.1f}" y="{y}" width="{width:.1f}" height="{ROW - 1}"/>')
        room = int((width - 6) / 6.7)
        if room >= 3:
            short = name if len(name) <= room else name[: room - 1] + "…"
            out.append(f'<text x="{left + 3:.1f}" y="{y + 12}">{html.escape(short)}</text>')
        out.append("</g>")
    out.append("</svg>\n")
    return "\n".join(out)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--title", required=True)
    parser.add_argument("--svg", required=True, help="where the picture goes")
    parser.add_argument("--ticks", type=float, required=True, help="CPU time of the processes meanwhile")
    parser.add_argument("--ticks-per-second", type=float, required=True)
    parser.add_argument("--bytes", type=float, required=True, help="bytes of TCP data that passed meanwhile")
    given = parser.parse_args()

    samples = list(stacks(sys.stdin))
    if not samples:
        sys.exit("flame.py: there are no samples")
    with open(given.svg, "w", encoding="utf-8") as file:
        file.write(draw(tree_of(samples), given.title))
    counts = {}
    for stack in samples:
        stage = stage_of(stack)
        counts[stage] = counts.get(stage, 0) + 1
    # A segment is 1,348 bytes of data: what an MTU of 1,400 leaves.
    micros = given.ticks / given.ticks_per_second * 1e6 / (given.bytes / 1348)
    stages = [
        {"stage": stage, "share": round(count / len(samples), 4), "us_per_segment": round(micros * count / len(samples), 3)}
        for stage, count in sorted(counts.items(), key=lambda item: -item[1])
    ]
    json.dump({"title": given.title, "samples": len(samples), "us_per_segment": round(micros, 3), "stages": stages}, sys.stdout, indent=2, ensure_ascii=False)
    print()


if __name__ == "__main__":
    main()
