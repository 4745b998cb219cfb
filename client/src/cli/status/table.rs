//! The status for people: no line wider than 80 columns, one row for each peer.

use super::paint::Paint;
use crate::cli::members::by_clock_of;
use crate::cli::output::{self, clean, wrapped};
use crate::cli::rotate::before;
use crate::control::message::Wanted;
use crate::control::status::{
    Barred, ClockBehind, LoopState, Names, NamesWay, PathKind, Peer, PeerState, Relay, RelayState, Status,
};
use crate::daemon::clock::date;
use std::fmt::Write as _;

/// The status for people.
pub(super) fn table(status: &Status, paint: Paint) -> String {
    let mut text = String::new();
    let node = &status.node;
    // Writing to a String does not fail.
    let title = format!("{} in network {}", clean(&node.name, 30), clean(&status.network.name, 30));
    let _ = writeln!(text, "{}", paint.bold(&title));
    let _ = writeln!(text, "  id       {}", short_id(&node.id));
    let _ =
        writeln!(text, "  device   {} ({}, mtu {})", clean(&node.device, 15), clean(&node.mac, 17), node.mtu);
    for address in &node.addresses {
        let is_given = status
            .membership
            .iter()
            .flat_map(|member| &member.given)
            .any(|given| address.split('/').next() == Some(given));
        let given = if is_given { ", given by the network" } else { "" };
        let _ = writeln!(text, "  address  {}{given}", clean(address, 45));
    }
    if let Some(member) = &status.membership {
        let admin = if member.is_admin { ", an admin" } else { "" };
        let tags =
            if member.tags.is_empty() { String::new() } else { format!(", {}", member.tags.join(" ")) };
        // As other members call it, who cannot know why the invite was used up.
        let is_by_invite = member.shut_out.as_deref().is_some_and(|by| by.starts_with("invite-"));
        let state = if is_by_invite { "refused" } else { &member.state };
        let line = format!("{state} as {}{admin}{tags}", member.name);
        let _ = writeln!(text, "  network  {}", clean(&line, 68));
        for warning in &member.warnings {
            for line in wrapped(&clean(warning, 400), 69) {
                let _ = writeln!(text, "  {}", paint.bad(&format!("! {line}")));
            }
        }
    }
    if let Some(line) = secret_line(status, by_clock_of(status.now)) {
        let _ = writeln!(text, "  secret   {line}");
    }
    if let Some(ClockBehind { says, reckoned }) = status.clock {
        let line = format!("says {}, but {} was seen, and counts", date(says), date(reckoned));
        let _ = writeln!(text, "  clock    {}", paint.bad(&clean(&line, 69)));
    }
    for relay in &status.relays {
        let _ = writeln!(text, "  relay    {}", relay_line(relay, paint));
        for why in relay.refused.iter().flat_map(|why| why.split(": ")) {
            let _ = writeln!(text, "           {}", paint.fair(&clean(why, 69)));
        }
    }
    if let Some(rules) = &status.rules {
        let _ = writeln!(text, "  rules    {} from {}", rules.count, clean(&rules.file, 55));
        if rules.error.is_some() {
            text.push_str("           another text was refused since: `sudo shadowmesh reload` says why\n");
        }
    }
    if let Some(names) = &status.names {
        let _ = writeln!(text, "  names    {}", names_line(names));
        if names.left_out_count > 0 {
            let _ = writeln!(
                text,
                "           {} left out: `shadowmesh status --json` says why",
                names.left_out_count
            );
        }
        for line in names.error.iter().chain(&names.note).flat_map(|why| wrapped(&clean(why, 400), 69)) {
            let _ = writeln!(text, "  {}", paint.bad(&format!("! {line}")));
        }
    }
    if let Some(line) = loop_line(status) {
        let _ = writeln!(text, "  loop     {line}");
    }
    if status.peers.is_empty() {
        let _ = writeln!(text, "\n{}", no_peers(status));
        return text;
    }
    let head = format!(
        "{:<15} {:<15} {:<13} {:>8} {:>6}  {:<5} LAST SWITCH",
        "PEER", "ADDRESS", "PATH", "RTT", "LOSS", "AGREE"
    );
    let _ = writeln!(text, "\n{}", paint.bold(&head));
    for peer in by_name(&status.peers) {
        let _ = writeln!(text, "{}", peer_line(peer, paint));
        for note in notes(peer) {
            let _ = writeln!(text, "  {}", paint.fair(&note));
        }
    }
    if status.peers.iter().any(|peer| peer.state == PeerState::Idle) {
        // Once, for there may be a hundred of them.
        text.push_str("idle: asleep, for nobody used the session; wakes with the first frame\n");
    }
    text
}

/// The peers in the order in which people look for them, which stays as it is when somebody comes or goes.
pub(super) fn by_name(peers: &[Peer]) -> Vec<&Peer> {
    let mut sorted: Vec<&Peer> = peers.iter().collect();
    sorted.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    sorted
}

/// What is to be done where nobody is there, in less than 80 columns.
pub(super) fn no_peers(status: &Status) -> &'static str {
    match &status.membership {
        Some(member) if member.state == "joining" => {
            "no peers yet: this host joins as soon as a member of the network is connected"
        }
        Some(member) if !member.is_admin => {
            "no peers yet: `sudo shadowmesh invite` on an admin's host lets others join"
        }
        Some(_) | None => "no peers yet: `sudo shadowmesh invite` prints what another host joins with",
    }
}

/// That the network's secret is being replaced.
fn secret_line(status: &Status, now: u64) -> Option<String> {
    let secret = &status.membership.as_ref()?.secret;
    let until = secret.until.filter(|_| secret.state == "rotating")?;
    // Who is not let in gets none, as `rotate-secret` counts as well.
    let has_old = |peer: &&Peer| {
        let is_told = peer.barred.as_ref().is_none_or(|barred| !barred.by_us);
        is_told && peer.member.as_ref().is_some_and(|member| member.has_new_secret == Some(false))
    };
    let old = match status.peers.iter().filter(has_old).count() {
        0 => String::new(),
        1 => " (1 peer not yet)".to_owned(),
        count => format!(" ({count} peers not yet)"),
    };
    let line = format!("generation {}{old}; {}", secret.generation, before(until, now));
    Some(clean(&line, 69))
}

/// Which names other programs of this host find.
fn names_line(names: &Names) -> String {
    let way = match (names.way, names.domain.as_str(), &names.error) {
        (NamesWay::None, _, Some(_)) => return "not served".to_owned(),
        (NamesWay::None, _, None) | (_, "", _) => return "not served yet".to_owned(),
        (NamesWay::Hosts, ..) => "/etc/hosts",
        (NamesWay::Resolved, ..) => "systemd-resolved",
    };
    format!("{} by {way}: NAME.{}", names.served, clean(&names.domain, 38))
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

fn relay_line(relay: &Relay, paint: Paint) -> String {
    let rtt = relay.rtt_ms.map(|ms| format!(", {}", output::ms(ms))).unwrap_or_default();
    let state = relay.state.to_string();
    let state = match relay.state {
        RelayState::Connected => paint.good(&state),
        RelayState::Connecting => paint.fair(&state),
        RelayState::Down => paint.bad(&state),
    };
    let proxy = relay.proxy.as_deref().map(|proxy| format!(", by {}", clean(proxy, 45))).unwrap_or_default();
    format!("{} {state}{rtt}{proxy}", clean(&relay.url, 45))
}

fn peer_line(peer: &Peer, paint: Paint) -> String {
    let path = peer.path.as_ref().filter(|_| peer.state == PeerState::Connected);
    let rtt = path.and_then(|path| path.rtt_ms).map_or_else(|| "-".to_owned(), output::ms);
    let loss = path.and_then(|path| path.loss_pct).map_or_else(|| "-".to_owned(), per_cent);
    let agree = match path {
        None => "-    ".to_owned(),
        Some(_) if peer.paths_agree => "yes  ".to_owned(),
        Some(_) => paint.bad("no   "),
    };
    let switch = peer.last_switch.as_ref().map_or_else(|| "-".to_owned(), |switch| ago(switch.age_s));
    format!(
        "{:<15} {:<15} {} {rtt:>8} {loss:>6}  {agree} {switch}",
        clean(&peer.name, 15),
        clean(address_of(peer), 15),
        way(peer, paint, 13),
    )
}

/// The first of a peer's addresses, for people.
pub(super) fn address_of(peer: &Peer) -> &str {
    peer.addresses.first().map_or("-", |cidr| cidr.split('/').next().unwrap_or_default())
}

/// The way to a peer in words, where data passes; else what is the matter. Filled up to `width`.
pub(super) fn way(peer: &Peer, paint: Paint, width: usize) -> String {
    let kind = peer.path.as_ref().map(|path| path.kind);
    let (words, is_direct) = match (peer.state, kind) {
        (PeerState::Connected, Some(kind)) => {
            (in_words(kind), matches!(kind, PathKind::DirectUdp | PathKind::DirectTcp))
        }
        (PeerState::Connected, None) => ("connected", false),
        (PeerState::Connecting, _) => match &peer.barred {
            Some(Barred { by_us: false, .. }) => ("not let in", false),
            Some(Barred { state, .. }) if state == "waiting" => ("waiting", false),
            Some(Barred { state, .. }) if state == "revoked" => ("revoked", false),
            Some(_) => ("refused", false),
            None => ("connecting", false),
        },
        (PeerState::Idle, _) => return paint.dim(&format!("{:<width$}", "idle")),
        (PeerState::Offline, _) => return paint.dim(&format!("{:<width$}", "offline")),
    };
    let words = format!("{words:<width$}");
    if is_direct { paint.good(&words) } else { paint.fair(&words) }
}

/// A kind of path in words.
pub(super) const fn in_words(kind: PathKind) -> &'static str {
    match kind {
        PathKind::DirectUdp => "direct, UDP",
        PathKind::DirectTcp => "direct, TCP",
        PathKind::RelayUdp => "relay, UDP",
        PathKind::RelayWs => "relay, stream",
    }
}

/// A share, in at most five characters.
pub(super) fn per_cent(share: f64) -> String {
    if share >= 9.95 { format!("{share:.0} %") } else { format!("{share:.1} %") }
}

/// How long ago, in at most eleven characters.
pub(super) fn ago(seconds: u64) -> String {
    let (count, unit) = match seconds {
        0..60 => (seconds, "s"),
        60..3_600 => (seconds / 60, "min"),
        3_600..86_400 => (seconds / 3_600, "h"),
        _ => (seconds / 86_400, "d"),
    };
    if count > 9_999 { "long ago".to_owned() } else { format!("{count} {unit} ago") }
}

/// What is not as it is for most peers.
fn notes(peer: &Peer) -> Vec<String> {
    let mut notes = Vec::new();
    // What is so, and then what is to be done.
    notes.extend(peer.incompatible.iter().flat_map(|why| why.split(": ")).map(|why| clean(why, 78)));
    // What it has not said yet is no difference.
    if peer.state == PeerState::Connected
        && !peer.paths_agree
        && let Some(theirs) = peer.peer_path
    {
        notes.push(format!("it sends by {theirs}"));
    }
    let mut sentence = |text: String| notes.extend(wrapped(&clean(&text, 400), 78));
    let member = peer.member.as_ref();
    // A daemon of an earlier version says it of a session alone.
    let of_session = member.filter(|member| member.standing == "refused");
    let of_session = of_session.map(|member| member.why.as_deref().unwrap_or("no reason is known"));
    let barred = |by_us| peer.barred.as_ref().filter(|barred| barred.by_us == by_us);
    match barred(true).map(|barred| barred.why.as_str()).or(of_session) {
        Some(why) => sentence(format!("not let in: {why}")),
        None if member.is_some_and(|member| member.standing == "pending") => {
            sentence("not let in yet: it has shown no certificate".to_owned());
        }
        None => {}
    }
    let of_session = member.and_then(|member| member.refuses_us.as_deref());
    if let Some(why) = barred(false).map(|barred| barred.why.as_str()).or(of_session) {
        sentence(format!("it does not let this node in: {why}"));
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

#[cfg(test)]
mod tests {
    use super::super::paint::plain;
    use super::*;
    use crate::control::status::tests::full;
    use crate::control::status::{Membership, RulesInForce};

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
        let names = status.names.as_mut().unwrap();
        (names.way, names.domain) = (NamesWay::Resolved, "d".repeat(253));
        (names.served, names.left_out_count) = (1024, 1024);
        (names.error, names.note) = (Some("a word ".repeat(99)), Some("y".repeat(300)));
        status.switch.loops.with = Some("l".repeat(63));
        let member = status.membership.as_mut().unwrap();
        (member.name, member.tags) = ("k".repeat(63), vec!["t".repeat(63); 16]);
        member.warnings = vec!["w".repeat(300), "a warning of many words ".repeat(20)];
        let member = status.peers[0].member.as_mut().unwrap();
        (member.standing, member.why) = ("refused".into(), Some("r".repeat(200)));
        member.refuses_us = Some("u".repeat(200));
        let why = "it speaks versions 253 to 254 of the protocol, this program 111 to 112: upgrade this one";
        (member.has_new_secret, status.network.name) = (Some(false), "m".repeat(63));
        status.peers[0].incompatible = Some(why.into());
        status.peers[1].barred = Some(Barred { state: "s".repeat(200), by_us: true, why: "b ".repeat(200) });
        status.peers[1].state = PeerState::Connecting;
        status.relays[0].refused = Some("q".repeat(200));
        status.clock = Some(ClockBehind { says: u64::MAX, reckoned: u64::MAX });
        let text = table(&status, Paint::NONE);
        for line in text.lines() {
            assert!(line.chars().count() <= 80, "{} columns: {line}", line.chars().count());
        }
        assert!(!text.contains('\x1b'));
        assert!(text.contains("this node passes no broadcasts"));
    }

    #[test]
    fn columns_stand_under_their_heads() {
        let text = table(&full(), Paint::NONE);
        let lines: Vec<&str> = text.lines().collect();
        let head = lines.iter().position(|line| line.starts_with("PEER")).expect("a head");
        let column = |name: &str| lines[head].find(name).expect("a column");
        let row = lines[head + 1];
        assert!(row[column("ADDRESS")..].starts_with("10.7.9.1 "), "{text}");
        assert!(row[column("PATH")..].starts_with("relay, stream "), "{text}");
        assert!(row[..column("RTT") + "RTT".len()].ends_with("   48 ms"), "{text}");
        assert!(row[..column("LOSS") + "LOSS".len()].ends_with("  0.5 %"), "{text}");
        assert!(row[column("AGREE")..].starts_with("yes "), "{text}");
        assert!(row[column("LAST SWITCH")..].ends_with(" ago"), "{text}");
        assert!(lines[head + 2].contains("offline"), "{text}");
        let names = lines.iter().position(|line| *line == "  names    2 by /etc/hosts: NAME.home.internal");
        assert!(names.is_some_and(|at| lines[at + 1].starts_with("           1 left out: ")), "{text}");
        assert!(lines.contains(&"  rules    3 from /etc/rules") && !text.contains("refused"), "{text}");
    }

    #[test]
    fn what_is_not_as_usual_is_said_under_the_peer() {
        let mut status = full();
        let rows = |status: &Status| {
            table(status, Paint::NONE).lines().filter(|line| line.starts_with("  ")).count()
        };
        let before = rows(&status);
        let peer = &mut status.peers[0];
        peer.paths_agree = false;
        peer.peer_path = Some(PathKind::DirectUdp);
        peer.wanted = Wanted::Direct;
        let text = table(&status, Paint::NONE);
        let mut lines = text.lines().skip_while(|line| !line.starts_with("b "));
        assert_eq!(lines.nth(1), Some("  it sends by direct-udp"), "{text}");
        assert_eq!(lines.next(), Some("  asked for direct: the only proven path"), "{text}");
        status.peers[0].peer_path = None;
        assert_eq!(rows(&status), before + 1, "what it has not said is no difference");
        status.peers[0].peer_path = Some(PathKind::DirectUdp);
        // Of one that is not connected nobody knows how it would send.
        status.peers[0].state = PeerState::Offline;
        assert_eq!(rows(&status), before + 1);
    }

    #[test]
    fn who_is_not_let_in_is_called_so_also_between_its_sessions() {
        let mut status = full();
        let why =
            "the invite was revoked by the admin root on 2026-11-30 03:12 UTC, and more than a line of it";
        for (state, by_us, word) in [
            ("waiting", true, "waiting"),
            ("revoked", true, "revoked"),
            ("refused", true, "refused"),
            ("revoked", false, "not let in"),
        ] {
            let peer = &mut status.peers[0];
            (peer.state, peer.path, peer.member) = (PeerState::Connecting, None, None);
            peer.barred = Some(Barred { state: state.into(), by_us, why: why.into() });
            let row = peer_line(peer, Paint::NONE);
            assert!(row.contains(&format!(" {word} ")) && !row.contains("connecting"), "{row}");
            let said = notes(peer).join(" ");
            assert!(said.contains(why), "all of it: {said}");
            assert_eq!(said.contains("it does not let this node in"), !by_us, "{said}");
        }
    }

    #[test]
    fn who_speaks_another_protocol_is_said_under_its_name_with_the_remedy() {
        let mut status = full();
        let why = "it speaks version 2 of the protocol, this program 1: upgrade this one";
        status.peers[0].incompatible = Some(why.into());
        status.relays[0].refused = Some("this relay speaks version 2 of the protocol: upgrade it".into());
        let text = table(&status, Paint::NONE);
        let mut lines = text.lines().skip_while(|line| !line.starts_with("b "));
        assert_eq!(lines.nth(1), Some("  it speaks version 2 of the protocol, this program 1"), "{text}");
        assert_eq!(lines.next(), Some("  upgrade this one"), "{text}");
        let mut lines = text.lines().skip_while(|line| !line.starts_with("  relay "));
        assert_eq!(lines.nth(1), Some("           this relay speaks version 2 of the protocol"), "{text}");
    }

    #[test]
    fn a_clock_that_is_behind_is_named_with_what_counts() {
        let mut status = full();
        assert!(!table(&status, Paint::NONE).contains("clock"));
        status.clock = Some(ClockBehind { says: 60, reckoned: 1_796_007_480 });
        let expected = "  clock    says 1970-01-01 00:01, but 2026-11-30 02:58 was seen, and counts";
        assert!(table(&status, Paint::NONE).lines().any(|line| line == expected));
    }

    #[test]
    fn a_rotation_is_one_line_while_it_lasts() {
        let mut status = full();
        let line = |status: &Status| secret_line(status, 1_000);
        status.membership.as_mut().unwrap().secret.until = Some(1_000 + 3 * 86_400);
        assert_eq!(line(&status).as_deref(), Some("generation 2; the old one is good for 3 days more"));
        status.peers[0].member.as_mut().unwrap().has_new_secret = Some(false);
        assert!(line(&status).is_some_and(|line| line.starts_with("generation 2 (1 peer not yet); ")));
        // Who is shut out never gets it.
        status.peers[0].barred = Some(Barred { state: "revoked".into(), by_us: true, ..Barred::default() });
        assert!(line(&status).is_some_and(|line| line.starts_with("generation 2; ")), "{:?}", line(&status));
        status.membership.as_mut().unwrap().secret.state = "settled".into();
        assert_eq!(line(&status), None);
    }

    #[test]
    fn without_peers_it_says_what_to_do_and_where() {
        let mut status = Status::default();
        let mut said = |membership: Option<Membership>| {
            status.membership = membership;
            let text = table(&status, Paint::NONE);
            assert!(text.lines().all(|line| line.chars().count() < 80), "{text}");
            text.lines().last().unwrap().to_owned()
        };
        let as_member = |state: &str, is_admin| {
            Some(Membership { state: state.into(), is_admin, ..Membership::default() })
        };
        for invites in [None, as_member("member", true)] {
            assert!(said(invites).ends_with("`sudo shadowmesh invite` prints what another host joins with"));
        }
        assert!(said(as_member("member", false)).contains("on an admin's host"));
        let joins = said(as_member("joining", false));
        assert!(joins.contains("as soon as a member") && !joins.contains("invite"), "{joins}");
    }

    #[test]
    fn who_came_by_an_invite_that_is_used_up_is_refused_here_as_it_is_elsewhere() {
        let mut status = full();
        let member = status.membership.as_mut().unwrap();
        (member.state, member.shut_out) = ("revoked".into(), Some("key".into()));
        assert!(table(&status, Paint::NONE).contains("  network  revoked as a"));
        status.membership.as_mut().unwrap().shut_out = Some("invite-used-up".into());
        assert!(table(&status, Paint::NONE).contains("  network  refused as a"));
    }

    #[test]
    fn nobody_is_called_connected_over_a_path_that_is_not_proven() {
        let mut status = full();
        status.peers[0].state = PeerState::Connecting;
        let row = peer_line(&status.peers[0], Paint::NONE);
        assert!(row.contains(" connecting ") && !row.contains("relay") && !row.contains("48 ms"), "{row}");
    }

    #[test]
    fn who_sleeps_is_called_idle_and_the_word_is_explained_once() {
        let mut status = full();
        let explained =
            |status: &Status| table(status, Paint::NONE).matches("wakes with the first frame").count();
        assert_eq!(explained(&status), 0);
        for peer in &mut status.peers {
            (peer.state, peer.path) = (PeerState::Idle, None);
        }
        let row = peer_line(&status.peers[0], Paint::NONE);
        assert!(row.contains(" idle ") && !row.contains("connected") && !row.contains(" ms"), "{row}");
        assert_eq!(explained(&status), 1);
        assert!(table(&status, Paint::NONE).lines().all(|line| line.chars().count() <= 80));
    }

    #[test]
    fn peers_stand_by_name_and_not_as_they_were_met() {
        let mut status = full();
        status.peers[0].name = "z".into();
        let text = table(&status, Paint::NONE);
        let names: Vec<&str> = text.lines().skip_while(|line| !line.starts_with("PEER")).skip(1).collect();
        assert!(names[0].starts_with("c ") && names[1].starts_with("z "), "{text}");
    }

    #[test]
    fn what_ends_is_reckoned_by_the_clock_of_the_daemon() {
        let mut status = full();
        let secret = &mut status.membership.as_mut().unwrap().secret;
        secret.until = Some(status.now + 3 * 86_400);
        let text = table(&status, Paint::NONE);
        assert!(text.contains("the old one is good for 3 days more"), "{text}");
    }

    #[test]
    fn colours_change_no_letter() {
        let mut status = full();
        status.peers[0].paths_agree = false;
        status.membership.as_mut().unwrap().warnings = vec!["it ends soon".into()];
        let painted = table(&status, Paint::SOME);
        assert!(painted.contains("\x1b[31mno"));
        assert_eq!(plain(&painted), table(&status, Paint::NONE));
    }

    #[test]
    fn times_and_shares_fit_their_columns() {
        for (seconds, text) in [
            (0, "0 s ago"),
            (59, "59 s ago"),
            (60, "1 min ago"),
            (7_199, "1 h ago"),
            (86_400 * 9_999, "9999 d ago"),
            (u64::MAX, "long ago"),
        ] {
            assert_eq!(ago(seconds), text);
        }
        assert_eq!(
            [0.0, 0.55, 9.94, 9.96, 100.0].map(per_cent),
            ["0.0 %", "0.6 %", "9.9 %", "10 %", "100 %"]
        );
    }
}
