//! `shadowmesh netcheck`: what the network here lets through.

use super::global::Global;
use super::output::{self, clean};
use super::runtime;
use crate::control::client::{self, unexpected};
use crate::control::message::{Netcheck, Request, Response};
use std::fmt::Write as _;

/// Say what the network here lets through: UDP, the router's mapping, IPv6, relays
///
/// What the daemon found out; it asks again whenever the network changes.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  sudo shadowmesh netcheck\n  sudo shadowmesh netcheck --json | jq .mapping"
)]
pub(super) struct Args {}

pub(super) fn run(global: &Global, _: &Args) -> anyhow::Result<()> {
    let socket = global.socket();
    let response = runtime()?.block_on(client::call(&socket, &Request::Netcheck))?;
    let Response::Netcheck(found) = response else { return Err(unexpected(&socket).into()) };
    if global.json {
        return output::document(&found);
    }
    Ok(output::data(table(&found).trim_end())?)
}

fn table(found: &Netcheck) -> String {
    let mut text = String::new();
    let mut line = |name: &str, words: &str| {
        // Writing to a String does not fail.
        let _ = writeln!(text, "{name:<10} {words}");
    };
    let yes = |known: Option<bool>| match known {
        Some(true) => "works",
        Some(false) => "does not work",
        None => "unknown yet",
    };
    line("UDP", yes(found.udp));
    let known =
        |what: &Option<String>| what.as_ref().map_or_else(|| "unknown".to_owned(), |what| clean(what, 40));
    line("mapping", &format!("{}: {}", known(&found.mapping), clean(&found.mapping_why, 120)));
    let filtering =
        found.filtering.as_ref().map_or_else(|| "not measured".to_owned(), |what| clean(what, 40));
    line("filtering", &format!("{filtering}: {}", clean(&found.filtering_why, 120)));
    line(
        "IPv6",
        if found.ipv6 { "an address that others may reach" } else { "no address that others could reach" },
    );
    let mapped: Vec<String> = found.mapped_ports.iter().map(|port| clean(port, 60)).collect();
    line("mapped", &if mapped.is_empty() { "no port".to_owned() } else { mapped.join(", ") });
    for candidate in &found.candidates {
        line("address", &clean(candidate, 80));
    }
    for relay in &found.relays {
        let state = if relay.connected { "connected" } else { "not connected" };
        let rtt = relay.rtt_ms.map(|ms| format!(" {}", output::ms(ms))).unwrap_or_default();
        let seen =
            relay.observed_udp.as_ref().map(|seen| format!(", sees {}", clean(seen, 60))).unwrap_or_default();
        line("relay", &format!("{} {state}{rtt}, UDP {}{seen}", clean(&relay.url, 60), yes(relay.udp)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::message::NetcheckRelay;

    #[test]
    fn every_fact_has_a_line_and_nothing_of_a_peer_or_relay_reaches_the_terminal_raw() {
        let relay = NetcheckRelay {
            url: "ws://r\x1b[2J:1/v1".into(),
            connected: true,
            rtt_ms: Some(12.4),
            udp: Some(true),
            observed_udp: Some("203.0.113.7:41641".into()),
        };
        let found = Netcheck {
            udp: Some(true),
            mapping: Some("endpoint-independent".into()),
            mapping_why: "one port".into(),
            filtering_why: "nobody tells".into(),
            candidates: vec!["host 192.0.2.1:5".into()],
            relays: vec![relay],
            ..Netcheck::default()
        };
        let text = table(&found);
        let expected = "UDP        works\nmapping    endpoint-independent: one port\nfiltering  not measured: nobody tells\n\
                        IPv6       no address that others could reach\nmapped     no port\naddress    host 192.0.2.1:5\n\
                        relay      ws://r[2J:1/v1 connected 12 ms, UDP works, sees 203.0.113.7:41641\n";
        assert_eq!(text, expected);
    }
}
