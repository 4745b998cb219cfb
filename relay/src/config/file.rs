//! The configuration file (TOML): read with everything that is wrong in it, and its example, in which each key is explained
//! ([`ConfigFile::example`]).
//!
//! A field that nobody knows is refused, with the one that was probably meant: a setting that is silently ignored is worse
//! than a relay that does not start.

use super::fault::{ConfigError, Fault};
use super::keys::{Key, LIMITS};
use super::{Prefixes, Settings, span};
use crate::acme::{is_directory, is_domain};
use crate::public::Public;
use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::net::SocketAddr;
use std::ops::{Range, RangeInclusive};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Largest file that is read, bytes: far above what anybody writes, far below what would hurt.
const MAX_BYTES: u64 = 256 * 1024;
/// One message (protocol §3.2) fits a client's queue.
const QUEUE_BYTES_MIN: usize = 64 * 1024;

/// What the file says; everything may be left out.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ConfigFile {
    /// As `--listen`.
    pub listen: Option<Vec<SocketAddr>>,
    /// As `--public`.
    pub public: Option<Public>,
    /// As `--tls-cert`.
    pub tls_cert: Option<PathBuf>,
    /// As `--tls-key`.
    pub tls_key: Option<PathBuf>,
    /// As `--acme-domain`.
    pub acme_domains: Option<Vec<String>>,
    /// As `--acme-email`.
    pub acme_email: Option<String>,
    /// As `--acme-directory`.
    pub acme_directory: Option<String>,
    /// As `--acme-ca`.
    pub acme_ca: Option<PathBuf>,
    /// As `--stun-alt`.
    pub stun_alt: Option<u16>,
    /// The rest, with defaults for what is not said.
    pub settings: Settings,
}

/// A value that stands in the file, and which of its keys it is.
struct Value<'a, 'i> {
    key: Key,
    value: &'a Spanned<DeValue<'i>>,
}

/// What is wrong with a value, and where it stands in the file.
type Refused = (Range<usize>, String);

impl ConfigFile {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// [`ConfigError`], one sentence each.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = text(path).map_err(|cause| ConfigError::Read { path: path.to_owned(), cause })?;
        Self::parse(&text).map_err(|faults| ConfigError::Faulty { path: path.to_owned(), faults })
    }

    /// The file in which nothing is chosen and every key is explained.
    pub fn example() -> String {
        let mut text = "# Settings of this relay, read by the service: `shadowmesh-relay --config` names this file. After a change:\n\
                        # `sudo systemctl reload shadowmesh-relay`; its log says what was applied, and what counts from the next start on.\n"
            .to_owned();
        let mut table = "";
        for about in Key::ALL.iter().map(|key| key.about()) {
            if about.table != table {
                table = about.table;
                text.push_str(&format!("\n[{table}]\n"));
            } else {
                text.push('\n');
            }
            text.push_str(&about.explained());
        }
        text
    }

    fn parse(text: &str) -> Result<Self, Vec<Fault>> {
        let (table, errors) = DeTable::parse_recoverable(text);
        if !errors.is_empty() {
            // What was made of the rest is a guess, and what is said of that would be as well.
            return Err(errors.iter().map(|error| syntax(text, error)).collect());
        }
        let (mut file, mut faults) = (Self::default(), Vec::new());
        for (field, value) in table.get_ref() {
            match (field.get_ref().as_ref(), value.get_ref()) {
                (LIMITS, DeValue::Table(limits)) => {
                    for (field, value) in limits {
                        file.take(text, LIMITS, (field.get_ref(), field.span()), value, &mut faults);
                    }
                }
                (LIMITS, _) => {
                    let what = format!("`{LIMITS}` is a table: write [{LIMITS}] above its keys");
                    faults.push(Fault::at(text, value.span().start, what));
                }
                (name, _) => file.take(text, "", (name, field.span()), value, &mut faults),
            }
        }
        faults.sort_by_key(|fault| (fault.line, fault.column));
        if faults.is_empty() { Ok(file) } else { Err(faults) }
    }

    /// Takes a value, or says what is wrong with it.
    fn take(
        &mut self,
        text: &str,
        table: &str,
        (name, at): (&str, Range<usize>),
        value: &Spanned<DeValue<'_>>,
        faults: &mut Vec<Fault>,
    ) {
        let Some(key) = Key::named(table, name) else {
            return faults.push(Fault::unknown(text, at.start, table, name));
        };
        if let Err((at, what)) = self.set(Value { key, value }) {
            faults.push(Fault::at(text, at.start, what));
        }
    }

    fn set(&mut self, value: Value<'_, '_>) -> Result<(), Refused> {
        let seconds = |from, to| Duration::from_secs(from)..=Duration::from_secs(to);
        if !value.key.about().fits(value.value.get_ref()) {
            return Err(value.refused());
        }
        let settings = &mut self.settings;
        let limits = &mut settings.limits;
        match value.key {
            Key::Listen => self.listen = Some(value.list()?),
            Key::Public => self.public = Some(value.text()?.parse().map_err(|_| value.refused())?),
            Key::TlsCert => self.tls_cert = Some(value.path()?),
            Key::TlsPrivate => self.tls_key = Some(value.path()?),
            Key::AcmeDomains => {
                let domains: Vec<String> = value.list()?;
                if !domains.iter().all(|domain| is_domain(domain)) {
                    return Err(value.refused());
                }
                self.acme_domains = Some(domains);
            }
            Key::AcmeEmail => self.acme_email = Some(value.text_like(|text| text.contains('@'))?),
            Key::AcmeDirectory => {
                self.acme_directory = Some(value.text_like(is_directory)?);
            }
            Key::AcmeCa => self.acme_ca = Some(value.path()?),
            Key::StunAlt => self.stun_alt = Some(value.number(1..=u16::MAX)?),
            // The ranges that clients clamp to (protocol §3.5): outside of them a setting would not do what it says.
            Key::Heartbeat => settings.heartbeat = value.time(seconds(1, 60))?,
            Key::Rotation => settings.rotation = value.time(seconds(2, 120))?,
            Key::Mtu => settings.mtu = value.number(1280..=9000)?,
            Key::Direct => {
                settings.direct = value.value.get_ref().as_bool().ok_or_else(|| value.refused())?
            }
            Key::HandshakeTimeout => settings.handshake_timeout = value.time(seconds(1, 60))?,
            Key::WriteTimeout => settings.write_timeout = value.time(seconds(1, 600))?,
            Key::TrustedProxies => settings.trusted_proxies = Prefixes(value.list()?),
            Key::Connections => limits.connections = value.number(1..=usize::MAX)?,
            Key::ConnectionsPerAddress => limits.connections_per_address = value.number(1..=usize::MAX)?,
            Key::MembersPerNetwork => limits.members_per_network = value.number(1..=usize::MAX)?,
            Key::ConnectsPerSecond => limits.connects_per_second = value.rate()?,
            Key::ConnectsBurst => limits.connects_burst = value.rate()?,
            Key::ControlPerSecond => limits.control_per_second = value.rate()?,
            Key::ControlBurst => limits.control_burst = value.rate()?,
            Key::BytesPerSecond => limits.bytes_per_second = Some(value.rate()?),
            Key::QueueBytes => limits.queue_bytes = value.number(QUEUE_BYTES_MIN..=usize::MAX)?,
            Key::BackPressure => {
                limits.back_pressure = value.time(Duration::ZERO..=Duration::from_secs(1))?;
            }
        }
        Ok(())
    }

    /// What a key is, for people.
    pub(crate) fn shown(&self, key: Key) -> String {
        let Settings { limits, .. } = &self.settings;
        let or_none = |value: Option<String>| value.unwrap_or_else(|| "not set".to_owned());
        match key {
            Key::Listen => or_none(self.listen.as_deref().map(joined)),
            Key::TrustedProxies => {
                let Prefixes(trusted) = &self.settings.trusted_proxies;
                or_none(Some(joined(trusted)).filter(|_| !trusted.is_empty()))
            }
            Key::Public => or_none(
                self.public.as_ref().map(|public| public.to_remember().unwrap_or_else(|| "auto".to_owned())),
            ),
            Key::TlsCert => or_none(self.tls_cert.as_ref().map(|path| path.display().to_string())),
            Key::TlsPrivate => or_none(self.tls_key.as_ref().map(|path| path.display().to_string())),
            Key::AcmeDomains => or_none(self.acme_domains.as_deref().map(joined)),
            Key::AcmeEmail => or_none(self.acme_email.clone()),
            Key::AcmeDirectory => or_none(self.acme_directory.clone()),
            Key::AcmeCa => or_none(self.acme_ca.as_ref().map(|path| path.display().to_string())),
            Key::StunAlt => or_none(self.stun_alt.map(|port| port.to_string())),
            Key::Heartbeat => span(self.settings.heartbeat),
            Key::Rotation => span(self.settings.rotation),
            Key::Mtu => self.settings.mtu.to_string(),
            Key::Direct => self.settings.direct.to_string(),
            Key::HandshakeTimeout => span(self.settings.handshake_timeout),
            Key::WriteTimeout => span(self.settings.write_timeout),
            Key::Connections => limits.connections.to_string(),
            Key::ConnectionsPerAddress => limits.connections_per_address.to_string(),
            Key::MembersPerNetwork => limits.members_per_network.to_string(),
            Key::ConnectsPerSecond => limits.connects_per_second.to_string(),
            Key::ConnectsBurst => limits.connects_burst.to_string(),
            Key::ControlPerSecond => limits.control_per_second.to_string(),
            Key::ControlBurst => limits.control_burst.to_string(),
            Key::BytesPerSecond => or_none(limits.bytes_per_second.map(|rate| rate.to_string())),
            Key::QueueBytes => limits.queue_bytes.to_string(),
            Key::BackPressure => span(limits.back_pressure),
        }
    }

    /// The keys that `newer` says otherwise of.
    pub(crate) fn changed(&self, newer: &Self) -> impl Iterator<Item = Key> {
        Key::ALL.iter().copied().filter(|key| self.shown(*key) != newer.shown(*key))
    }
}

fn joined<T: ToString>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl Value<'_, '_> {
    /// It is none of those that are possible.
    fn refused(&self) -> Refused {
        (self.value.span(), self.key.about().expected())
    }

    fn text(&self) -> Result<&str, Refused> {
        self.value.get_ref().as_str().ok_or_else(|| self.refused())
    }

    fn text_like(&self, is_one: impl FnOnce(&str) -> bool) -> Result<String, Refused> {
        let text = self.text()?;
        if is_one(text) { Ok(text.to_owned()) } else { Err(self.refused()) }
    }

    fn path(&self) -> Result<PathBuf, Refused> {
        let text = self.text()?;
        if text.is_empty() { Err(self.refused()) } else { Ok(text.into()) }
    }

    /// At least one.
    fn list<T: FromStr>(&self) -> Result<Vec<T>, Refused> {
        let list = self.value.get_ref().as_array().ok_or_else(|| self.refused())?;
        let item = |item: &Spanned<DeValue<'_>>| {
            let read = item.get_ref().as_str().and_then(|text| text.parse().ok());
            read.ok_or_else(|| (item.span(), self.key.about().expected()))
        };
        let items: Vec<_> = list.iter().map(item).collect::<Result<_, _>>()?;
        if items.is_empty() { Err(self.refused()) } else { Ok(items) }
    }

    fn number<T: TryFrom<i64> + PartialOrd>(&self, range: RangeInclusive<T>) -> Result<T, Refused> {
        let digits = self.value.get_ref().as_integer().ok_or_else(|| self.refused())?;
        let number = i64::from_str_radix(digits.as_str(), digits.radix()).ok();
        let number = number.and_then(|number| T::try_from(number).ok());
        number.filter(|number| range.contains(number)).ok_or_else(|| self.refused())
    }

    fn rate(&self) -> Result<f64, Refused> {
        let number = match self.value.get_ref() {
            DeValue::Float(digits) => digits.as_str().parse().ok(),
            DeValue::Integer(digits) if digits.radix() == 10 => digits.as_str().parse().ok(),
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_) => None,
        };
        number.filter(|rate: &f64| rate.is_finite() && *rate > 0.0).ok_or_else(|| self.refused())
    }

    fn time(&self, range: RangeInclusive<Duration>) -> Result<Duration, Refused> {
        let time = parse_duration(self.text()?).filter(|time| range.contains(time));
        time.ok_or_else(|| self.refused())
    }
}

fn syntax(text: &str, error: &toml::de::Error) -> Fault {
    let words = error.message().split_whitespace().collect::<Vec<_>>().join(" ");
    Fault::at(text, error.span().map_or(0, |span| span.start), words)
}

fn text(path: &Path) -> io::Result<String> {
    // Nobody waits for who may write into what is no ordinary file.
    let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is no ordinary file"));
    }
    let mut text = String::new();
    file.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is too large"));
    }
    Ok(text)
}

/// `15s`, `500ms`, `2m`, `1h`.
fn parse_duration(text: &str) -> Option<Duration> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(unit_at);
    let number: u64 = number.parse().ok()?;
    match unit.trim_start() {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs),
        "h" => number.checked_mul(3600).map(Duration::from_secs),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::keys::About;
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<ConfigFile, String> {
        ConfigFile::parse(text)
            .map_err(|faults| faults.iter().map(Fault::to_string).collect::<Vec<_>>().join("; "))
    }

    #[test]
    fn the_example_that_is_installed_is_this_one_and_each_of_its_lines_can_be_used() {
        let example = ConfigFile::example();
        let installed = include_str!("../../../deploy/etc/shadowmesh/relay.toml");
        assert_eq!(installed, example, "deploy/etc/shadowmesh/relay.toml is not `shadowmesh-relay config`");
        assert_eq!(parse(&example), Ok(ConfigFile::default()));
        let is_setting = |line: &str| {
            let name = line.split(" = ").next().unwrap_or_default();
            line.contains(" = ") && name.chars().all(|c| c.is_ascii_lowercase() || c == '_')
        };
        let used: Vec<&str> = example
            .lines()
            .map(|line| line.strip_prefix("# ").filter(|line| is_setting(line)).unwrap_or(line))
            .filter(|line| !line.starts_with('#'))
            .collect();
        let file = parse(&used.join("\n")).unwrap();
        assert_eq!(used.iter().filter(|line| is_setting(line)).count(), Key::ALL.len());
        assert_eq!((file.public.clone(), file.stun_alt), (Some(Public::Auto), Some(8444)));
        assert_eq!(file.listen, Some(vec!["[::]:8443".parse().unwrap()]));
        let mut defaults = Settings::default();
        // There is no number for "as much as the line gives".
        defaults.limits.bytes_per_second = Some(12_500_000.0);
        // Nobody is believed by default.
        defaults.trusted_proxies = Prefixes(vec!["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()]);
        assert_eq!(file.settings, defaults);
    }

    /// A line of the file, in its table.
    fn line(about: &About, value: &str) -> String {
        let table = if about.table.is_empty() { String::new() } else { format!("[{}]\n", about.table) };
        format!("{table}{} = {value}\n", about.name)
    }

    #[test]
    fn each_key_refuses_every_wrong_kind_with_its_place_and_what_is_possible() {
        for key in Key::ALL {
            let about = key.about();
            let place = format!(
                "line {}, column {}: ",
                1 + usize::from(!about.table.is_empty()),
                about.name.len() + 4
            );
            for value in ["\"\"", "-7", "-7.5", "nan", "1979-05-27", "{ a = 1 }", "[]"] {
                let said = parse(&line(about, value)).expect_err(about.name);
                let expected = format!("{place}{}", about.expected());
                assert_eq!(said, expected, "{} = {value}", about.name);
            }
        }
    }

    #[test]
    fn each_key_changes_what_is_shown_of_it_and_of_no_other() {
        for key in Key::ALL {
            let value = match key {
                Key::Listen => "[\"127.0.0.1:1\", \"[::1]:2\"]",
                Key::Public => "\"relay.example\"",
                Key::AcmeDomains => "[\"a.example\", \"b.example\"]",
                Key::AcmeEmail => "\"a@b.example\"",
                Key::AcmeDirectory => "\"https://ca.example/acme\"",
                Key::TlsCert | Key::TlsPrivate | Key::AcmeCa => "\"/a/file.pem\"",
                Key::StunAlt => "3",
                Key::Heartbeat | Key::Rotation | Key::HandshakeTimeout | Key::WriteTimeout => "\"5s\"",
                Key::Direct => "false",
                Key::TrustedProxies => "[\"10.0.0.0/8\", \"::1\"]",
                Key::BackPressure => "\"5ms\"",
                Key::Mtu => "1280",
                Key::QueueBytes => "65536",
                Key::Connections
                | Key::ConnectionsPerAddress
                | Key::MembersPerNetwork
                | Key::ConnectsPerSecond
                | Key::ConnectsBurst
                | Key::ControlPerSecond
                | Key::ControlBurst
                | Key::BytesPerSecond => "7",
            };
            let file = parse(&line(key.about(), value)).unwrap();
            let changed: Vec<_> = ConfigFile::default().changed(&file).collect();
            assert_eq!(changed, [*key]);
            let bare = value.replace(['[', ']', '"'], "");
            let shown = file.shown(*key).replace(['[', ']'], "");
            assert_eq!(shown, bare);
        }
    }

    #[test]
    fn an_unknown_field_is_refused_with_its_place_and_what_was_meant() {
        let said = parse("# a\n lisen = []\n").unwrap_err();
        assert_eq!(said, "line 2, column 2: unknown field `lisen`, did you mean `listen`?");
        let said = parse("mtu = 1400\n[limits]\nconection = 1\n").unwrap_err();
        assert_eq!(said, "line 3, column 1: unknown field `conection`, did you mean `connections`?");
        let said = parse("limits = { queue_bites = 1 }").unwrap_err();
        assert_eq!(said, "line 1, column 12: unknown field `queue_bites`, did you mean `queue_bytes`?");
        let said = parse("colour = \"red\"\n").unwrap_err();
        assert!(said.contains("known here are listen, public") && said.ends_with(", limits"), "{said}");
        let said = parse("[limits.more]\nx = 1\n").unwrap_err();
        assert!(said.contains("unknown field `more`, "), "{said}");
        assert_eq!(
            parse("limits = 5").unwrap_err(),
            "line 1, column 10: `limits` is a table: write [limits] above its keys"
        );
    }

    #[test]
    fn all_that_is_wrong_is_said_and_values_out_of_range_are() {
        let said = parse("mtu = 1\n[limits]\nqueue_bytes = 10\nx = 1\n").unwrap_err();
        let places: Vec<_> = said.split("; line ").map(|fault| fault.split(':').next().unwrap()).collect();
        assert_eq!(places, ["line 1, column 7", "3, column 15", "4, column 1"]);
        for (text, column) in [
            ("heartbeat = \"0s\"", 13),
            ("heartbeat = \"61s\"", 13),
            ("rotation = \"1s\"", 12),
            ("rotation = \"ten\"", 12),
            ("mtu = 9001", 7),
            ("stun_alt = 0", 12),
            ("stun_alt = 65536", 12),
            ("listen = [\"[::]:1\", \"8443\"]", 21),
            ("public = \"not a host\"", 10),
            ("write_timeout = \"601s\"", 17),
            ("limits.connections = 0", 22),
            ("limits.connects_per_second = 0.0", 30),
            ("limits.bytes_per_second = inf", 27),
            ("limits.queue_bytes = 99999999999999999999", 22),
            ("limits.back_pressure = \"1001ms\"", 24),
            ("heartbeat = ", 13),
        ] {
            let said = parse(text).unwrap_err();
            assert!(said.starts_with(&format!("line 1, column {column}: ")), "{text}: {said}");
            assert!(!said.contains('\n'), "{said}");
        }
        assert_eq!(parse("").unwrap(), ConfigFile::default());
        assert_eq!(parse("limits.connects_burst = 7").unwrap().settings.limits.connects_burst, 7.0);
    }

    #[test]
    fn what_is_no_file_of_settings_is_named() {
        let home = tempfile::tempdir().unwrap();
        let said = |path: &Path| ConfigFile::read(path).unwrap_err().to_string();
        assert!(said(&home.path().join("none")).contains("No such file"));
        assert!(said(home.path()).contains("it is no ordinary file"));
        let file = home.path().join("relay.toml");
        std::fs::write(&file, "# long\n".repeat(40_000)).unwrap();
        assert!(said(&file).contains("it is too large"));
        std::fs::write(
            &file,
            "x1 = 1\n".to_owned() + &(2..20).map(|n| format!("x{n} = 1\n")).collect::<String>(),
        )
        .unwrap();
        let said = said(&file);
        assert!(said.ends_with("; and 11 more; correct that") && !said.contains('\n'), "{said}");
    }

    #[test]
    fn durations() {
        assert_eq!(parse_duration("15s"), Some(Duration::from_secs(15)));
        assert_eq!(parse_duration("500 ms"), Some(Duration::from_millis(500)));
        assert_eq!(parse_duration("2m"), Some(Duration::from_secs(120)));
        for bad in ["", "s", "15", "-1s", "1.5s", "99999999999999999999s", "18446744073709551615h"] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(\\PC|\n){0,200}") {
            if let Err(said) = parse(&text) {
                prop_assert!(!said.contains('\n'));
            }
        }

        #[test]
        fn any_value_of_a_key_is_read_or_refused(key in proptest::sample::select(Key::ALL), value in "\\PC{0,20}") {
            let _ = parse(&line(key.about(), &value));
        }
    }
}
