#!/usr/bin/env python3
"""What `mesh` asks of many hosts at once, without a process for each question, which would be most of the load. Prints JSON.

    mesh.py reached COUNT WORD SECONDS LOG…   waits until each log says `connected to NAME … WORD …` of COUNT others; when each did, ms since 1970
    mesh.py usage SECONDS PID…                CPU, context switches and memory of these processes over so long
    mesh.py ping SECONDS RATE [ONE]           every host of stdin (`NAMESPACE ADDRESS` a line) pings every other, or ONE all others and they it,
                                              at most RATE a second in all; what has no answer after a second is sent again
    mesh.py silence ONE SECONDS               ONE pings all others of stdin, each every 50 ms, until nobody answered for SECONDS

Exits with 1 where something did not come to be in time, and says on stderr what.
"""

import ctypes
import json
import os
import random
import re
import select
import socket
import struct
import sys
import time

libc = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000
SOL_RAW, ICMP_FILTER = 255, 1
ECHO_REPLY, ECHO_REQUEST = 0, 8
AGAIN_S = 1.0
TICK_S = 0.02


def now_ms():
    return int(time.time() * 1000)


def spread(values):
    """The median and the largest."""
    values = sorted(values)
    return {"p50": values[(len(values) - 1) // 2], "max": values[-1]} if values else {"p50": None, "max": None}


def reached(count, word, seconds, logs):
    count, deadline = int(count), time.monotonic() + float(seconds)
    line = re.compile(rb"^connected to (\S+) .*" + re.escape(word.encode()) + rb".*$", re.M)
    names, read, done = {log: set() for log in logs}, dict.fromkeys(logs, 0), {}
    while len(done) < len(logs):
        for log in logs:
            if log in done or os.path.getsize(log) == read[log]:
                continue
            with open(log, "rb") as file:
                file.seek(read[log])
                text = file.read()
            # The last line may be half written.
            whole = text.rfind(b"\n") + 1
            read[log] += whole
            names[log].update(line.findall(text[:whole]))
            if len(names[log]) >= count:
                done[log] = now_ms()
        if time.monotonic() > deadline:
            lacking = sorted((len(found), os.path.basename(log)) for log, found in names.items() if log not in done)
            print(f"{len(lacking)} of {len(logs)} did not reach {count}: {lacking[:12]}", file=sys.stderr)
            sys.exit(1)
        time.sleep(TICK_S)
    print(json.dumps(sorted(done.values())))


def used(pid):
    """CPU nanoseconds and context switches of all threads so far."""
    cpu = switches = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/schedstat") as file:
            cpu += int(file.read().split()[0])
        with open(f"/proc/{pid}/task/{task}/status") as file:
            switches += sum(int(n) for n in re.findall(r"^\w*voluntary_ctxt_switches:\s+(\d+)", file.read(), re.M))
    return cpu, switches


def memory(pid):
    """Kilobytes: resident, proportional, and of no other process."""
    with open(f"/proc/{pid}/smaps_rollup") as file:
        fields = dict(re.findall(r"^(\w+):\s+(\d+) kB", file.read(), re.M))
    return {
        "rss_kb": int(fields["Rss"]),
        "pss_kb": int(fields["Pss"]),
        "private_kb": int(fields["Private_Clean"]) + int(fields["Private_Dirty"]),
    }


def usage(seconds, pids):
    began, before = time.monotonic(), [used(pid) for pid in pids]
    time.sleep(float(seconds))
    took, after = time.monotonic() - began, [used(pid) for pid in pids]
    each = [
        {"cpu_pct": (b[0] - a[0]) / took / 1e7, "wakeups_per_s": (b[1] - a[1]) / took, "cpu_ms": b[0] / 1e6} | memory(pid)
        for pid, a, b in zip(pids, before, after)
    ]
    print(json.dumps({name: spread([round(one[name], 3) for one in each]) for name in each[0]}))


class Host:
    """A socket for ICMP in a namespace; sockets stay in the one that they were made in."""

    def __init__(self, namespace, address):
        self.namespace, self.address = namespace, address
        with open(f"/run/netns/{namespace}") as file:
            if libc.setns(file.fileno(), CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), f"cannot enter {namespace}")
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        # Only answers.
        self.socket.setsockopt(SOL_RAW, ICMP_FILTER, struct.pack("=I", ~(1 << ECHO_REPLY) & 0xFFFFFFFF))
        self.socket.setblocking(False)

    def send(self, to, number):
        payload = struct.pack("!Q", number)
        head = struct.pack("!BBHHH", ECHO_REQUEST, 0, 0, number & 0xFFFF, number >> 16 & 0xFFFF)
        words = struct.unpack(f"!{(len(head) + len(payload)) // 2}H", head + payload)
        total = sum(words)
        while total >> 16:
            total = (total & 0xFFFF) + (total >> 16)
        try:
            self.socket.sendto(head[:2] + struct.pack("!H", total ^ 0xFFFF) + head[4:] + payload, (to, 0))
        except OSError as error:
            # As good as lost: it is sent again, and counted.
            return error
        return None

    def answers(self):
        """The numbers that came back, and from whom."""
        while True:
            try:
                packet, (sender, _) = self.socket.recvfrom(2048)
            except BlockingIOError:
                return
            payload = packet[(packet[0] & 15) * 4 + 8 :]
            if len(payload) == 8:
                yield struct.unpack("!Q", payload)[0], sender


def hosts_of_stdin():
    return [Host(*line.split()) for line in sys.stdin]


class Pinger:
    def __init__(self, hosts):
        self.by_fd = {host.socket.fileno(): host for host in hosts}
        self.poll = select.epoll()
        for fd in self.by_fd:
            self.poll.register(fd, select.EPOLLIN)

    def answers(self, wait):
        for fd, _ in self.poll.poll(max(wait, 0), len(self.by_fd)):
            for number, sender in self.by_fd[fd].answers():
                yield number, sender


def ping(seconds, rate, one=None):
    hosts, rate = hosts_of_stdin(), float(rate)
    pinger, count = Pinger(hosts), len(hosts)
    # Round by round each to another one, so that nobody is asked by all at once.
    pairs = [(a, hosts[(i + step) % count]) for step in range(1, count) for i, a in enumerate(hosts)]
    if one:
        pairs = [pair for pair in pairs if one in (pair[0].namespace, pair[1].namespace)]
    sent, waiting, answered, first, errors = {}, {}, {}, {}, {}
    began = time.monotonic()
    due, number, again = list(reversed(pairs)), random.getrandbits(32) << 24, 0
    while len(answered) < len(pairs) and time.monotonic() - began < float(seconds):
        now = time.monotonic()
        while due and len(sent) < (now - began) * rate + 1:
            pair = due.pop()
            if pair in answered:
                continue
            number += 1
            sent[number] = (pair, now)
            waiting[number] = now
            first.setdefault(pair, now)
            error = pair[0].send(pair[1].address, number)
            if error:
                errors[str(error)] = errors.get(str(error), 0) + 1
        for back, sender in pinger.answers(0.002):
            pair, when = sent.get(back, (None, None))
            if pair and pair[1].address == sender:
                waiting.pop(back, None)
                answered.setdefault(pair, (time.monotonic(), time.monotonic() - when, time.monotonic() - first[pair]))
        now = time.monotonic()
        for late in [n for n, when in waiting.items() if now - when > AGAIN_S]:
            del waiting[late]
            if sent[late][0] not in answered:
                again += 1
                due.insert(0, sent[late][0])
    ended = time.monotonic()
    missing = [(a.namespace, b.namespace) for a, b in pairs if (a, b) not in answered]
    print(
        json.dumps(
            {
                "pairs": len(pairs),
                "answered": len(answered),
                "sent_again": again,
                "took_ms": round((ended - began) * 1000),
                "first_answer_ms": {k: v and round(v * 1000, 1) for k, v in spread([w for _, _, w in answered.values()]).items()},
                "errors": errors,
            }
        )
    )
    if missing:
        print(f"{len(missing)} of {len(pairs)} pings were never answered: {missing[:8]}", file=sys.stderr)
        sys.exit(1)


def silence(one, seconds):
    hosts = hosts_of_stdin()
    sender = next(host for host in hosts if host.namespace == one)
    others = {host.address: host for host in hosts if host is not sender}
    pinger, last, number, said = Pinger([sender]), {}, 1, False
    rest, every, due = float(seconds), 0.05 / len(others), time.monotonic()
    began = heard = time.monotonic()
    order = list(others)
    while time.monotonic() - heard < rest and time.monotonic() - began < 60:
        while due <= time.monotonic():
            sender.send(order[number % len(order)], number)
            number, due = number + 1, due + every
        for _, address in pinger.answers(every):
            if address in others:
                heard, last[address] = time.monotonic(), now_ms()
                if len(last) == len(others) and not said:
                    # Now somebody may end that.
                    said = True
                    print("all answer", file=sys.stderr, flush=True)
    print(json.dumps({"heard": len(last), "of": len(others), "last_ms": spread(list(last.values()))}))
    if time.monotonic() - heard < rest:
        print("somebody answered to the end", file=sys.stderr)
        sys.exit(1)


if len(sys.argv) < 3:
    sys.exit(__doc__)
words = sys.argv[2:]
if sys.argv[1] == "reached":
    reached(words[0], words[1], words[2], words[3:])
elif sys.argv[1] == "usage":
    usage(words[0], words[1:])
elif sys.argv[1] == "ping":
    ping(*words)
elif sys.argv[1] == "silence":
    silence(*words)
else:
    sys.exit(__doc__)
