//! `config.toml` as text: read with everything that is wrong in it, and written with every key explained.

use super::fault::{ConfigError, Fault, What};
use super::keys::Key;
use super::{Config, remembered_relay};
use shadowmesh_proto::spelling;
use shadowmesh_proto::ticket::RelayTicket;
use std::ops::Range;
use std::str::FromStr;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// What is wrong with a value, and where it stands in the file.
type Refused = (Range<usize>, String);

impl Config {
    /// Reads the text of a `config.toml`.
    ///
    /// # Errors
    /// All that is wrong with it: see [`ConfigError`].
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let (table, errors) = DeTable::parse_recoverable(text);
        let syntax = errors.iter().map(|error| {
            let words = error.message().split_whitespace().collect::<Vec<_>>().join(" ");
            let at = error.span().map_or(0, |span| span.start);
            Fault::at(text, at, What::Value(words))
        });
        if let Some(error) = ConfigError::of(syntax.collect()) {
            // What was made of the rest is a guess, and what is said of that would be as well.
            return Err(error);
        }
        let (mut config, mut faults) = (Self::default(), Vec::new());
        for (field, value) in table.get_ref() {
            let name: &str = field.get_ref();
            match Key::named(name) {
                None => {
                    let suggestion = spelling::closest(name, Key::names());
                    let what = What::Unknown { field: name.to_owned(), suggestion };
                    faults.push(Fault::at(text, field.span().start, what));
                }
                Some(key) => {
                    let refused = config.read(key, value).err().into_iter().flatten();
                    faults.extend(refused.map(|(at, why)| Fault::at(text, at.start, What::Value(why))));
                }
            }
        }
        ConfigError::of(faults).map_or(Ok(config), Err)
    }

    fn read(&mut self, key: Key, value: &Spanned<DeValue<'_>>) -> Result<(), Vec<Refused>> {
        if !key.about().kind.fits(value.get_ref()) {
            return Err(vec![(value.span(), key.about().expected())]);
        }
        match key {
            Key::Relays => self.relays = relays(key, value)?,
            Key::Proxy => self.proxy = chosen(key, value)?,
            Key::Name => self.name = chosen(key, value)?,
            Key::Device => self.device = chosen(key, value)?,
            Key::Mtu => self.mtu = chosen(key, value)?,
            Key::Queues => self.queues = chosen(key, value)?,
            Key::Bridge => self.bridge = chosen(key, value)?,
            Key::Address => self.address = chosen(key, value)?,
            Key::Cipher => self.cipher = chosen(key, value)?,
            Key::PortMapping => self.port_mapping = value.get_ref().as_bool(),
            Key::Filter => self.filter = chosen(key, value)?,
            Key::AllowDhcp => self.allow_dhcp = chosen(key, value)?,
            Key::FloodBudget => self.flood_budget = chosen(key, value)?,
            Key::Rules => self.rules = chosen(key, value)?,
            Key::Names => self.names = chosen(key, value)?,
            Key::Sessions => self.sessions = chosen(key, value)?,
            Key::IdleAfter => self.idle_after = chosen(key, value)?,
            Key::RekeyInterval => self.rekey_interval = chosen(key, value)?,
        }
        Ok(())
    }

    /// The keys that were chosen, in the order they are written.
    pub fn chosen(&self) -> Vec<&'static str> {
        let written = Key::names().zip(self.written());
        written.filter_map(|(name, value)| value.is_some().then_some(name)).collect()
    }

    /// The text of a `config.toml` that reads back as `self`, with every key explained.
    pub fn to_toml(&self) -> String {
        self.text("# What `shadowmesh up` remembers. It rewrites this file when a flag changes something.\n")
    }

    /// The file for `shadowmesh up --config` in which nothing is chosen and every key is explained.
    pub fn example() -> String {
        Self::default().text(
            "# Settings of this host's member of a ShadowMesh network, read by the service: `shadowmesh up --config` names this file.\n\
             # What is set here wins over what `shadowmesh up` was given and remembers; nothing writes to it. After a change:\n\
             # `sudo systemctl reload shadowmesh`, or `sudo shadowmesh reload`, which says what counts from the next start on.\n",
        )
    }

    fn text(&self, heading: &str) -> String {
        let mut text = heading.to_owned();
        for (key, value) in Key::ALL.iter().zip(self.written()) {
            let about = key.about();
            text.push('\n');
            for line in about.comment() {
                text.push_str(&format!("# {line}\n"));
            }
            text.push_str(&match value {
                Some(value) => format!("{} = {value}\n", about.name),
                None => format!("# {} = {}\n", about.name, about.example),
            });
        }
        text
    }

    /// What each key is set to, as TOML writes it; in the order of [`Key::ALL`]. A field for which there is no key does not compile.
    fn written(&self) -> [Option<String>; Key::ALL.len()] {
        let Self {
            relays,
            proxy,
            name,
            device,
            mtu,
            queues,
            bridge,
            address,
            cipher,
            port_mapping,
            filter,
            allow_dhcp,
            flood_budget,
            rules,
            names,
            sessions,
            idle_after,
            rekey_interval,
        } = self;
        fn quoted(value: &impl ToString) -> String {
            format!("\"{}\"", value.to_string())
        }
        let list = || {
            let tickets = relays.iter().map(RelayTicket::to_text).collect::<Vec<_>>();
            format!("[\n    \"{}\",\n]", tickets.join("\",\n    \""))
        };
        [
            (!relays.is_empty()).then(list),
            proxy.as_ref().map(|proxy| format!("\"{}\"", *proxy.to_text())),
            name.as_ref().map(quoted),
            device.as_ref().map(quoted),
            mtu.map(|mtu| mtu.to_string()),
            queues.map(|queues| queues.to_string()),
            bridge.as_ref().map(quoted),
            address.as_ref().map(quoted),
            cipher.as_ref().map(quoted),
            port_mapping.map(|is_on| is_on.to_string()),
            filter.as_ref().map(quoted),
            allow_dhcp.as_ref().map(quoted),
            flood_budget.as_ref().map(quoted),
            rules.as_ref().map(quoted),
            names.as_ref().map(quoted),
            sessions.as_ref().map(quoted),
            idle_after.as_ref().map(quoted),
            rekey_interval.as_ref().map(quoted),
        ]
    }
}

/// A value that reads itself from text, as on the command line.
fn chosen<T: FromStr<Err: ToString>>(
    key: Key,
    value: &Spanned<DeValue<'_>>,
) -> Result<Option<T>, Vec<Refused>> {
    let read = match value.get_ref() {
        DeValue::String(text) => text.parse(),
        DeValue::Integer(number) => decimal(number.as_str(), number.radix()).parse(),
        DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)
        | DeValue::Array(_)
        | DeValue::Table(_) => return Err(vec![(value.span(), key.about().expected())]),
    };
    read.map(Some).map_err(|error: T::Err| vec![(value.span(), error.to_string())])
}

/// The digits of a number as they are written by hand, whatever its base; as it stands where it is too large to be anything.
fn decimal(digits: &str, radix: u32) -> String {
    i64::from_str_radix(digits, radix).map_or_else(|_| digits.to_owned(), |number| number.to_string())
}

fn relays(key: Key, value: &Spanned<DeValue<'_>>) -> Result<Vec<RelayTicket>, Vec<Refused>> {
    let (mut relays, mut refused) = (Vec::new(), Vec::new());
    for item in value.get_ref().as_array().into_iter().flatten() {
        match item.get_ref().as_str().map(remembered_relay) {
            Some(Ok(ticket)) => relays.push(ticket),
            Some(Err(error)) => refused.push((item.span(), error.to_string())),
            None => refused.push((item.span(), key.about().expected())),
        }
    }
    if refused.is_empty() { Ok(relays) } else { Err(refused) }
}
