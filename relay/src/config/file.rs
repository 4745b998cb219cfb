//! The configuration file (TOML).
//!
//! ```toml
//! listen = ["[::]:8443", "[::]:443"]
//! public = "relay.example.org"
//! stun_alt = 8444
//! heartbeat = "15s"
//! rotation = "120s"
//! mtu = 1500
//! direct = true
//!
//! [limits]
//! connections = 16384
//! connections_per_address = 1024
//! members_per_network = 512
//! queue_bytes = 524288
//! back_pressure = "10ms"
//! bytes_per_second = 12500000
//! ```
//!
//! A field that nobody knows is refused, with the one that was probably meant: a setting that is silently ignored is worse
//! than a relay that does not start.

use super::Settings;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why a configuration file was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("cannot read the configuration {path}: {cause}; check the path given with --config", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// A field that nobody knows.
    #[error("the configuration {path} has an unknown field `{field}`; {advice}", path = path.display())]
    Unknown {
        /// The file.
        path: PathBuf,
        /// The field.
        field: String,
        /// What was probably meant.
        advice: String,
    },
    /// A value that does not parse.
    #[error("the configuration {path} does not parse: {what}; correct that line", path = path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and what.
        what: String,
    },
    /// A value out of its range.
    #[error("the configuration {path} has an impossible value: {what}", path = path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// Which, and what is possible.
        what: &'static str,
    },
}

/// What the file says; everything may be left out.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigFile {
    /// As `--listen`.
    pub listen: Option<Vec<SocketAddr>>,
    /// As `--public`.
    pub public: Option<String>,
    /// As `--stun-alt`.
    pub stun_alt: Option<u16>,
    #[serde(default, deserialize_with = "duration")]
    heartbeat: Option<Duration>,
    #[serde(default, deserialize_with = "duration")]
    rotation: Option<Duration>,
    mtu: Option<u16>,
    direct: Option<bool>,
    #[serde(default, deserialize_with = "duration")]
    handshake_timeout: Option<Duration>,
    #[serde(default, deserialize_with = "duration")]
    write_timeout: Option<Duration>,
    #[serde(default)]
    limits: LimitsTable,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitsTable {
    connections: Option<usize>,
    connections_per_address: Option<usize>,
    connects_per_second: Option<f64>,
    connects_burst: Option<f64>,
    members_per_network: Option<usize>,
    control_per_second: Option<f64>,
    control_burst: Option<f64>,
    bytes_per_second: Option<f64>,
    queue_bytes: Option<usize>,
    #[serde(default, deserialize_with = "duration")]
    back_pressure: Option<Duration>,
}

impl ConfigFile {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// [`ConfigError`], one sentence each.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|cause| ConfigError::Read { path: path.to_owned(), cause })?;
        Self::parse(path, &text)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let file: Self = toml::from_str(text).map_err(|error| match unknown_field(error.message()) {
            Some((field, known)) => {
                ConfigError::Unknown { path: path.to_owned(), advice: advice(&field, &known), field }
            }
            None => ConfigError::Syntax {
                path: path.to_owned(),
                what: error.to_string().trim().replace('\n', " "),
            },
        })?;
        match file.fault() {
            None => Ok(file),
            Some(what) => Err(ConfigError::Value { path: path.to_owned(), what }),
        }
    }

    /// The settings, with defaults for what is not said.
    pub fn settings(&self) -> Settings {
        let mut settings = Settings::default();
        set(&mut settings.heartbeat, self.heartbeat);
        set(&mut settings.rotation, self.rotation);
        set(&mut settings.mtu, self.mtu);
        set(&mut settings.direct, self.direct);
        set(&mut settings.handshake_timeout, self.handshake_timeout);
        set(&mut settings.write_timeout, self.write_timeout);
        let (limits, table) = (&mut settings.limits, &self.limits);
        set(&mut limits.connections, table.connections);
        set(&mut limits.connections_per_address, table.connections_per_address);
        set(&mut limits.connects_per_second, table.connects_per_second);
        set(&mut limits.connects_burst, table.connects_burst);
        set(&mut limits.members_per_network, table.members_per_network);
        set(&mut limits.control_per_second, table.control_per_second);
        set(&mut limits.control_burst, table.control_burst);
        set(&mut limits.queue_bytes, table.queue_bytes);
        set(&mut limits.back_pressure, table.back_pressure);
        limits.bytes_per_second = table.bytes_per_second;
        settings
    }

    /// The first value that makes no sense, if any.
    fn fault(&self) -> Option<&'static str> {
        let within = |value: Option<Duration>, from: u64, to: u64| {
            value.is_none_or(|value| (Duration::from_secs(from)..=Duration::from_secs(to)).contains(&value))
        };
        let positive = |value: Option<f64>| value.is_none_or(|value| value.is_finite() && value > 0.0);
        let limits = &self.limits;
        let rates = [
            limits.connects_per_second,
            limits.connects_burst,
            limits.control_per_second,
            limits.control_burst,
            limits.bytes_per_second,
        ];
        // The ranges that clients clamp to (protocol §3.5): outside of them a setting would not do what it says.
        let rules = [
            (within(self.heartbeat, 1, 60), "heartbeat must be 1s to 60s"),
            (within(self.rotation, 2, 120), "rotation must be 2s to 120s"),
            (self.mtu.is_none_or(|mtu| (1280..=9000).contains(&mtu)), "mtu must be 1280 to 9000"),
            (within(self.handshake_timeout, 1, 60), "handshake_timeout must be 1s to 60s"),
            (within(self.write_timeout, 1, 600), "write_timeout must be 1s to 10m"),
            (
                limits.queue_bytes.is_none_or(|bytes| bytes >= 64 * 1024),
                "limits.queue_bytes must be at least 65536, one message",
            ),
            (
                limits.back_pressure.is_none_or(|pause| pause <= Duration::from_secs(1)),
                "limits.back_pressure must be at most 1s",
            ),
            (
                rates.into_iter().all(positive),
                "rates and bursts in [limits] must be above 0; leave bytes_per_second out for no limit",
            ),
            (
                self.listen.as_ref().is_none_or(|listen| !listen.is_empty()),
                "listen must name at least one address, or be left out",
            ),
        ];
        rules.into_iter().find_map(|(holds, what)| (!holds).then_some(what))
    }
}

fn set<T: Copy>(target: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *target = value;
    }
}

/// `15s`, `500ms`, `2m`, `1h`.
fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_duration(&text).map(Some).ok_or_else(|| {
        D::Error::custom(format!("`{text}` is no duration such as \"15s\", \"500ms\" or \"2m\""))
    })
}

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

/// serde's sentence taken apart: the field, and the ones it would have known.
fn unknown_field(message: &str) -> Option<(String, Vec<String>)> {
    let mut quoted = message.strip_prefix("unknown field ")?.split('`').skip(1).step_by(2);
    let field = quoted.next()?.to_owned();
    Some((field, quoted.map(str::to_owned).collect()))
}

fn advice(field: &str, known: &[String]) -> String {
    let close = known
        .iter()
        .map(|name| (distance(field, name), name))
        .min()
        .filter(|(distance, name)| *distance <= name.len().max(field.len()) / 3 + 1);
    match close {
        Some((_, name)) => format!("did you mean `{name}`?"),
        None => format!("known here are {}", known.join(", ")),
    }
}

/// How many characters to insert, remove or change (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (slot, to) in row.iter_mut().skip(1).zip(b.chars()) {
            let change = diagonal + usize::from(from != to);
            diagonal = *slot;
            left = change.min(diagonal + 1).min(left + 1);
            *slot = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ConfigFile, String> {
        ConfigFile::parse(Path::new("relay.toml"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn the_example_above_parses() {
        let page = include_str!("file.rs");
        let example: String = page
            .lines()
            .skip_while(|line| *line != "//! ```toml")
            .skip(1)
            .take_while(|line| *line != "//! ```")
            .map(|line| format!("{}\n", line.trim_start_matches("//!")))
            .collect();
        let file = parse(&example).unwrap();
        assert_eq!(file.listen.as_ref().unwrap().len(), 2);
        let settings = file.settings();
        assert_eq!(settings.limits.bytes_per_second, Some(12_500_000.0));
        assert_eq!(settings.heartbeat, Duration::from_secs(15));
    }

    #[test]
    fn the_example_that_is_installed_names_every_field_and_its_default() {
        let example = include_str!("../../../deploy/etc/shadowmesh/relay.toml");
        assert_eq!(parse(example).unwrap().settings(), Settings::default());
        let is_setting = |line: &str| {
            let name = line.split(" = ").next().unwrap_or_default();
            line.contains(" = ") && name.chars().all(|c| c.is_ascii_lowercase() || c == '_')
        };
        let settings: Vec<&str> = example
            .lines()
            .map(|line| line.strip_prefix("# ").filter(|line| is_setting(line)).unwrap_or(line))
            .filter(|line| !line.starts_with('#'))
            .collect();
        let file = parse(&settings.join("\n")).unwrap();
        assert_eq!((file.public.as_deref(), file.stun_alt), (Some("auto"), Some(8444)));
        assert_eq!(file.listen, Some(vec!["[::]:8443".parse().unwrap()]));
        let mut defaults = Settings::default();
        // The only one that is no default: there is no number for "as much as the line gives".
        defaults.limits.bytes_per_second = Some(12_500_000.0);
        assert_eq!(file.settings(), defaults);
        for wrong in ["zzzz = 1", "[limits]\nzzzz = 1"] {
            let error = parse(wrong).unwrap_err();
            let known = error.split("known here are ").nth(1).expect("a list");
            for field in known.split(", ").filter(|field| *field != "limits") {
                assert!(settings.iter().any(|line| line.starts_with(&format!("{field} = "))), "{field}");
            }
        }
    }

    #[test]
    fn nothing_said_means_the_defaults() {
        assert_eq!(parse("").unwrap().settings(), Settings::default());
    }

    #[test]
    fn an_unknown_field_is_refused_with_what_was_meant() {
        let error = parse("lisen = []\n").unwrap_err();
        assert!(error.contains("`lisen`") && error.contains("did you mean `listen`?"), "{error}");
        let error = parse("[limits]\nconection = 1\n").unwrap_err();
        assert!(error.contains("did you mean `connections`?"), "{error}");
        let error = parse("colour = \"red\"\n").unwrap_err();
        assert!(error.contains("known here are listen, public"), "{error}");
    }

    #[test]
    fn impossible_values_are_named() {
        for (text, word) in [
            ("heartbeat = \"0s\"", "heartbeat"),
            ("heartbeat = \"61s\"", "heartbeat"),
            ("rotation = \"1s\"", "rotation"),
            ("rotation = \"ten\"", "no duration"),
            ("mtu = 1000", "mtu"),
            ("listen = []", "listen"),
            ("listen = [\"8443\"]", "listen"),
            ("[limits]\nqueue_bytes = 10", "queue_bytes"),
            ("[limits]\nconnects_per_second = 0.0", "above 0"),
            ("[limits]\nbytes_per_second = nan", "above 0"),
            ("heartbeat = ", "relay.toml"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
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
}
