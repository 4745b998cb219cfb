#!/usr/bin/env python3
"""Sends an Ethernet frame into DEVICE, COUNT times, five milliseconds apart, for `lab_frames`: what hosts do not say by themselves, lies among it.

    frame.py DEVICE COUNT FRAME…                          where a frame is one of

    SOURCE_MAC arp SENDER_MAC SENDER TARGET      an ARP request
    SOURCE_MAC udp DESTINATION_MAC SOURCE DESTINATION SOURCE_PORT DESTINATION_PORT
    SOURCE_MAC advertise TARGET MAC              a neighbour advertisement to all: MAC has TARGET
    SOURCE_MAC router                            a router advertisement
    SOURCE_MAC query SOURCE                      an IGMPv2 general query
    SOURCE_MAC group GROUP BYTES                 a UDP datagram to a group, so large
    SOURCE_MAC bpdu                              what a bridge says of its spanning tree
    SOURCE_MAC tagged COUNT FRAME…               any of these behind so many tags without a VLAN (802.1p)
    SOURCE_MAC hardware TYPE FRAME…              an ARP frame of another hardware type (6: IEEE 802)
"""

import ipaddress
import socket
import struct
import sys
import time

EVERYONE = b"\xff" * 6


def mac(text):
    return bytes.fromhex(text.replace(":", ""))


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!H", total ^ 0xFFFF)


def v4(text):
    return ipaddress.IPv4Address(text).packed


def v6(text):
    return ipaddress.IPv6Address(text).packed


def ipv4(source, destination, protocol, payload, ttl=64):
    head = struct.pack("!BBHHHBB", 0x45, 0, 20 + len(payload), 1, 0, ttl, protocol)
    rest = v4(source) + v4(destination)
    return b"\x08\x00" + head + checksum(head + b"\0\0" + rest) + rest + payload


def udp(source_port, destination_port, payload):
    # Without a checksum, which IPv4 allows (RFC 768).
    return struct.pack("!HHHH", source_port, destination_port, 8 + len(payload), 0) + payload


def icmpv6(source, destination, message):
    pseudo = v6(source) + v6(destination) + struct.pack("!IBBBB", len(message), 0, 0, 0, 58)
    message = message[:2] + checksum(pseudo + message) + message[4:]
    head = struct.pack("!IHBB", 6 << 28, len(message), 58, 255)
    return b"\x86\xdd" + head + v6(source) + v6(destination) + message


def link_local(address):
    return "fe80::%02x%02x:%02xff:fe%02x:%02x%02x" % ((address[0] ^ 2,) + tuple(address[1:]))


def group_mac(group):
    _, b, c, d = v4(group)
    return bytes([1, 0, 0x5E, b & 0x7F, c, d])


def frame(source, kind, *words):
    if kind == "arp":
        sender_mac, sender, target = words
        body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + mac(sender_mac) + v4(sender) + b"\0" * 6 + v4(target)
        return EVERYONE + source + b"\x08\x06" + body
    if kind == "udp":
        to, sender, receiver, source_port, destination_port = words
        # The first byte is that of a DHCP answer.
        datagram = udp(int(source_port), int(destination_port), b"\x02" + b"\0" * 17)
        return mac(to) + source + ipv4(sender, receiver, 17, datagram)
    if kind == "advertise":
        target, owner = words
        message = struct.pack("!BBHI", 136, 0, 0, 0x20000000) + v6(target) + b"\x02\x01" + mac(owner)
        return b"\x33\x33\0\0\0\x01" + source + icmpv6(link_local(source), "ff02::1", message)
    if kind == "router":
        prefix = struct.pack("!BBBBIII", 3, 4, 64, 0xC0, 3600, 3600, 0) + v6("2001:db8:bad::")
        message = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0) + prefix
        return b"\x33\x33\0\0\0\x01" + source + icmpv6(link_local(source), "ff02::1", message)
    if kind == "query":
        # To be answered within a second.
        message = b"\x11\x0a\0\0\0\0\0\0"
        message = message[:2] + checksum(message) + message[4:]
        return group_mac("224.0.0.1") + source + ipv4(words[0], "224.0.0.1", 2, message, ttl=1)
    if kind == "group":
        group, size = words
        datagram = udp(5000, 5000, b"\0" * (int(size) - 42))
        return group_mac(group) + source + ipv4("10.255.255.1", group, 17, datagram, ttl=1)
    if kind == "bpdu":
        message = b"\x42\x42\x03" + b"\0" * 35
        return b"\x01\x80\xc2\0\0\0" + source + struct.pack("!H", len(message)) + message
    if kind == "tagged":
        whole = frame(source, *words[1:])
        return whole[:12] + b"\x81\x00\x00\x00" * int(words[0]) + whole[12:]
    if kind == "hardware":
        whole = frame(source, *words[1:])
        return whole[:14] + struct.pack("!H", int(words[0])) + whole[16:]
    sys.exit(__doc__)


if len(sys.argv) < 5:
    sys.exit(__doc__)
device, count, source, *words = sys.argv[1:]
made = frame(mac(source), *words)
made += b"\0" * max(0, 60 - len(made))
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
wire.bind((device, 0))
for _ in range(int(count)):
    wire.send(made)
    time.sleep(0.005)
