//! From a text to statements, or to everything that is wrong with it.
//!
//! A line is read as far as it makes sense: a selector or port that is wrong does not hide the next one, while a first word that
//! begins nothing, or a missing arrow, leaves the rest of its line alone.

use super::fault::{Fault, Wrong};
use super::ranges::Ranges;
use super::selector::{Selector, is_name, is_start_of_id};
use super::statement::{Action, Place, PlacedSelector, Read, Right, Says, Statement};
use super::what::{ARP, FIRST_ETHERTYPE, IPV4, IPV6, What};
use super::words::{Token, hidden, tokens};
use super::{MAX_BYTES, MAX_FAULTS, MAX_RULES, Rules, guess};

/// Reads a text.
pub(super) fn read(bytes: &[u8]) -> Result<Read, Vec<Fault>> {
    if bytes.len() > MAX_BYTES {
        return Err(vec![Fault::new(START, "", Wrong::TooLong)]);
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
        let before = String::from_utf8_lossy(before);
        let before = before.strip_prefix('\u{feff}').unwrap_or(&before);
        let column = 1 + before.rsplit('\n').next().unwrap_or_default().chars().count();
        let line = 1 + before.matches('\n').count();
        vec![Fault::new(Place { line, column }, "", Wrong::NotText)]
    })?;
    let mut reader = Reader::default();
    // Some editors put it at the front of what they call UTF-8.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (at, line) in text.split('\n').enumerate() {
        reader.line(at + 1, line.strip_suffix('\r').unwrap_or(line));
        if reader.faults.len() > MAX_FAULTS {
            break;
        }
    }
    if !reader.faults.is_empty() {
        return Err(reader.faults);
    }
    let read = Read(reader.statements);
    // Only a text that is nearly too long can be too long in its canonical form.
    if bytes.len() + 2 * MAX_RULES >= MAX_BYTES {
        let written = Rules::from(&read).to_string().len();
        if written > MAX_BYTES {
            return Err(vec![Fault::new(START, "", Wrong::TooLongWritten(written))]);
        }
    }
    Ok(read)
}

const START: Place = Place { line: 1, column: 1 };

#[derive(Debug, Default)]
struct Reader {
    statements: Vec<Statement>,
    faults: Vec<Fault>,
    rules: usize,
}

/// What is left of a line.
#[derive(Debug)]
struct Line<'a> {
    number: usize,
    tokens: std::iter::Peekable<std::vec::IntoIter<(usize, Token<'a>)>>,
    /// The column behind the last token.
    end: usize,
}

impl<'a> Line<'a> {
    fn next(&mut self) -> (Place, Option<Token<'a>>) {
        let (column, token) =
            self.tokens.next().map_or((self.end, None), |(column, token)| (column, Some(token)));
        (Place { line: self.number, column }, token)
    }

    fn peek(&mut self) -> Option<Token<'a>> {
        self.tokens.peek().map(|(_, token)| *token)
    }

    fn take(&mut self, wanted: Token<'_>) -> bool {
        self.tokens.next_if(|(_, token)| *token == wanted).is_some()
    }
}

impl Reader {
    /// Keeps a fault, while there are few.
    fn push(&mut self, fault: Fault) {
        match self.faults.len() {
            0..MAX_FAULTS => self.faults.push(fault),
            MAX_FAULTS => {
                let place = Place { line: fault.line, column: fault.column };
                self.faults.push(Fault::new(place, "", Wrong::MoreFaults));
            }
            _ => {}
        }
    }

    fn fault(&mut self, place: Place, word: &str, wrong: Wrong) {
        self.push(Fault::new(place, word, wrong));
    }

    fn expected(&mut self, place: Place, found: Option<Token<'_>>, what: &'static str) {
        self.fault(place, found.map_or("", Token::text), Wrong::Expected(what));
    }

    fn line(&mut self, number: usize, text: &str) {
        if let Some((column, c)) = hidden(text) {
            self.fault(Place { line: number, column }, &c.to_string(), Wrong::Hidden(c));
            return;
        }
        let (tokens, end) = tokens(text);
        let mut line = Line { number, tokens: tokens.into_iter().peekable(), end };
        let (place, first) = line.next();
        let says = match first {
            None => return,
            Some(Token::Word("allow")) => self.rule(place, &mut line, Action::Allow),
            Some(Token::Word("deny")) => self.rule(place, &mut line, Action::Deny),
            Some(Token::Word("bridge")) => self.right(&mut line, Right::Bridge),
            Some(Token::Word("dhcp")) => self.right(&mut line, Right::Dhcp),
            Some(Token::Word("stp")) => self.right(&mut line, Right::Stp),
            Some(other) => {
                let fault = Fault::new(place, other.text(), Wrong::Verb);
                self.push(fault.meaning(guess::verb(other.text())));
                None
            }
        };
        self.statements.extend(says.map(|says| Statement { place, says }));
    }

    fn right(&mut self, line: &mut Line<'_>, right: Right) -> Option<Says> {
        let members = self.selectors(line)?;
        let (place, rest) = line.next();
        match rest {
            None => {}
            Some(Token::Arrow) => {
                self.expected(place, rest, "the end of the line (only allow and deny have a destination)");
            }
            Some(_) => self.expected(place, rest, "a comma or the end of the line"),
        }
        Some(Says::Right { right, members })
    }

    fn rule(&mut self, place: Place, line: &mut Line<'_>, action: Action) -> Option<Says> {
        self.rules += 1;
        if self.rules == MAX_RULES + 1 {
            self.fault(place, action.word(), Wrong::TooManyRules);
        }
        let sources = self.selectors(line)?;
        if !line.take(Token::Arrow) {
            let (place, found) = line.next();
            let fault = Fault::new(place, found.map_or("", Token::text), Wrong::Expected("`->`"));
            let is_arrow = matches!(found, Some(Token::Word("=>" | ">" | "-" | "→" | "to" | "-->")));
            self.push(fault.meaning(is_arrow.then(|| "->".to_owned())));
            return None;
        }
        let destinations = self.selectors(line)?;
        let what = self.what(line)?;
        let (place, rest) = line.next();
        if rest.is_some() {
            let what = match what {
                What::Tcp(_) | What::Udp(_) | What::Ethertypes(_) => "a comma or the end of the line",
                What::Everything | What::Icmp | What::Protocol(_) | What::Ip | What::Other => {
                    "the end of the line (one kind of traffic a rule)"
                }
            };
            self.expected(place, rest, what);
        }
        Some(Says::Rule { action, sources, destinations, what })
    }

    /// A list with commas, each word read by `each`. `None` when there is no list to read.
    fn list<'a>(
        &mut self,
        line: &mut Line<'a>,
        what: &'static str,
        mut each: impl FnMut(&mut Self, Place, &'a str),
    ) -> Option<()> {
        loop {
            match line.next() {
                (place, Some(Token::Word(word))) => each(self, place, word),
                (place, found @ (Some(Token::Comma | Token::Arrow) | None)) => {
                    self.expected(place, found, what);
                    return None;
                }
            }
            if !line.take(Token::Comma) {
                return Some(());
            }
        }
    }

    fn selectors(&mut self, line: &mut Line<'_>) -> Option<Vec<PlacedSelector>> {
        let mut selectors = Vec::new();
        let what = "any, tag:NAME, name:NAME or id:START_OF_AN_ID";
        self.list(line, what, |reader, place, word| match selector(word) {
            Ok(selector) => selectors.push((place, selector)),
            Err(wrong) => {
                let meant = if wrong == Wrong::Address { None } else { guess::selector(word) };
                reader.push(Fault::new(place, word, wrong).meaning(meant.filter(|meant| meant != word)));
            }
        })?;
        Some(selectors)
    }

    fn what(&mut self, line: &mut Line<'_>) -> Option<What> {
        let Some(Token::Word(_)) = line.peek() else { return Some(What::Everything) };
        let (place, found) = line.next();
        let word = found.map_or("", Token::text);
        match word {
            "tcp" => Some(What::Tcp(self.ports(line)?)),
            "udp" => Some(What::Udp(self.ports(line)?)),
            "icmp" => Some(What::Icmp),
            "ip" => Some(What::Ip),
            "other" => Some(What::Other),
            "proto" => self.protocol(line),
            "ethertype" => self.ethertypes(line),
            "arp" | "ndp" | "nd" => {
                self.fault(place, word, Wrong::Arp);
                None
            }
            word if selector(word).is_ok() => {
                self.expected(place, found, "a comma, a kind of traffic or the end of the line");
                None
            }
            word => {
                self.push(Fault::new(place, word, Wrong::What).meaning(guess::traffic(word)));
                None
            }
        }
    }

    fn ports(&mut self, line: &mut Line<'_>) -> Option<Ranges> {
        if line.peek().is_none() {
            return Some(Ranges::all());
        }
        let mut ranges = Vec::new();
        self.list(line, "a port", |reader, place, word| match port_range(word) {
            Ok(range) => ranges.push(range),
            Err(wrong) => {
                let meant = if wrong == Wrong::Port { guess::port(word) } else { turned(word) };
                reader.push(Fault::new(place, word, wrong).meaning(meant));
            }
        })?;
        Some(Ranges::of(ranges))
    }

    fn protocol(&mut self, line: &mut Line<'_>) -> Option<What> {
        let (place, found) = line.next();
        let Some(Token::Word(word)) = found else {
            self.expected(place, found, "a protocol number");
            return None;
        };
        match number(word).and_then(|number| u8::try_from(number).ok()) {
            Some(number) => Some(What::Protocol(number)),
            None => {
                let meant = guess::protocol(word);
                self.push(Fault::new(place, word, Wrong::Protocol).meaning(meant));
                None
            }
        }
    }

    fn ethertypes(&mut self, line: &mut Line<'_>) -> Option<What> {
        let mut types = Vec::new();
        self.list(line, "an ethertype", |reader, place, word| match ethertype(word) {
            Ok(kind) => types.push(kind),
            Err(wrong) => {
                let meant = if wrong == Wrong::Ethertype { guess::ethertype(word) } else { None };
                reader.push(Fault::new(place, word, wrong).meaning(meant));
            }
        })?;
        types.sort_unstable();
        types.dedup();
        Some(What::Ethertypes(types))
    }
}

fn selector(word: &str) -> Result<Selector, Wrong> {
    let Some((kind, name)) = word.split_once(':') else {
        return match word {
            "any" => Ok(Selector::Any),
            word if guess::is_address(word) => Err(Wrong::Address),
            _ => Err(Wrong::Selector),
        };
    };
    match kind {
        "tag" if is_name(name) => Ok(Selector::Tag(name.to_owned())),
        "name" if is_name(name) => Ok(Selector::Name(name.to_owned())),
        "tag" | "name" => Err(Wrong::Name),
        "id" => {
            let start = name.to_ascii_lowercase();
            if is_start_of_id(&start) { Ok(Selector::Id(start)) } else { Err(Wrong::IdStart) }
        }
        _ if guess::is_address(word) => Err(Wrong::Address),
        _ => Err(Wrong::Selector),
    }
}

/// A number in digits alone: Rust's own reading takes a sign as well.
fn number(word: &str) -> Option<u16> {
    word.parse().ok().filter(|_| word.bytes().all(|byte| byte.is_ascii_digit()))
}

fn port_range(word: &str) -> Result<(u16, u16), Wrong> {
    let port = |word: &str| number(word).filter(|port| *port > 0).ok_or(Wrong::Port);
    let (first, last) = word.split_once('-').unwrap_or((word, word));
    let (first, last) = (port(first)?, port(last)?);
    if first <= last { Ok((first, last)) } else { Err(Wrong::Backwards) }
}

/// A range the other way round.
fn turned(word: &str) -> Option<String> {
    word.split_once('-').map(|(first, last)| format!("{last}-{first}"))
}

fn ethertype(word: &str) -> Result<u16, Wrong> {
    let digits = word.strip_prefix("0x").filter(|digits| digits.len() == 4).ok_or(Wrong::Ethertype)?;
    let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let kind = u16::from_str_radix(digits, 16).ok().filter(|_| is_hex).ok_or(Wrong::Ethertype)?;
    match kind {
        0..FIRST_ETHERTYPE => Err(Wrong::Ethertype),
        IPV4 => Err(Wrong::EthertypeHasWord("IPv4: expected ip, tcp, udp, icmp or proto")),
        IPV6 => Err(Wrong::EthertypeHasWord("IPv6: expected ip, tcp, udp, icmp or proto")),
        ARP => Err(Wrong::EthertypeHasWord(
            "ARP, which passes between members that may exchange anything, and cannot be ruled alone",
        )),
        0x8100 | 0x88a8 => Err(Wrong::EthertypeHasWord(
            "a VLAN tag, behind which rules look: expected the type of what is tagged",
        )),
        kind => Ok(kind),
    }
}
