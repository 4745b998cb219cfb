# shellcheck shell=bash
# fastd: the tunnel daemon of the Freifunk networks. Layer 2.
contender fastd 2 "Salsa20/12, UMAC" "tap" fastd_up
from_debian fastd fastd:fastd

fastd_up() {
    local host other there
    for host in a b; do
        fastd --generate-key --machine-readable >"$LAB_DIR/$host/run/fastd.secret" || return 1
        printf 'secret "%s";\n' "$(cat "$LAB_DIR/$host/run/fastd.secret")" >"$LAB_DIR/$host/run/fastd.key"
    done
    for host in a b; do
        other=b there=$OUTER_B
        if [[ $host == b ]]; then other=a there=$OUTER_A; fi
        local public
        public=$(fastd --show-key --machine-readable --config "$LAB_DIR/$other/run/fastd.key") || return 1
        printf 'bind 0.0.0.0:10000;\nmode tap;\ninterface "tap0";\nmtu 1400;\nmethod "salsa2012+umac";\nlog level warn;\ninclude "/run/fastd.key";\npeer "%s" { key "%s"; remote %s:10000; }\n' \
            "$other" "$public" "$there" >"$LAB_DIR/$host/run/fastd.conf"
        start "$host-fastd" "$host" fastd --config /run/fastd.conf
    done
    inner tap0 1400
}
