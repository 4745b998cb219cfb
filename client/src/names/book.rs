//! Who has which name: a pure decision on what is known of everybody.
//!
//! One label is one node's. Of several that are called alike, who is vouched for best has it, and of equals the one with the lowest id; the
//! others get a number, as `status` shows them. So where the network has certificates, nobody takes the name of a member that the
//! record names, whatever an invite lets it call itself; where it has none, names are what members say, and prove nothing.

use super::label::Label;
use shadowmesh_proto::ids::NodeId;
use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;

/// Most members that have a name. A network of a few hundred is large; a line for each in a file that programs read from top to
/// bottom for every name is slow long before this.
pub const MAX_NAMES: usize = 1024;
/// Most names that are told of as left out.
pub const MAX_LEFT_OUT: usize = 16;

/// Who says what somebody is called; best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Voucher {
    /// An admin, in the network's record.
    Record,
    /// Its certificate.
    Certificate,
    /// It alone.
    Itself,
}

/// Somebody who may get a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Who.
    pub id: NodeId,
    /// What it is called.
    pub name: String,
    /// Who says so.
    pub voucher: Voucher,
    /// Its addresses, best first.
    pub addresses: Vec<IpAddr>,
}

/// A member's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Whose it is.
    pub id: NodeId,
    /// The label.
    pub label: Label,
    /// Its first IPv4 address and its first IPv6 address.
    pub addresses: Vec<IpAddr>,
}

/// A name that nobody gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// What somebody is called.
    pub name: String,
    /// Why that is no name here; goes on after it.
    pub why: String,
}

/// All names of a network, in the order of their labels.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Book {
    /// The names.
    pub entries: Vec<Entry>,
    /// Of those without one at most [`MAX_LEFT_OUT`].
    pub left_out: Vec<LeftOut>,
    /// How many there are without one.
    pub left_out_count: usize,
}

impl Book {
    /// Gives names. The order of `candidates` does not matter.
    pub fn new(candidates: &[Candidate]) -> Self {
        let mut book = Self::default();
        let mut fit: Vec<(Label, &Candidate)> = Vec::new();
        for candidate in candidates.iter().filter(|candidate| !candidate.addresses.is_empty()) {
            match Label::of_member(&candidate.name) {
                Ok(label) => fit.push((label, candidate)),
                Err(unfit) => book.leave_out(&candidate.name, unfit.to_string()),
            }
        }
        fit.sort_by_key(|(_, candidate)| (candidate.voucher, candidate.id));
        let own: HashSet<Label> = fit.iter().map(|(label, _)| label.clone()).collect();
        let mut taken: BTreeSet<Label> = BTreeSet::new();
        for (label, candidate) in fit {
            if book.entries.len() >= MAX_NAMES {
                book.leave_out(&candidate.name, format!("is one more than the {MAX_NAMES} that get a name"));
                continue;
            }
            let mut unique = label.clone();
            let mut number = 2;
            // A number that makes another's own name is passed over.
            while taken.contains(&unique) || (number > 2 && own.contains(&unique)) {
                unique = label.numbered(number);
                number += 1;
            }
            taken.insert(unique.clone());
            let first = |is_it: fn(&IpAddr) -> bool| candidate.addresses.iter().copied().find(is_it);
            let addresses = first(IpAddr::is_ipv4).into_iter().chain(first(IpAddr::is_ipv6)).collect();
            book.entries.push(Entry { id: candidate.id, label: unique, addresses });
        }
        book.entries.sort_by(|a, b| a.label.cmp(&b.label));
        book
    }

    /// Notes that somebody has no name.
    pub fn leave_out(&mut self, name: &str, why: String) {
        self.left_out_count += 1;
        if self.left_out.len() < MAX_LEFT_OUT {
            self.left_out.push(LeftOut { name: name.chars().take(63).collect(), why });
        }
    }

    /// The addresses behind a label.
    pub fn find(&self, label: &Label) -> Option<&[IpAddr]> {
        let at = self.entries.binary_search_by(|entry| entry.label.cmp(label)).ok()?;
        self.entries.get(at).map(|entry| entry.addresses.as_slice())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn candidate(id: u8, name: &str, voucher: Voucher) -> Candidate {
        let addresses = vec![IpAddr::from([10, 7, 0, id])];
        Candidate { id: NodeId([id; 32]), name: name.into(), voucher, addresses }
    }

    fn names(book: &Book) -> Vec<(String, u8)> {
        let last = |entry: &Entry| match entry.addresses[0] {
            IpAddr::V4(address) => address.octets()[3],
            IpAddr::V6(_) => panic!("none here"),
        };
        book.entries.iter().map(|entry| (entry.label.to_string(), last(entry))).collect()
    }

    #[test]
    fn nobody_takes_a_name_from_whom_the_record_names() {
        let all = [
            candidate(1, "b", Voucher::Certificate),
            candidate(2, "B", Voucher::Record),
            candidate(3, "b", Voucher::Itself),
            candidate(0, "b-2", Voucher::Itself),
        ];
        let book = Book::new(&all);
        // Number 2 is another's own name.
        let expected = [("b", 2), ("b-2", 0), ("b-3", 1), ("b-4", 3)];
        assert_eq!(names(&book), expected.map(|(name, id)| (name.to_owned(), id)));
    }

    #[test]
    fn what_is_no_name_is_left_out_and_said() {
        let mut all = vec![candidate(1, "b", Voucher::Itself), candidate(2, "github.com", Voucher::Itself)];
        // Who has no address has no name, and is not worth a word.
        all.push(Candidate { addresses: vec![], ..candidate(3, "c", Voucher::Itself) });
        all.extend((10..30).map(|id| candidate(id, "wpad", Voucher::Itself)));
        let book = Book::new(&all);
        assert_eq!(names(&book), [("b".to_owned(), 1)]);
        assert_eq!((book.left_out.len(), book.left_out_count), (MAX_LEFT_OUT, 21));
        assert_eq!(book.left_out[0].name, "github.com");
        assert_eq!(book.find(&Label::new("b").expect("a label")), Some(&[IpAddr::from([10, 7, 0, 1])][..]));
        assert_eq!(book.find(&Label::new("c").expect("a label")), None);
    }

    #[test]
    fn there_is_an_end() {
        let many = (0..MAX_NAMES as u32 + 5).map(|n| Candidate {
            id: NodeId(std::array::from_fn(|at| n.to_be_bytes()[at % 4])),
            ..candidate(1, &format!("n{n}"), Voucher::Itself)
        });
        let book = Book::new(&many.collect::<Vec<_>>());
        assert_eq!((book.entries.len(), book.left_out_count), (MAX_NAMES, 5));
    }

    #[test]
    fn one_address_of_each_family() {
        let addresses = ["10.7.0.1", "fd00::1", "10.7.0.2", "fd00::2"].map(|text| text.parse().expect("one"));
        let one = Candidate { addresses: addresses.to_vec(), ..candidate(1, "b", Voucher::Itself) };
        assert_eq!(Book::new(&[one]).entries[0].addresses, addresses[..2]);
    }

    proptest! {
        #[test]
        fn names_are_unique_and_the_order_does_not_matter(
            all in proptest::collection::btree_map(any::<u8>(), ("[aAbB](-[23])?|wpad|1", 0..3usize), 0..12)
        ) {
            let vouchers = [Voucher::Record, Voucher::Certificate, Voucher::Itself];
            let all: Vec<Candidate> =
                all.iter().map(|(id, (name, voucher))| candidate(*id, name, vouchers[*voucher])).collect();
            let book = Book::new(&all);
            let labels: HashSet<&Label> = book.entries.iter().map(|entry| &entry.label).collect();
            prop_assert_eq!(labels.len(), book.entries.len());
            prop_assert_eq!(book.entries.len() + book.left_out_count, all.len());
            let reversed: Vec<Candidate> = all.into_iter().rev().collect();
            prop_assert_eq!(names(&Book::new(&reversed)), names(&book));
        }
    }
}
