//! systemd-resolved is told of the [`responder`](super::responder), by `resolvectl(1)`, and to forget it.
//!
//! What is set belongs to our own device, so nothing of the machine's other name servers changes, and when the device goes, also
//! because the daemon was killed, systemd-resolved forgets all of it by itself:
//!
//! - `dns DEVICE 127.0.0.1:PORT`: who answers (a port needs systemd 246 or later).
//! - `domain DEVICE NETWORK.internal`: which names it is asked for. Given without `~` it is a search domain as well: `b` is looked
//!   for as `b.NETWORK.internal`.
//! - `default-route DEVICE no`: nothing else is asked of it, whatever other name servers there are.
//! - `dnssec DEVICE no`, `dnsovertls DEVICE no`: the server has neither. Where these are refused all may work nevertheless.
//!
//! Whether that works in the end is not taken for granted: a name is asked for through systemd-resolved, and when the answer is not ours, all
//! is taken back. Tests have a stand-in for `resolvectl`; `scripts/lab names-resolved` has a systemd-resolved that runs (252).

use super::Places;
use super::label::{Label, TOP};
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

/// How long one call may take; D-Bus gives up after 25 s, and nobody waits that long for `down`.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often the answer is looked at: systemd-resolved hears of a device's addresses a moment after they are there.
const LOOKS: u32 = 5;
/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Whether programs of this machine that look for a host ask systemd-resolved: by nss-resolve, or because it is their name server.
pub fn is_in_use(places: &Places) -> bool {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    places.resolved.is_dir()
        && (is_resolver(&read(&places.resolv_conf)) || is_service(&read(&places.nsswitch)))
}

/// Whether a resolv.conf names its stub.
fn is_resolver(resolv_conf: &str) -> bool {
    resolv_conf.lines().any(|line| {
        let mut words = line.split_whitespace();
        words.next() == Some("nameserver") && matches!(words.next(), Some("127.0.0.53" | "127.0.0.54"))
    })
}

/// Whether an nsswitch.conf asks it for hosts.
fn is_service(nsswitch: &str) -> bool {
    nsswitch.lines().any(|line| {
        let line = line.split('#').next().unwrap_or_default();
        line.trim_start()
            .strip_prefix("hosts:")
            .is_some_and(|ways| ways.split_whitespace().any(|way| way == "resolve"))
    })
}

/// Tells systemd-resolved who answers for `network`, and sees whether it asks: for `known`, a name with its address.
///
/// # Errors
/// A sentence; then nothing of it is left.
pub async fn register(
    places: &Places,
    device: &str,
    network: &Label,
    server: SocketAddr,
    known: Option<(&Label, IpAddr)>,
) -> Result<(), String> {
    let told = tell(places, device, network, server, known).await;
    if told.is_err() {
        // What was set before the refusal.
        let _ = revert(places, device).await;
    }
    told
}

async fn tell(
    places: &Places,
    device: &str,
    network: &Label,
    server: SocketAddr,
    known: Option<(&Label, IpAddr)>,
) -> Result<(), String> {
    let domain = format!("{network}.{TOP}");
    call(places, &["dns", device, &server.to_string()]).await?;
    call(places, &["domain", device, &domain]).await?;
    call(places, &["default-route", device, "no"]).await?;
    for what in ["dnssec", "dnsovertls"] {
        if let Err(sentence) = call(places, &[what, device, "no"]).await {
            tracing::debug!(what, sentence, "systemd-resolved keeps that as it is");
        }
    }
    let Some((label, address)) = known else { return Ok(()) };
    let (name, address) = (format!("{label}.{domain}"), address.to_string());
    let mut said = String::new();
    for look in 0..LOOKS {
        if look > 0 {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        match call(places, &["--legend=no", "query", &name]).await {
            Ok(answer) if answer.split_whitespace().any(|word| word == address) => return Ok(()),
            Ok(_) => said = format!("it does not say {address}"),
            Err(sentence) => said = sentence,
        }
    }
    Err(format!("asked for {name}: {said}"))
}

/// Tells it to forget all that was set for the device.
///
/// # Errors
/// A sentence.
pub async fn revert(places: &Places, device: &str) -> Result<(), String> {
    call(places, &["revert", device]).await.map(|_| ())
}

/// Runs `resolvectl`; what it printed.
async fn call(places: &Places, arguments: &[&str]) -> Result<String, String> {
    let what = format!("`resolvectl {}`", arguments.join(" "));
    let mut command = Command::new(&places.resolvectl);
    command.args(arguments).env("LC_ALL", "C").stdin(Stdio::null()).kill_on_drop(true);
    let ended = tokio::time::timeout(PATIENCE, command.output())
        .await
        .map_err(|_| format!("{what} did not end within {} s", PATIENCE.as_secs()))?
        .map_err(|cause| format!("{what} cannot be run: {cause}"))?;
    if ended.status.success() {
        return Ok(String::from_utf8_lossy(&ended.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&ended.stderr);
    let said = said.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("without a word");
    Err(format!("{what} failed: {}", said.chars().take(200).collect::<String>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_used_where_programs_ask_it() {
        assert!(is_resolver("# stub\nnameserver 127.0.0.53\noptions edns0\n"));
        assert!(!is_resolver("nameserver 192.168.1.1\n# nameserver 127.0.0.53\nsearch 127.0.0.53\n"));
        assert!(is_service("passwd: files\nhosts:  mymachines resolve [!UNAVAIL=return] files dns\n"));
        assert!(!is_service("hosts: files dns # resolve\nservices: resolve\n"));
        let home = tempfile::tempdir().expect("a directory");
        let at = |name: &str| home.path().join(name);
        let places =
            Places { resolv_conf: at("r"), nsswitch: at("n"), resolved: at("d"), ..Places::system() };
        fs::write(at("r"), "nameserver 127.0.0.53\n").expect("written");
        assert!(!is_in_use(&places), "it never ran");
        fs::create_dir(at("d")).expect("made");
        assert!(is_in_use(&places));
        fs::write(at("r"), "nameserver 192.0.2.1\n").expect("written");
        assert!(!is_in_use(&places), "programs ask somebody else");
        fs::write(at("n"), "hosts: resolve\n").expect("written");
        assert!(is_in_use(&places));
    }
}
