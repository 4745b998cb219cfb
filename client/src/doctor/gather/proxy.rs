//! By which HTTP proxy the daemon reaches its relays, as far as this user can see.

use super::super::facts::Daemon;
use super::process;
use crate::config::{ProxyChoice, ProxyRule};

/// Where a daemon runs, what it says: of its proxy the password is found in the settings (`choice`) or in its environment, for who may read these, and else it is asked
/// without. Where none does, what it would do if this user started it.
pub(super) fn rule(choice: Option<&ProxyChoice>, daemon: &Daemon) -> Option<ProxyRule> {
    let environment = daemon.process().and_then(|process| process::environment(process.pid));
    let variable = |name: &str| match &environment {
        Some(set) => of(set, name),
        None => std::env::var(name).ok(),
    };
    let rule = ProxyRule::of(choice, variable);
    let Some(running) = daemon.running() else { return rule };
    let said = running.status.relays.iter().find_map(|relay| relay.proxy.as_deref())?;
    rule.filter(|rule| rule.url().shown() == said).or_else(|| {
        // The settings are others since it started.
        let choice: ProxyChoice = said.parse().ok()?;
        ProxyRule::of(Some(&choice), |_| None)
    })
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

    fn saying(proxies: &[Option<&str>]) -> Daemon {
        let relay = |proxy: &Option<&str>| Relay { proxy: proxy.map(ToOwned::to_owned), ..Relay::default() };
        let status = Status { relays: proxies.iter().map(relay).collect(), ..Status::default() };
        Daemon::Runs(Box::new(Running { status, ..Running::default() }))
    }

    #[test]
    fn it_is_the_daemons_with_the_password_where_that_is_known() {
        let chosen: ProxyChoice = "http://u:secret@p.example:1".parse().unwrap();
        let user = |daemon: &Daemon| {
            let rule = rule(Some(&chosen), daemon)?;
            let url = rule.by("relay.example:443")?;
            Some((url.shown(), url.user().map(ToOwned::to_owned)))
        };
        let known = Some(("http://p.example:1".to_owned(), Some("u:secret".to_owned())));
        assert_eq!(user(&Daemon::None), known, "what it would do");
        assert_eq!(user(&saying(&[None, Some("http://p.example:1")])), known);
        // It was started with another, or with none.
        assert_eq!(
            user(&saying(&[Some("http://q.example:2")])),
            Some(("http://q.example:2".to_owned(), None))
        );
        assert_eq!(user(&saying(&[None])), None);
        assert_eq!(user(&saying(&[Some("nonsense")])), None);
    }

    #[test]
    fn a_variable_is_found_by_its_whole_name() {
        let set = ["HTTPS_PROXY_OLD=a", "HTTPS_PROXY=http://b:1?x=y", ""].map(ToOwned::to_owned);
        assert_eq!(of(&set, "HTTPS_PROXY").as_deref(), Some("http://b:1?x=y"));
        assert_eq!(of(&set, "PROXY"), None);
    }
}
