//! By which HTTP proxy the daemon reaches its relays, as far as this user can see.

use super::super::facts::Daemon;
use super::process;
use crate::config::{ProxyChoice, ProxyRule, ProxyUrl};
use std::collections::BTreeMap;

/// By which proxy each relay is asked for.
///
/// Where a daemon runs, what it says: of its proxy the password is found in the settings or in its environment, for who may read these, and else it is asked without. For
/// which relays there is none (NO_PROXY) is found in its environment as well, and else it says so of each. Where none runs, what it would do if this user started it.
#[derive(Debug, Default)]
pub(super) struct Proxies {
    rule: Option<ProxyRule>,
    /// By `host:port` what the daemon says, where `rule` may be another than its own.
    said: BTreeMap<String, Option<ProxyUrl>>,
}

impl Proxies {
    /// `choice` is what the settings have.
    pub(super) fn of(choice: Option<&ProxyChoice>, daemon: &Daemon) -> Self {
        let environment = daemon.process().and_then(|process| process::environment(process.pid));
        Self::found(choice, daemon, environment.as_deref())
    }

    /// With the daemon's environment, for who may see that.
    fn found(choice: Option<&ProxyChoice>, daemon: &Daemon, environment: Option<&[String]>) -> Self {
        let variable = |name: &str| match environment {
            Some(set) => of(set, name),
            None => std::env::var(name).ok(),
        };
        // The daemon's log has those.
        let rule = ProxyRule::of(choice, variable, |_| ());
        let Some(running) = daemon.running() else { return Self { rule, said: BTreeMap::new() } };
        let relays = &running.status.relays;
        let Some(shown) = relays.iter().find_map(|relay| relay.proxy.as_deref()) else {
            return Self::default();
        };
        let rule = rule.filter(|rule| rule.url().shown() == shown);
        if rule.is_some() && environment.is_some() {
            return Self { rule, said: BTreeMap::new() };
        }
        // The settings are others since it started, or what it was started with is not to be seen.
        let rule = rule.or_else(|| {
            let choice: ProxyChoice = shown.parse().ok()?;
            ProxyRule::of(Some(&choice), |_| None, |_| ())
        });
        let said = relays.iter().map(|relay| {
            let url = rule.as_ref().map(ProxyRule::url).filter(|_| relay.proxy.is_some());
            (relay.authority().to_owned(), url.cloned())
        });
        Self { said: said.collect(), rule }
    }

    /// The proxy for a relay at `host_port`; nothing where that is asked for without.
    pub(super) fn by(&self, host_port: &str) -> Option<&ProxyUrl> {
        match self.said.get(host_port) {
            Some(said) => said.as_ref(),
            None => self.rule.as_ref()?.by(host_port),
        }
    }
}

/// The value of a variable among `NAME=value`.
fn of(environment: &[String], name: &str) -> Option<String> {
    let mut values = environment.iter().filter_map(|set| set.strip_prefix(name)?.strip_prefix('='));
    values.next().map(ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use super::super::super::facts::Running;
    use super::*;
    use crate::control::status::{Relay, Status};

    /// One whose relays are `0.example:443` and so on.
    fn saying(proxies: &[Option<&str>]) -> Daemon {
        let relay = |(at, proxy): (usize, &Option<&str>)| Relay {
            url: format!("wss://{at}.example:443/v1"),
            proxy: proxy.map(ToOwned::to_owned),
            ..Relay::default()
        };
        let status = Status { relays: proxies.iter().enumerate().map(relay).collect(), ..Status::default() };
        Daemon::Runs(Box::new(Running { status, ..Running::default() }))
    }

    fn shown(url: Option<&ProxyUrl>) -> Option<(String, Option<String>)> {
        url.map(|url| (url.shown(), url.user().map(ToOwned::to_owned)))
    }

    #[test]
    fn it_is_the_daemons_with_the_password_where_that_is_known() {
        let chosen: ProxyChoice = "http://u:secret@p.example:1".parse().unwrap();
        let by = |daemon: &Daemon, relay: &str| shown(Proxies::found(Some(&chosen), daemon, None).by(relay));
        let known = Some(("http://p.example:1".to_owned(), Some("u:secret".to_owned())));
        assert_eq!(by(&Daemon::None, "0.example:443"), known, "what it would do");
        assert_eq!(by(&saying(&[None, Some("http://p.example:1")]), "1.example:443"), known);
        // It was started with another, or with none.
        let other = Some(("http://q.example:2".to_owned(), None));
        assert_eq!(by(&saying(&[Some("http://q.example:2")]), "0.example:443"), other);
        assert_eq!(by(&saying(&[None]), "0.example:443"), None);
        assert_eq!(by(&saying(&[Some("nonsense")]), "0.example:443"), None);
    }

    #[test]
    fn a_relay_that_the_daemon_reaches_without_is_asked_for_without() {
        let daemon = saying(&[None, Some("http://p.example:1")]);
        let by = |environment: Option<&[String]>| {
            let found = Proxies::found(None, &daemon, environment);
            ["0.example:443", "1.example:443", "0.example:8443"].map(|relay| shown(found.by(relay)))
        };
        let proxy = |user: Option<&str>| Some(("http://p.example:1".to_owned(), user.map(ToOwned::to_owned)));
        // Who may not see with what it was started knows of each relay what the daemon says, and of other addresses nothing.
        assert_eq!(by(None), [None, proxy(None), proxy(None)]);
        // Who may knows all.
        let set = ["HTTPS_PROXY=http://u:p@p.example:1", "NO_PROXY=0.example"].map(ToOwned::to_owned);
        assert_eq!(by(Some(&set)), [None, proxy(Some("u:p")), None]);
        // It was started with others, as with a setting that was removed.
        let set = ["HTTPS_PROXY=http://u:p@q.example:1"].map(ToOwned::to_owned);
        assert_eq!(by(Some(&set)), [None, proxy(None), proxy(None)]);
    }

    #[test]
    fn a_variable_is_found_by_its_whole_name() {
        let set = ["HTTPS_PROXY_OLD=a", "HTTPS_PROXY=http://b:1?x=y", ""].map(ToOwned::to_owned);
        assert_eq!(of(&set, "HTTPS_PROXY").as_deref(), Some("http://b:1?x=y"));
        assert_eq!(of(&set, "PROXY"), None);
    }
}
