//! `status`: asks the running relay and shows what it says.

use super::say;
use crate::admin::{self, Status};
use crate::server::tls::files::Date;
use crate::store::StateDir;
use std::io::ErrorKind;
use std::path::Path;
use std::time::{Duration, SystemTime};

pub(super) fn execute(state: &Path, json: bool) -> anyhow::Result<()> {
    let socket = StateDir::open(state).socket();
    let status = admin::ask_status(&socket).map_err(|error| explain(state, &error))?;
    if json {
        return say(&serde_json::to_string_pretty(&status)?);
    }
    say(&text(&status))
}

#[expect(clippy::wildcard_enum_match_arm, reason = "ErrorKind is open-ended")]
fn explain(state: &Path, error: &std::io::Error) -> anyhow::Error {
    let state = state.display();
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
            anyhow::anyhow!(
                "no relay is running with the state directory {state}; start one, or name its directory with --state"
            )
        }
        ErrorKind::PermissionDenied => {
            anyhow::anyhow!("not allowed to ask the relay in {state}; run as its user or as root")
        }
        _ => anyhow::anyhow!("the relay in {state} does not answer: {error}; look at its log"),
    }
}

fn text(status: &Status) -> String {
    let mut lines = vec![
        format!("version    {}, up {}", status.version, duration(status.uptime_s)),
        format!("clients    {} in {} networks", status.clients, status.networks),
        format!(
            "pairs      {} relayed, {} direct, {} meeting",
            status.pairs.relayed, status.pairs.direct, status.pairs.meeting
        ),
        format!(
            "forwarded  {} in {} messages and {} datagrams",
            bytes(status.forwarded_bytes),
            status.forwarded_messages,
            status.forwarded_datagrams
        ),
    ];
    if let Some(tls) = status.tls {
        let certificate = match tls.certificate_expires {
            0 => "there is no certificate yet but one that the relay made for itself".to_owned(),
            at => format!(
                "the certificate is good until {}",
                Date(SystemTime::UNIX_EPOCH + Duration::from_secs(at))
            ),
        };
        let (handshakes, post_quantum) = (tls.handshakes, tls.post_quantum);
        lines.push(format!(
            "tls        {handshakes} handshakes, {post_quantum} of them post-quantum; {certificate}"
        ));
    }
    let drops = status
        .drops
        .iter()
        .filter(|(_, count)| count.as_u64() != Some(0))
        .map(|(cause, count)| format!("{} {count}", cause.replace('_', " ")));
    let drops: Vec<String> = drops.collect();
    lines.push(format!(
        "dropped    {}",
        if drops.is_empty() { "nothing".to_owned() } else { drops.join(", ") }
    ));
    lines.join("\n")
}

fn duration(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min"),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

/// Three digits or so, in powers of 1,000 as links are measured.
fn bytes(count: u64) -> String {
    let mut unit = "B";
    let mut whole = count;
    let mut tenth = 0;
    for next in ["kB", "MB", "GB", "TB", "PB"] {
        if whole < 1_000 {
            break;
        }
        tenth = whole % 1_000 / 100;
        whole /= 1_000;
        unit = next;
    }
    if unit == "B" { format!("{whole} B") } else { format!("{whole}.{tenth} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_for_people() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1_250), "1.2 kB");
        assert_eq!(bytes(3_999_999_999), "3.9 GB");
        assert_eq!(duration(59), "59 s");
        assert_eq!(duration(3_661), "1 h 1 min");
        assert_eq!(duration(90_000), "1 d 1 h");
    }
}
