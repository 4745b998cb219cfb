//! `shadowmesh ping`: is a peer there, and over which path? Asked inside the session, below any firewall on the device.

use super::documents::{self, RoundTrips};
use super::global::Global;
use super::{output, runtime};
use crate::control::client::{Connection, ControlError, unexpected};
use crate::control::message::{Echo, ErrorCode, Request, Response};
use anyhow::bail;
use std::path::Path;
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout};

/// Ask a peer for an answer, inside the session
///
/// Says over which path each answer came. Exit code 1 when none did.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  sudo shadowmesh ping b\n  sudo shadowmesh ping 10.7.3.4 -c 100 -i 0.1 --json"
)]
pub(super) struct Args {
    /// A name, an address, or the start of an id
    peer: String,

    /// How many times; 0 is until Ctrl-C
    #[arg(short = 'c', long, value_name = "N", default_value_t = 5)]
    count: u32,

    /// Seconds from one to the next
    #[arg(short = 'i', long, value_name = "S", default_value = "1", value_parser = seconds)]
    interval: Duration,
}

/// How long an answer may take: longer than any path that is called connected.
const PATIENCE: Duration = Duration::from_secs(3);

/// Reads a number of seconds.
pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "a number of seconds, such as 0.2".to_owned())?;
    if !(0.01..=3_600.0).contains(&seconds) {
        return Err("from 0.01 to 3600 seconds".to_owned());
    }
    Ok(Duration::from_secs_f64(seconds))
}

pub(super) fn run(global: &Global, args: &Args) -> anyhow::Result<()> {
    let tally = runtime()?.block_on(series(global, args))?;
    if global.json {
        output::document(&tally.to_document(&args.peer))?;
    } else {
        output::data(&tally.summary())?;
    }
    if tally.echoes.is_empty() {
        bail!("{} did not answer: see `shadowmesh status`", output::clean(&args.peer, 63));
    }
    Ok(())
}

async fn series(global: &Global, args: &Args) -> anyhow::Result<Tally> {
    let socket = global.socket();
    let request = Request::Ping { peer: args.peer.clone() };
    let mut tally = Tally::default();
    let mut due = Instant::now();
    while args.count == 0 || tally.sent < args.count {
        tokio::select! {
            outcome = probe(&socket, &request, due) => {
                tally.sent += 1;
                let line = match outcome? {
                    Outcome::Answered(echo) => {
                        let line = answered(&echo);
                        tally.echoes.push(echo);
                        line
                    }
                    Outcome::Unanswered(why) => output::one_line(&why),
                };
                if !global.json {
                    output::data(&line)?;
                }
            }
            _ = tokio::signal::ctrl_c() => break,
        }
        due += args.interval;
    }
    Ok(tally)
}

enum Outcome {
    Answered(Echo),
    Unanswered(String),
}

/// One echo, not before `due`. An error is one that the next attempt would meet too.
async fn probe(socket: &Path, request: &Request, due: Instant) -> Result<Outcome, ControlError> {
    sleep_until(due).await;
    let asking = async { Connection::open(socket).await?.ask(request).await };
    match timeout(PATIENCE, asking).await {
        Ok(Ok(Response::Echo(echo))) => Ok(Outcome::Answered(echo)),
        Ok(Ok(_)) => Err(unexpected(socket)),
        Ok(Err(ControlError::Refused { code: ErrorCode::NotConnected | ErrorCode::Busy, sentence })) => {
            Ok(Outcome::Unanswered(sentence))
        }
        Ok(Err(error)) => Err(error),
        Err(_) => Ok(Outcome::Unanswered(format!("no answer within {} s", PATIENCE.as_secs()))),
    }
}

fn answered(echo: &Echo) -> String {
    let mut line = format!("reply from {}", output::clean(&echo.name, 63));
    if let Some(address) = &echo.address {
        line += &format!(" ({})", output::clean(address, 63));
    }
    line += &format!(" via {}", echo.via);
    if let Some(remote) = &echo.remote {
        line += &format!(" {}", output::clean(remote, 63));
    }
    let woken = echo.woken_ms.map(|ms| format!(", after it was woken, which took {}", output::ms(ms)));
    format!("{line} {}{}", output::ms(echo.rtt_ms), woken.unwrap_or_default())
}

/// What came back.
#[derive(Debug, Default)]
struct Tally {
    sent: u32,
    echoes: Vec<Echo>,
}

impl Tally {
    fn lost_pct(&self) -> f64 {
        let received = u32::try_from(self.echoes.len()).unwrap_or(u32::MAX);
        if self.sent == 0 {
            0.0
        } else {
            100.0 * f64::from(self.sent.saturating_sub(received)) / f64::from(self.sent)
        }
    }

    /// Least, mean, greatest; milliseconds.
    fn rtt(&self) -> Option<(f64, f64, f64)> {
        let rtts = || self.echoes.iter().map(|echo| echo.rtt_ms);
        let count = u32::try_from(self.echoes.len()).ok().filter(|count| *count > 0)?;
        Some((
            rtts().fold(f64::INFINITY, f64::min),
            rtts().sum::<f64>() / f64::from(count),
            rtts().fold(0.0, f64::max),
        ))
    }

    fn summary(&self) -> String {
        let counts =
            format!("{} sent, {} received, {:.0} % lost", self.sent, self.echoes.len(), self.lost_pct());
        match self.rtt() {
            Some((min, mean, max)) => {
                format!("{counts}, round trip {min:.1} / {mean:.1} / {max:.1} ms (least / mean / most)")
            }
            None => counts,
        }
    }

    fn to_document(&self, peer: &str) -> documents::Ping {
        documents::Ping {
            peer: peer.to_owned(),
            sent: self.sent,
            received: self.echoes.len(),
            loss_pct: self.lost_pct(),
            rtt_ms: self.rtt().map(|(min, avg, max)| RoundTrips { min, avg, max }),
            replies: self.echoes.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::status::PathKind;
    use serde_json::json;

    fn echo(rtt_ms: f64) -> Echo {
        let address = Some("10.7.3.4".to_owned());
        Echo {
            name: "b".into(),
            id: "x".into(),
            address,
            via: PathKind::RelayWs,
            remote: None,
            rtt_ms,
            woken_ms: None,
        }
    }

    #[test]
    fn an_answer_says_its_path() {
        assert_eq!(answered(&echo(48.2)), "reply from b (10.7.3.4) via relay-ws 48 ms");
        let direct =
            Echo { via: PathKind::DirectUdp, remote: Some("203.0.113.7:41641".into()), ..echo(12.0) };
        assert_eq!(answered(&direct), "reply from b (10.7.3.4) via direct-udp 203.0.113.7:41641 12 ms");
        let woken = Echo { woken_ms: Some(212.0), ..echo(48.2) };
        assert!(answered(&woken).ends_with(" via relay-ws 48 ms, after it was woken, which took 212 ms"));
        let bare = Echo { address: None, ..echo(0.5) };
        assert_eq!(answered(&bare), "reply from b via relay-ws 0.5 ms");
    }

    #[test]
    fn the_summary_counts() {
        let tally = Tally { sent: 4, echoes: vec![echo(10.0), echo(20.0), echo(30.0)] };
        let summary = "4 sent, 3 received, 25 % lost, round trip 10.0 / 20.0 / 30.0 ms (least / mean / most)";
        assert_eq!(tally.summary(), summary);
        assert_eq!(Tally { sent: 2, echoes: vec![] }.summary(), "2 sent, 0 received, 100 % lost");
        let json = |tally: &Tally| serde_json::to_value(tally.to_document("b")).expect("written");
        assert_eq!(json(&tally).pointer("/rtt_ms/avg"), Some(&json!(20.0)));
        assert_eq!(json(&tally).pointer("/loss_pct"), Some(&json!(25.0)));
        assert_eq!(json(&Tally::default()).pointer("/rtt_ms"), Some(&serde_json::Value::Null));
    }

    #[test]
    fn intervals_are_bounded() {
        assert_eq!(seconds("0.2"), Ok(Duration::from_millis(200)));
        for bad in ["0", "-1", "nan", "inf", "x", "1e9"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
