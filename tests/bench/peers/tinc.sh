# shellcheck shell=bash
# tinc 1.0: a mesh VPN, here as a switch. Layer 2.
contender tinc 2 "Blowfish-CBC, HMAC-SHA1" "switch mode, its defaults" tinc_up
from_debian tinc tinc:tincd

tinc_up() {
    local host other at there
    for host in a b; do
        at="$LAB_DIR/$host/run/tinc" there=$OUTER_A
        [[ $host == a ]] || there=$OUTER_B
        [[ ! -e $at/tinc.conf ]] || continue
        mkdir -p "$at/hosts"
        printf 'Name = %s\nMode = switch\nDeviceType = tap\nInterface = tap0\n' "$host" >"$at/tinc.conf"
        printf 'Address = %s\n' "$there" >"$at/hosts/$host"
        printf '#!/bin/sh\n' >"$at/tinc-up" && chmod +x "$at/tinc-up"
        tincd --config="$at" -K2048 </dev/null >/dev/null 2>&1 || return 1
    done
    cp "$LAB_DIR/a/run/tinc/hosts/a" "$LAB_DIR/b/run/tinc/hosts/a"
    cp "$LAB_DIR/b/run/tinc/hosts/b" "$LAB_DIR/a/run/tinc/hosts/b"
    for host in a b; do
        other=b && [[ $host == a ]] || other=a
        printf 'Name = %s\nMode = switch\nDeviceType = tap\nInterface = tap0\nConnectTo = %s\n' "$host" "$other" >"$LAB_DIR/$host/run/tinc/tinc.conf"
        start "$host-tinc" "$host" tincd --config=/run/tinc --no-detach --pidfile=/run/tinc/pid
    done
    inner tap0 1400
}
