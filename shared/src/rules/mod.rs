//! Access rules: who may send what to whom, as a small text and as the judge of one pair of members.
//!
//! ```text
//! # The office.
//! dhcp   tag:gateway
//! bridge tag:lan, name:printer-room
//!
//! allow tag:admin -> any
//! deny  any       -> name:vault
//! allow any       -> tag:server tcp 22,443,8000-8010
//! allow any       -> any icmp
//! ```
//!
//! # Grammar
//!
//! UTF-8, at most [`MAX_BYTES`] and [`MAX_RULES`]; a statement a line; `#` begins a comment. Blanks and tabs part words, and are free
//! around commas and arrows. Words are in lower case. Characters that do not show what they do (control characters, those that turn
//! the direction of writing) are refused in comments as well: the text must mean what it looks like.
//!
//! ```text
//! statement    = ( "allow" | "deny" ) selectors "->" selectors [ what ]
//!              | ( "bridge" | "dhcp" | "stp" ) selectors
//! selectors    = selector *( "," selector )
//! selector     = "any" | "tag:" name | "name:" name | "id:" start
//! name         = 1 to 63 of A-Z a-z 0-9 - _ .       exactly as in the network's record: case counts
//! start        = the first 10 to 52 characters of a node's id (protocol §1.1)
//! what         = "tcp" [ ports ] | "udp" [ ports ] | "icmp" | "proto" 0…255 | "ip" | "other" | "ethertype" types
//! ports        = port *( "," port )                 port: 1…65535, or two of them with "-" between
//! types        = type *( "," type )                 type: 0x0600…0xffff, four digits
//! ```
//!
//! # Meaning
//!
//! A rule is about members, not about addresses: the source is the member in whose session a frame came, and its id, name and tags are
//! those that the network vouches for, not those that it says of itself. A machine behind a member counts as that member. The
//! destination is the node that received the frame: each node judges what comes in, after it was decrypted, and nothing that goes out.
//!
//! **The first rule that matches decides.** A rule matches a packet when one of its selectors names the source, one names the
//! destination, and what it says covers the packet. **A text without rules allows everything. One with at least one rule denies what
//! no rule allows.** `bridge`, `dhcp` and `stp` are not rules: a text with nothing else still allows everything.
//!
//! | what | covers |
//! |---|---|
//! | nothing | everything |
//! | `tcp`, `udp` | that protocol, with a destination port among those named; without ports all of it |
//! | `icmp` | protocols 1 and 58, in IPv4 and IPv6 |
//! | `proto N` | that protocol number: the one in the IPv4 header, or the one after the extension headers of IPv6. `proto 50` (ESP) and `proto 51` (AH) are what they are; what is inside is not looked at |
//! | `ip` | all of IPv4 and IPv6 |
//! | `other` | every frame that is not IPv4, IPv6 or ARP, the ones of IEEE 802.3 with a length among them |
//! | `ethertype` | frames of these types that are not IPv4, IPv6 or ARP, which have words of their own |
//!
//! The type of a frame is what follows the tags of at most two VLANs (IEEE 802.1Q, 802.1ad) and any number of tags that give a priority
//! only (id 0); the tags themselves are not judged. What is wrapped in other protocols (PPPoE, MPLS, a third VLAN) is judged as its
//! wrapping.
//!
//! **What begins is judged, answers pass.** An answer to what this node sent to that member passes whatever the rules say, also against
//! a `deny`, as with `ct state established,related accept` at the top of an nftables chain; the memory for it is the client's
//! (`access`). Traffic that is not IP has no answers that could be told: it needs a rule in each direction.
//!
//! **ARP and neighbour discovery** (ICMPv6 133, 135 and 136) pass between two members that may exchange anything at all, in either
//! direction: without them nothing that is allowed could be sent, and where nothing is allowed nobody learns who is there. No rule
//! can deny them alone. Router advertisements and redirects (134, 137) are ICMP like any other.
//!
//! **Multicast and broadcast** are judged like what is for one host, by each node that receives them, with the port or protocol that they
//! have. Nobody can tell what answers them, since whoever answers does so from an address of its own; so what asks a group needs a rule
//! in each direction: mDNS `udp 5353` between all who find each other, SSDP `udp 1900` to who offers something and `udp` (its
//! answers come to a port that nobody knows before) to who searches. What a member's hosts say of the groups that they want is judged as well:
//! IGMP is `proto 2`, MLD is `icmp`. Where that is denied this node does not learn it, and while a router asks on its side
//! (`switch`), sends that member no groups but those of the link; without such a router it sends everything to everybody as always.
//!
//! **What nodes say to each other against loops** (protocol §5.6) is no traffic of members: it ends in the switch, and no rule switches it
//! off.
//!
//! **`dhcp`** names members that may answer DHCP and send router advertisements. DHCP from them (UDP 67 to 68, 547 to 546), their
//! advertisements and redirects, and DHCP to them (68 to 67, 546 to 547) pass whatever the rules say, and so do ARP and neighbour
//! discovery with them. **`stp`** names members whose bridges speak to other bridges: BPDUs and LLDP from them pass. **`bridge`**
//! names members that have a LAN behind them: they may send from MACs and IP addresses that are not their own, other members' among
//! them. All three are [`Rights`], for the switch to ask; it keeps everybody else from these things even where the rules allow
//! everything. Where nobody is named by `bridge`, everybody may send from MACs and addresses that are no member's.
//!
//! # What counts today
//!
//! In a network with certificates the record may have rules, signed by an admin (`rules publish`); tags and names are those that it vouches for.
//! A node may take rules from a file of its own instead (`up --rules`), and only those about `any` and
//! `id:` ([`Rules::parse_by_id`]): a key is proven by the handshake. Since the others may have other rules or none, it lets itself begin
//! anything with anybody ([`Rules::of_node`]). Whoever has the network's secret can come with one key more, so
//! `deny id:…` keeps out who means no harm, and only a text that says who is allowed keeps out everybody else. What `dhcp` lets in
//! passes the switch as well as what the node's own `--allow-dhcp` does, and what `stp` lets in whatever `--filter` says.
//!
//! # For who comes from elsewhere
//!
//! - From *nftables*: no chains and no jumps; `accept` is `allow`, `drop` is `deny`, `reject` is not there. Established traffic needs no rule.
//! - From *Tailscale*: the port stands after the protocol, `tag:server tcp 22` and not `tag:server:22`; there is `deny`, and so order
//!   counts; a port that is open does not open ICMP; TCP is judged like UDP, not let in whenever it is no SYN.
//! - From *Nebula*: there is one text for the network, not one per host and direction.
//!
//! An id may be shortened, as people read it: 10 characters are 50 bits, and who computes 2^50 keys finds another with the same. Where
//! that is worth somebody's while, write more of it.
//!
//! # Life
//!
//! [`Rules::check`] reads a text, with warnings for what is probably not meant; [`Rules::parse`] without. Its `Display` is the canonical
//! form, which reads back as the same rules and is what two nodes compare. [`Policy::new`] boils the rules down to what concerns one
//! pair, and judges packets without allocation. Nothing here fails on any bytes.

mod advice;
mod fault;
mod guess;
mod parse;
mod policy;
mod ranges;
mod scope;
mod selector;
mod statement;
#[cfg(test)]
mod tests;
mod what;
mod words;

pub use advice::{Known, Warning};
pub use fault::{Fault, Wrong};
pub use policy::{Policy, Traffic};
pub use selector::{Rights, Subject};

use crate::ids::NodeId;
use selector::{Selector, Selectors};
use statement::{Action, PlacedSelector, Rule};
use std::fmt;
use what::What;

/// Bytes of a text, and of its canonical form: a thousand rules of an ordinary length, and little enough to send to everybody.
pub const MAX_BYTES: usize = 64 * 1024;
/// Rules of a text: more than people can read, and few enough to be compiled for each peer in no time.
pub const MAX_RULES: usize = 1_000;
/// Faults that are reported of one text: nobody mends more at a time.
const MAX_FAULTS: usize = 100;

/// The rules of a network. By default there are none, which allows everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rules {
    rules: Vec<Rule>,
    bridge: Selectors,
    dhcp: Selectors,
    stp: Selectors,
}

/// Rules that could be read, and what is odd about them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// The rules.
    pub rules: Rules,
    /// In the order of their lines.
    pub warnings: Vec<Warning>,
}

impl Rules {
    /// Reads a text.
    ///
    /// # Errors
    /// Everything that is wrong with it, in the order of lines and columns; at least one.
    pub fn parse(text: &[u8]) -> Result<Self, Vec<Fault>> {
        Ok(Self::from(&parse::read(text)?))
    }

    /// Reads a text for a network without a record, where nothing vouches for tags and names: only `any` and `id:` name anybody.
    ///
    /// # Errors
    /// As [`Self::parse`]; else each tag and name, up to [`MAX_FAULTS`].
    pub fn parse_by_id(text: &[u8]) -> Result<Self, Vec<Fault>> {
        let read = parse::read(text)?;
        let is_by_id = |selector: &Selector| match selector {
            Selector::Any | Selector::Id(_) => true,
            Selector::Tag(_) | Selector::Name(_) => false,
        };
        let unvouched = read.selectors().filter(|(_, selector)| !is_by_id(selector));
        let fault =
            |(place, selector): &PlacedSelector| Fault::new(*place, &selector.to_string(), Wrong::Unvouched);
        let faults: Vec<_> = unvouched.map(fault).take(MAX_FAULTS).collect();
        if faults.is_empty() { Ok(Self::from(&read)) } else { Err(faults) }
    }

    /// These rules as those of `here` alone, which no other node keeps to: what goes out is free, so `here` may begin anything with
    /// anybody, whatever they say. Without this a node could reach nobody whom it does not let in: ARP passes between members that
    /// may exchange anything.
    #[must_use]
    pub fn of_node(mut self, here: &NodeId) -> Self {
        if !self.is_empty() {
            let from_here = Selectors::from_iter([Selector::Id(here.to_base32())]);
            let (destinations, what) = (Selectors::from_iter([Selector::Any]), What::Everything);
            self.rules.insert(0, Rule { action: Action::Allow, sources: from_here, destinations, what });
        }
        self
    }

    /// Reads a text and says what is probably not meant in it. `known` is what the network has, as far as is known.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn check(text: &[u8], known: &Known<'_>) -> Result<Checked, Vec<Fault>> {
        let read = parse::read(text)?;
        let warnings = advice::warnings(&read, known);
        Ok(Checked { rules: Self::from(&read), warnings })
    }

    /// How many rules there are, without `bridge`, `dhcp` and `stp`.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there are none, so that everything is allowed.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether no packet is ever denied, whoever sends it to whom: then nothing has to be judged.
    pub fn is_open(&self) -> bool {
        let everything = self.rules.iter().position(Rule::is_everything);
        let counts = everything.map_or(&self.rules[..], |at| self.rules.get(..=at).unwrap_or_default());
        counts.iter().all(|rule| rule.action == Action::Allow) && (everything.is_some() || counts.is_empty())
    }

    /// Whether they say who may bridge: then nobody else does. Without a word on it everybody may have a LAN behind it.
    pub fn says_who_bridges(&self) -> bool {
        !self.bridge.is_empty()
    }

    /// What `subject` may do that others may not.
    pub fn rights(&self, subject: &Subject) -> Rights {
        let who = subject.named();
        Rights { bridge: self.bridge.names(&who), dhcp: self.dhcp.names(&who), stp: self.stp.names(&who) }
    }
}

/// The canonical form: `bridge`, `dhcp` and `stp` in one line each, then the rules in their order, each list sorted.
impl fmt::Display for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (word, selectors) in [("bridge", &self.bridge), ("dhcp", &self.dhcp), ("stp", &self.stp)] {
            if !selectors.is_empty() {
                writeln!(f, "{word} {selectors}")?;
            }
        }
        self.rules.iter().try_for_each(|rule| writeln!(f, "{rule}"))
    }
}
