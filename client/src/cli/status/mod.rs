//! `shadowmesh status`: who is there, over which path, how well.

use super::global::Global;
use super::output::{self, clean};
use super::rotate::before;
use super::runtime;
use crate::control::client::{self, ControlError, unexpected};
use crate::control::message::{Request, Response, Wanted};
use crate::control::status::{LoopState, Peer, PeerState, Relay, Status};
use crate::daemon::members::unix_now;
use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::path::Path;
use std::time::Duration;

/// Show who is there, over which path, how well
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  shadowmesh status\n  shadowmesh status --json | jq '.peers[] | {name, state}'"
)]
pub(super) struct Args {
    /// Show it again every second, until Ctrl-C
    #[arg(long)]
    watch: bool,
}

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(1);
/// Clears the terminal and goes to its first line.
const CLEAR: &str = "\x1b[2J\x1b[H";

pub(super) fn run(global: &Global, args: &Args) -> anyhow::Result<()> {
    let socket = global.socket();
    runtime()?.block_on(async {
        if !args.watch {
            let status = ask(&socket).await?;
            return Ok(output::data(&if global.json {
                serde_json::to_string_pretty(&status)?
            } else {
                table(&status)
            })?);
        }
        let clear = if std::io::stdout().is_terminal() { CLEAR } else { "" };
        let mut tick = tokio::time::interval(INTERVAL);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                _ = tokio::signal::ctrl_c() => return Ok(()),
            }
            let status = ask(&socket).await?;
            // One document a line, for a program that reads a stream of them.
            let text = if global.json {
                serde_json::to_string(&status)?
            } else {
                format!("{clear}{}", table(&status))
            };
            output::data(&text)?;
        }
    })
}

/// Asks the daemon on `socket` for its status.
pub(super) async fn ask(socket: &Path) -> Result<Status, ControlError> {
    let response = client::call(socket, &Request::Status).await?;
    if let Response::Status(status) = response { Ok(*status) } else { Err(unexpected(socket)) }
}

/// The status for people: no line wider than 80 columns.
fn table(status: &Status) -> String {
    let mut text = String::new();
    let node = &status.node;
    // Writing to a String does not fail.
    let _ = writeln!(text, "{} in network {}", clean(&node.name, 30), clean(&status.network.name, 30));
    let _ = writeln!(text, "  id       {}", short_id(&node.id));
    let _ =
        writeln!(text, "  device   {} ({}, mtu {})", clean(&node.device, 15), clean(&node.mac, 17), node.mtu);
    for address in &node.addresses {
        let _ = writeln!(text, "  address  {}", clean(address, 60));
    }
    if let Some(member) = &status.membership {
        let admin = if member.is_admin { ", an admin" } else { "" };
        let tags =
            if member.tags.is_empty() { String::new() } else { format!(", {}", member.tags.join(" ")) };
        let line = format!("{} as {}{admin}{tags}", member.state, member.name);
        let _ = writeln!(text, "  network  {}", clean(&line, 68));
        for warning in &member.warnings {
            for line in wrapped(&clean(warning, 400), 69) {
                let _ = writeln!(text, "  ! {line}");
            }
        }
    }
    if let Some(line) = secret_line(status, unix_now()) {
        let _ = writeln!(text, "  secret   {line}");
    }
    for relay in &status.relays {
        let _ = writeln!(text, "  relay    {}", relay_line(relay));
    }
    if let Some(rules) = &status.rules {
        let _ = writeln!(text, "  rules    {} from {}", rules.count, clean(&rules.file, 55));
        if rules.error.is_some() {
            text.push_str("           another text was refused since: `sudo shadowmesh reload` says why\n");
        }
    }
    if let Some(line) = loop_line(status) {
        let _ = writeln!(text, "  loop     {line}");
    }
    if status.peers.is_empty() {
        text.push_str("\nno peers yet: `sudo shadowmesh invite` prints what another host joins with\n");
        return text;
    }
    let _ = writeln!(
        text,
        "\n{:<18} {:<15} {:<10} {:<10} {:>8}  SENT/RECEIVED",
        "PEER", "ADDRESS", "STATE", "PATH", "RTT"
    );
    for peer in &status.peers {
        let _ = writeln!(text, "{}", peer_line(peer));
        for note in notes(peer) {
            let _ = writeln!(text, "  {note}");
        }
    }
    text
}

/// That the network's secret is being replaced.
fn secret_line(status: &Status, now: u64) -> Option<String> {
    let secret = &status.membership.as_ref()?.secret;
    let until = secret.until.filter(|_| secret.state == "rotating")?;
    let has_old =
        |peer: &&Peer| peer.member.as_ref().is_some_and(|member| member.has_new_secret == Some(false));
    let old = match status.peers.iter().filter(has_old).count() {
        0 => String::new(),
        1 => " (1 peer not yet)".to_owned(),
        count => format!(" ({count} peers not yet)"),
    };
    let line = format!("generation {}{old}; {}", secret.generation, before(until, now));
    Some(clean(&line, 69))
}

/// That two nodes are bridged to one LAN, and which of them passes no broadcasts.
fn loop_line(status: &Status) -> Option<String> {
    let known = &status.switch.loops;
    let with = clean(known.with.as_deref().unwrap_or("a member"), 24);
    match known.state {
        LoopState::None => None,
        LoopState::Blocked => Some(format!("one LAN with {with}: this node passes no broadcasts")),
        LoopState::Contained => Some(format!("one LAN with {with}, which passes no broadcasts")),
    }
}

/// Lines of at most `width` characters.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.chars().take(width).collect()),
        }
    }
    lines
}

fn relay_line(relay: &Relay) -> String {
    let rtt = relay.rtt_ms.map(|ms| format!(", {}", output::ms(ms))).unwrap_or_default();
    format!("{} {}{rtt}", clean(&relay.url, 45), relay.state)
}

fn peer_line(peer: &Peer) -> String {
    let address =
        peer.addresses.first().map(|cidr| cidr.split('/').next().unwrap_or_default()).unwrap_or("-");
    let path = peer.path.as_ref().map_or_else(|| "-".to_owned(), |path| path.kind.to_string());
    let rtt = peer.path.as_ref().and_then(|path| path.rtt_ms).map_or_else(|| "-".to_owned(), output::ms);
    format!(
        "{:<18} {:<15} {:<10} {path:<10} {rtt:>8}  {} / {}",
        clean(&peer.name, 18),
        clean(address, 15),
        peer.state.to_string(),
        bytes(peer.tx_bytes),
        bytes(peer.rx_bytes)
    )
}

/// What is not as it is for most peers.
fn notes(peer: &Peer) -> Vec<String> {
    let mut notes = Vec::new();
    if peer.state == PeerState::Connected && !peer.paths_agree {
        let theirs = peer.peer_path.map_or_else(|| "another path".to_owned(), |kind| kind.to_string());
        notes.push(format!("it sends by {theirs}"));
    }
    if let Some(member) = &peer.member {
        match member.standing.as_str() {
            "refused" => {
                let why = member.why.as_deref().unwrap_or("no reason is known");
                notes.push(format!("not let in: {}", clean(why, 60)));
            }
            "pending" => notes.push("not let in yet: it has shown no certificate".to_owned()),
            _ => {}
        }
        if let Some(why) = &member.refuses_us {
            notes.push(format!("it does not let this node in: {}", clean(why, 45)));
        }
    }
    if peer.wanted != Wanted::Auto {
        let why = peer.path.as_ref().map_or("no path", |path| &path.why);
        notes.push(format!("asked for {}: {}", peer.wanted, clean(why, 50)));
    }
    notes
}

fn short_id(id: &str) -> String {
    clean(id, 80).chars().take(shadowmesh_proto::ids::SHORT_ID_CHARS).collect()
}

/// Bytes in at most four characters.
fn bytes(count: u64) -> String {
    let units = ["k", "M", "G", "T", "P", "E"];
    if count < 1_000 {
        return count.to_string();
    }
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let mut rest = count as f64 / 1_000.0;
    let mut unit = 0;
    // 999.5 would be shown as 1000.
    while rest >= 999.5 && unit + 1 < units.len() {
        rest /= 1_000.0;
        unit += 1;
    }
    let unit = units.get(unit).unwrap_or(&"E");
    if rest < 9.95 { format!("{rest:.1}{unit}") } else { format!("{rest:.0}{unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::status::tests::full;
    use crate::control::status::{PathKind, RulesInForce};

    #[test]
    fn the_table_fits_80_columns_whatever_peers_call_themselves() {
        let mut status = full();
        status.peers[0].name = "x\x1b[2J".repeat(20);
        status.peers[0].addresses = vec!["fd12:3456:789a::1234:5678:9abc:def0/64".into()];
        status.peers[0].tx_bytes = u64::MAX;
        status.relays[0].url = "wss://".to_owned() + &"r".repeat(200);
        status.rules =
            Some(RulesInForce { file: "/".repeat(200), count: 1_000, error: Some("x".repeat(200)) });
        status.node.name = "n".repeat(63);
        status.switch.loops.with = Some("l".repeat(63));
        let member = status.membership.as_mut().unwrap();
        (member.name, member.tags) = ("k".repeat(63), vec!["t".repeat(63); 16]);
        member.warnings = vec!["w".repeat(300), "a warning of many words ".repeat(20)];
        let member = status.peers[0].member.as_mut().unwrap();
        (member.standing, member.why) = ("refused".into(), Some("r".repeat(200)));
        member.refuses_us = Some("u".repeat(200));
        (member.has_new_secret, status.network.name) = (Some(false), "m".repeat(63));
        let text = table(&status);
        for line in text.lines() {
            assert!(line.chars().count() <= 80, "{} columns: {line}", line.chars().count());
        }
        assert!(!text.contains('\x1b'));
        assert!(text.contains("this node passes no broadcasts"));
    }

    #[test]
    fn columns_stand_under_their_heads() {
        let text = table(&full());
        let lines: Vec<&str> = text.lines().collect();
        let head = lines.iter().position(|line| line.starts_with("PEER")).expect("a head");
        let column = |name: &str| lines[head].find(name).expect("a column");
        let row = lines[head + 1];
        assert!(row[column("ADDRESS")..].starts_with("10.7.9.1 "), "{text}");
        assert!(row[column("STATE")..].starts_with("connected "), "{text}");
        assert!(row[column("PATH")..].starts_with("relay-ws "), "{text}");
        assert!(row.contains("48 ms  1.2M / 9.9G"), "{text}");
        assert!(lines[head + 2].contains("offline"), "{text}");
        assert!(lines.contains(&"  rules    3 from /etc/rules") && !text.contains("refused"), "{text}");
    }

    #[test]
    fn what_is_not_as_usual_is_said_under_the_peer() {
        let mut status = full();
        let rows = |status: &Status| table(status).lines().filter(|line| line.starts_with("  ")).count();
        let before = rows(&status);
        let peer = &mut status.peers[0];
        peer.paths_agree = false;
        peer.peer_path = Some(PathKind::DirectUdp);
        peer.wanted = Wanted::Direct;
        let text = table(&status);
        let mut lines = text.lines().skip_while(|line| !line.starts_with("b "));
        assert_eq!(lines.nth(1), Some("  it sends by direct-udp"), "{text}");
        assert_eq!(lines.next(), Some("  asked for direct: the only proven path"), "{text}");
        // Of one that is not connected nobody knows how it would send.
        status.peers[0].state = PeerState::Offline;
        assert_eq!(rows(&status), before + 1);
    }

    #[test]
    fn a_rotation_is_one_line_while_it_lasts() {
        let mut status = full();
        let line = |status: &Status| secret_line(status, 1_000);
        status.membership.as_mut().unwrap().secret.until = Some(1_000 + 3 * 86_400);
        assert_eq!(line(&status).as_deref(), Some("generation 2; the old one is good for 3 days more"));
        status.peers[0].member.as_mut().unwrap().has_new_secret = Some(false);
        assert!(line(&status).is_some_and(|line| line.starts_with("generation 2 (1 peer not yet); ")));
        status.membership.as_mut().unwrap().secret.state = "settled".into();
        assert_eq!(line(&status), None);
    }

    #[test]
    fn without_peers_it_says_what_to_do() {
        assert!(table(&Status::default()).contains("shadowmesh invite"));
    }

    #[test]
    fn byte_counts_stay_short() {
        for (count, text) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1.0k"),
            (9_960, "10k"),
            (999_499, "999k"),
            (999_500, "1.0M"),
            (u64::MAX, "18E"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }
}
