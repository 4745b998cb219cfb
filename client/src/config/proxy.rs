//! The HTTP proxy by which relays are reached: what people type, what the environment says, and for which relays that holds.
//!
//! Somebody's own choice (`--proxy`, `proxy` in the settings) comes first and holds for every relay. Where nobody chose, the environment says it as it does to other programs:
//! HTTPS_PROXY or ALL_PROXY, and NO_PROXY for those that are reached without ([`NoProxy`]). There it is read as other programs read it, who need neither scheme nor port; and a variable that
//! names no HTTP proxy hides no other that does.

use super::ValueError;
use super::no_proxy::NoProxy;
use std::fmt;
use std::str::FromStr;
use zeroize::Zeroizing;

/// An HTTP proxy by which the relays are reached. Its text may have a password in it, so neither `Debug` nor [`Self::shown`] have all of it.
#[derive(Clone, PartialEq, Eq)]
pub struct ProxyUrl {
    /// `user:password`, as it is said to the proxy.
    user: Option<Zeroizing<String>>,
    host_port: String,
}

/// Where a proxy of the environment listens that has no port.
const USUAL_PORT: u16 = 80;

impl ProxyUrl {
    /// Of the text of a variable: `http://` and the port may be left out.
    fn of_environment(text: &str) -> Result<Self, ValueError> {
        let rest = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
            Some(_) => return Err(ValueError::Proxy),
            None => text,
        };
        Self::read(rest, Some(USUAL_PORT))
    }

    /// `user:password@host:port` and perhaps a slash; `usual` is the port where there is none.
    fn read(rest: &str, usual: Option<u16>) -> Result<Self, ValueError> {
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (user, host_port) = match rest.rsplit_once('@') {
            Some((user, host_port)) => (Some(user), host_port),
            None => (None, rest),
        };
        let has_port = host_port.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
        let host_port = match usual {
            Some(usual) if !has_port => format!("{host_port}:{usual}"),
            _ => host_port.to_owned(),
        };
        let (host, port) = host_port.rsplit_once(':').ok_or(ValueError::Proxy)?;
        let in_brackets = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let is_host = match in_brackets {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => {
                let may_have = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
                (1..=253).contains(&host.len()) && host.bytes().all(may_have)
            }
        };
        let is_port =
            port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port != 0);
        if !is_host || !is_port {
            return Err(ValueError::Proxy);
        }
        let both = |user: &str| {
            let (user, password) = user.split_once(':').unwrap_or((user, ""));
            let (user, password) = (unquoted(user)?, unquoted(password)?);
            // Where one ends and the other begins is said by a colon (RFC 7617 §2).
            (!user.is_empty() && !user.contains(':'))
                .then(|| Zeroizing::new(format!("{}:{}", *user, *password)))
        };
        let user = user.map(|user| both(user).ok_or(ValueError::Proxy)).transpose()?;
        Ok(Self { user, host_port })
    }

    /// `host:port`.
    pub fn host_port(&self) -> &str {
        &self.host_port
    }

    /// `user:password`: **a secret**.
    pub fn user(&self) -> Option<&str> {
        self.user.as_ref().map(|user| user.as_str())
    }

    /// For people, without user and password.
    pub fn shown(&self) -> String {
        format!("http://{}", self.host_port)
    }

    /// As it was written: **a secret** where there is a user.
    pub fn to_text(&self) -> Zeroizing<String> {
        let Some((user, password)) = self.user().map(|both| both.split_once(':').unwrap_or((both, "")))
        else {
            return Zeroizing::new(self.shown());
        };
        Zeroizing::new(format!("http://{}:{}@{}", *quoted(user), *quoted(password), self.host_port))
    }
}

/// As it stands in a URL (RFC 3986 §2.1).
fn quoted(text: &str) -> Zeroizing<String> {
    let mut quoted = Zeroizing::new(String::with_capacity(3 * text.len()));
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                quoted.push(char::from(byte))
            }
            _ => quoted.push_str(&format!("%{byte:02X}")),
        }
    }
    quoted
}

fn unquoted(text: &str) -> Option<Zeroizing<String>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(if byte == b'%' {
            let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16));
            u8::try_from(digit()? * 16 + digit()?).ok()?
        } else {
            byte
        });
    }
    let text = std::str::from_utf8(&bytes).ok().filter(|text| !text.chars().any(char::is_control))?;
    Some(Zeroizing::new(text.to_owned()))
}

impl fmt::Debug for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ProxyUrl").field(&self.shown()).finish()
    }
}

impl FromStr for ProxyUrl {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        Self::read(text.strip_prefix("http://").ok_or(ValueError::Proxy)?, None)
    }
}

/// How the relays are reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProxyChoice {
    /// Without a proxy, whatever the environment says.
    None,
    /// By this one.
    By(ProxyUrl),
}

impl ProxyChoice {
    /// For people.
    pub fn shown(&self) -> String {
        match self {
            Self::None => "none".to_owned(),
            Self::By(url) => url.shown(),
        }
    }

    /// As it was written: may be **a secret**.
    pub fn to_text(&self) -> Zeroizing<String> {
        match self {
            Self::None => Zeroizing::new("none".to_owned()),
            Self::By(url) => url.to_text(),
        }
    }

    /// The same for whoever may not read the password.
    #[must_use]
    pub fn without_user(self) -> Self {
        match self {
            Self::None => Self::None,
            Self::By(url) => Self::By(ProxyUrl { user: None, ..url }),
        }
    }
}

impl FromStr for ProxyChoice {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text == "none" { Ok(Self::None) } else { text.parse().map(Self::By) }
    }
}

/// By which proxy each relay is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyRule {
    url: ProxyUrl,
    except: NoProxy,
}

impl ProxyRule {
    /// What was chosen, or what the environment says, as `variable` looks it up: nothing where relays are reached without a proxy. A variable that names no HTTP proxy is
    /// passed over, and `passed_over` told its name: its value may have a password in it.
    pub fn of(
        choice: Option<&ProxyChoice>,
        variable: impl Fn(&str) -> Option<String>,
        mut passed_over: impl FnMut(&'static str),
    ) -> Option<Self> {
        match choice {
            Some(ProxyChoice::None) => return None,
            Some(ProxyChoice::By(url)) => return Some(Self { url: url.clone(), except: NoProxy::default() }),
            None => {}
        }
        // HTTP_PROXY is for pages without TLS, and a server that runs programs for strangers may have it from them.
        let names = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
        let said = |name: &str| {
            let value = variable(name).map(Zeroizing::new);
            value.filter(|value| !value.trim().is_empty())
        };
        let url = names.into_iter().find_map(|name| {
            let url = ProxyUrl::of_environment(said(name)?.trim());
            url.inspect_err(|_| passed_over(name)).ok()
        })?;
        let except = ["NO_PROXY", "no_proxy"].into_iter().find_map(said).unwrap_or_default();
        Some(Self { url, except: NoProxy::of_environment(&except) })
    }

    /// The proxy for a relay at `host_port`, as its ticket has it; nothing where that is reached without.
    pub fn by(&self, host_port: &str) -> Option<&ProxyUrl> {
        (!self.except.has(host_port)).then_some(&self.url)
    }

    /// The proxy, for whoever it is.
    pub const fn url(&self) -> &ProxyUrl {
        &self.url
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn a_proxy_is_read_as_it_is_written_and_not_shown_with_its_password() {
        for (text, host_port, user) in [
            ("http://10.0.0.1:3128", "10.0.0.1:3128", None),
            ("http://proxy.example:8080/", "proxy.example:8080", None),
            ("http://[2001:db8::1]:80", "[2001:db8::1]:80", None),
            ("http://u:secret@proxy:8080", "proxy:8080", Some("u:secret")),
            ("http://u@proxy:8080", "proxy:8080", Some("u:")),
            ("http://a%40b:se%3Acret%20%C3%BC@proxy:8080", "proxy:8080", Some("a@b:se:cret \u{fc}")),
        ] {
            let proxy: ProxyUrl = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!((proxy.host_port(), proxy.user()), (host_port, user), "{text}");
            assert_eq!(proxy.to_text().parse(), Ok(proxy.clone()), "{text}");
            let shown = format!("{} {proxy:?} {:?}", proxy.shown(), ProxyChoice::By(proxy.clone()));
            assert!(!shown.contains("cret"), "{shown}");
            let config = Config { proxy: Some(ProxyChoice::By(proxy)), ..Config::default() };
            let (whole, told) = (config.to_toml(), config.clone().without_secrets().to_toml());
            assert_eq!(Config::parse(&whole), Ok(config));
            assert!(
                !told.contains("cret") && told.contains(&format!("proxy = \"http://{host_port}\"")),
                "{told}"
            );
        }
        for bad in [
            "",
            "proxy:8080",
            "https://proxy:8080",
            "socks5://proxy:1080",
            "http://proxy",
            "http://proxy:",
            "http://proxy:0",
            "http://:80",
            "http://proxy:99999",
            "http://a b:80",
            "http://proxy:80/x",
            "http://@proxy:80",
            "http://%zz@proxy:80",
            "http://u:%0d%0a@proxy:80",
            "http://a%3ab:c@proxy:80",
            "http://[::1:80",
            "http://u:%@p:80",
            "http://p:+80",
        ] {
            assert_eq!(bad.parse::<ProxyUrl>(), Err(ValueError::Proxy), "{bad}");
        }
    }

    #[test]
    fn the_environment_is_asked_where_nobody_chose() {
        let of = |choice: Option<&str>, set: &[(&str, &str)]| {
            let choice = choice.map(|text| text.parse().unwrap());
            let variable = |name: &str| {
                set.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
            };
            let rule = ProxyRule::of(choice.as_ref(), variable, |_| ())?;
            Some(["relay.example:443", "other.example:443"].map(|relay| rule.by(relay).map(ProxyUrl::shown)))
        };
        let both = |url: &str| Some([Some(url.to_owned()), Some(url.to_owned())]);
        assert_eq!(of(None, &[]), None);
        assert_eq!(of(None, &[("https_proxy", "http://p:1")]), both("http://p:1"));
        assert_eq!(
            of(None, &[("ALL_PROXY", "http://a:1"), ("HTTPS_PROXY", "http://h:1")]),
            both("http://h:1")
        );
        assert_eq!(of(None, &[("HTTPS_PROXY", ""), ("all_proxy", "http://a:1")]), both("http://a:1"));
        assert_eq!(of(None, &[("ALL_PROXY", "socks5://p:1")]), None);
        assert_eq!(of(None, &[("HTTP_PROXY", "http://p:1")]), None);
        let exempt = [("HTTPS_PROXY", "http://p:1"), ("no_proxy", "relay.example")];
        assert_eq!(of(None, &exempt), Some([None, Some("http://p:1".to_owned())]));
        assert_eq!(
            of(None, &[("NO_PROXY", ""), exempt[0], exempt[1]]),
            of(None, &exempt),
            "as if it were not set"
        );
        // Who chose meant it.
        assert_eq!(of(Some("http://q:2"), &exempt), both("http://q:2"));
        assert_eq!(of(Some("none"), &exempt), None);
    }

    #[test]
    fn a_variable_is_read_as_by_other_programs_and_one_of_no_use_is_named_and_hides_none() {
        let of = |set: &[(&str, &str)]| {
            let variable = |name: &str| {
                set.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
            };
            let mut passed_over = Vec::new();
            let rule = ProxyRule::of(None, variable, |name| passed_over.push(name));
            (rule.map(|rule| (rule.url.host_port.clone(), rule.url.user().map(str::to_owned))), passed_over)
        };
        let found =
            |host_port: &str, user: Option<&str>| Some((host_port.to_owned(), user.map(str::to_owned)));
        for (value, host_port, user) in [
            ("proxy.corp:3128", "proxy.corp:3128", None),
            ("http://proxy.corp", "proxy.corp:80", None),
            ("HTTP://proxy.corp/", "proxy.corp:80", None),
            ("proxy.corp", "proxy.corp:80", None),
            (" u:s%40cret@proxy.corp ", "proxy.corp:80", Some("u:s@cret")),
            ("http://[2001:db8::1]", "[2001:db8::1]:80", None),
            ("[2001:db8::1]:3128", "[2001:db8::1]:3128", None),
        ] {
            assert_eq!(of(&[("HTTPS_PROXY", value)]), (found(host_port, user), vec![]), "{value}");
        }
        for useless in [
            "http://u:100%x@p:1",
            "socks5://p:1080",
            "https://p:443",
            "2001:db8::1",
            "http://p:",
            "http://p:0",
            "http://p/path",
            "http://",
            "http://u@",
        ] {
            assert_eq!(
                of(&[("HTTPS_PROXY", useless), ("ALL_PROXY", "http://good:1")]),
                (found("good:1", None), vec!["HTTPS_PROXY"]),
                "{useless}"
            );
            assert_eq!(
                of(&[("ALL_PROXY", useless), ("all_proxy", useless)]),
                (None, vec!["ALL_PROXY", "all_proxy"]),
                "{useless}"
            );
        }
        assert_eq!(of(&[("HTTPS_PROXY", " ")]), (None, vec![]), "as if it were not set");
    }
}
