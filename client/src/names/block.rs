//! The block of a node in a hosts file, as text.
//!
//! ```text
//! # shadowmesh begin NODE office.internal (made by its daemon, taken out when that ends: change nothing here)
//! 10.7.3.4        b.office.internal b
//! # shadowmesh end NODE
//! ```
//!
//! A new block goes behind all else, since programs take the first line that fits: what this host says itself goes before what a member
//! calls itself. Where the last line has no end it goes before all else: put behind, it would have to end that line, which
//! is not its own, and nobody could tell afterwards.
//!
//! Invariants: taking out what was put in leaves every file as it was, and nothing but the node's own block is ever changed,
//! byte for byte. A block that is not as it was made (no end, no begin, another's line of a block inside) is not touched: [`Damaged`].

use super::book::Book;
use super::label::{Label, TOP};
use std::collections::HashSet;
use std::fmt::Write as _;
use std::ops::Range;

const BEGIN: &[u8] = b"# shadowmesh begin ";
const END: &[u8] = b"# shadowmesh end ";
const ADVICE: &str = "(made by its daemon, taken out when that ends: change nothing here)";

/// The lines of a node's block do not fit each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "line {line} is of a block that is not whole: take out what belongs to it by hand, from its begin to its end"
)]
pub struct Damaged {
    /// The line that does not fit, from 1 on.
    pub line: usize,
}

/// Which line of a block something is.
#[derive(Debug, PartialEq, Eq)]
enum Line<'a> {
    Begin(&'a [u8]),
    End(&'a [u8]),
    Other,
}

fn read(line: &[u8]) -> Line<'_> {
    // An editor may have given it the ends of lines of its own.
    let line = line.trim_ascii_end();
    let owner = |rest: &'_ [u8]| rest.iter().position(|byte| *byte == b' ').unwrap_or(rest.len());
    if let Some(rest) = line.strip_prefix(BEGIN) {
        return Line::Begin(rest.get(..owner(rest)).unwrap_or_default());
    }
    if let Some(rest) = line.strip_prefix(END) {
        return Line::End(rest.get(..owner(rest)).unwrap_or_default());
    }
    Line::Other
}

/// Every line with its place, its end included.
fn lines(file: &[u8]) -> impl Iterator<Item = (Range<usize>, &[u8])> {
    file.split_inclusive(|byte| *byte == b'\n').scan(0, |at, line| {
        let from = *at;
        *at += line.len();
        Some((from..*at, line))
    })
}

/// Where the blocks of `node` are: one, unless somebody copied it.
fn blocks(file: &[u8], node: &str) -> Result<Vec<Range<usize>>, Damaged> {
    let node = node.as_bytes();
    let mut blocks = Vec::new();
    let mut open: Option<(usize, usize)> = None;
    for ((place, text), line) in lines(file).zip(1..) {
        match (read(text), open) {
            (Line::Begin(owner), None) if owner == node => open = Some((place.start, line)),
            (Line::End(owner), Some((from, _))) if owner == node => {
                blocks.push(from..place.end);
                open = None;
            }
            (Line::End(owner), None) if owner == node => return Err(Damaged { line }),
            (Line::Begin(_) | Line::End(_), Some(_)) => return Err(Damaged { line }),
            (Line::Begin(_) | Line::End(_), None) | (Line::Other, _) => {}
        }
    }
    match open {
        Some((_, line)) => Err(Damaged { line }),
        None => Ok(blocks),
    }
}

/// The file with `block` as the only one of `node`, or without any.
///
/// # Errors
/// [`Damaged`].
pub fn edit(file: &[u8], node: &str, block: Option<&str>) -> Result<Vec<u8>, Damaged> {
    let there = blocks(file, node)?;
    let block = block.unwrap_or_default().as_bytes();
    let mut edited = Vec::with_capacity(file.len() + block.len());
    let Some(first) = there.first() else {
        let is_ended = file.last().is_none_or(|byte| *byte == b'\n');
        let (before, after) = if is_ended { (file, block) } else { (block, file) };
        edited.extend_from_slice(before);
        edited.extend_from_slice(after);
        return Ok(edited);
    };
    let mut at = 0;
    for place in &there {
        edited.extend_from_slice(file.get(at..place.start).unwrap_or_default());
        if place == first {
            edited.extend_from_slice(block);
        }
        at = place.end;
    }
    edited.extend_from_slice(file.get(at..).unwrap_or_default());
    Ok(edited)
}

/// The names that the file gives without the block of `node`, in lower case: this host's own, and those of other networks.
///
/// # Errors
/// [`Damaged`].
pub fn names_beside(file: &[u8], node: &str) -> Result<HashSet<String>, Damaged> {
    let rest = edit(file, node, None)?;
    let mut names = HashSet::new();
    for (_, line) in lines(&rest) {
        let line = line.split(|byte| *byte == b'#').next().unwrap_or_default();
        let line = String::from_utf8_lossy(line);
        names.extend(line.split_whitespace().skip(1).map(str::to_ascii_lowercase));
    }
    Ok(names)
}

/// The block of `node` with the names of `book`, but for those in `beside`, which are somebody else's here: whose short name
/// is among them has its long one, whose long name is has none. Whoever is left out is noted in the book.
pub fn render(node: &str, network: &Label, book: &mut Book, beside: &HashSet<String>) -> String {
    let mut text = format!("# shadowmesh begin {node} {network}.{TOP} {ADVICE}\n");
    for entry in std::mem::take(&mut book.entries) {
        let long = format!("{}.{network}.{TOP}", entry.label);
        if beside.contains(&long) {
            book.leave_out(entry.label.as_str(), format!("has {long} already in the hosts file"));
            continue;
        }
        let is_taken = beside.contains(entry.label.as_str());
        // That this node is called as its host is no news.
        if is_taken && entry.id.to_base32() != node {
            let why = format!("is this host's own name for something: only {long} is the member");
            book.leave_out(entry.label.as_str(), why);
        }
        let short = if is_taken { String::new() } else { format!(" {}", entry.label) };
        for address in &entry.addresses {
            // Writing to a String does not fail.
            let _ = writeln!(text, "{address}\t{long}{short}");
        }
        book.entries.push(entry);
    }
    let _ = writeln!(text, "# shadowmesh end {node}");
    text
}

#[cfg(test)]
mod tests {
    use super::super::book::{Candidate, Voucher};
    use super::*;
    use proptest::prelude::*;
    use shadowmesh_proto::ids::NodeId;
    use std::net::IpAddr;

    fn office() -> Label {
        Label::new("office").expect("a label")
    }

    fn book(names: &[&str]) -> Book {
        let candidates: Vec<Candidate> = (1..)
            .zip(names)
            .map(|(id, name)| Candidate {
                id: NodeId([id; 32]),
                name: (*name).into(),
                voucher: Voucher::Itself,
                addresses: vec![IpAddr::from([10, 7, 0, id]), "fd00::1".parse().expect("an address")],
            })
            .collect();
        Book::new(&candidates)
    }

    fn block(node: &str, names: &[&str]) -> String {
        render(node, &office(), &mut book(names), &HashSet::new())
    }

    #[test]
    fn a_block_goes_behind_what_the_host_says_itself() {
        let file = b"127.0.0.1 localhost\n";
        let edited = edit(file, "me", Some(&block("me", &["b"]))).expect("whole");
        let text = String::from_utf8(edited).expect("text");
        assert_eq!(
            text,
            format!(
                "127.0.0.1 localhost\n# shadowmesh begin me office.internal {ADVICE}\n\
                 10.7.0.1\tb.office.internal b\nfd00::1\tb.office.internal b\n# shadowmesh end me\n"
            )
        );
    }

    #[test]
    fn names_that_the_host_has_itself_stay_its_own() {
        let file = b"127.0.0.1 localhost\r\n10.0.0.1\tNAS nas.lan # c\n10.0.0.2 d.office.internal";
        let beside = names_beside(file, "me").expect("whole");
        assert!(beside.contains("nas") && beside.contains("nas.lan") && !beside.contains("c"), "{beside:?}");
        let mut book = book(&["b", "c", "d", "nas"]);
        let text = render("me", &office(), &mut book, &beside);
        assert!(text.contains("10.7.0.1\tb.office.internal b\n") && text.contains("c.office.internal c\n"));
        assert!(text.contains("10.7.0.4\tnas.office.internal\n"), "{text}");
        assert!(!text.contains("10.7.0.3"), "{text}");
        assert_eq!((book.entries.len(), book.left_out_count), (3, 2));
        // Where this node's own block is in it, its names are not the host's.
        let with = edit(file, "me", Some(&text)).expect("whole");
        assert_eq!(names_beside(&with, "me"), Ok(beside));
    }

    #[test]
    fn a_block_that_is_not_whole_is_left_alone() {
        let whole = block("me", &["b"]);
        let other = block("you", &["c"]);
        let (begin, rest) = whole.split_once('\n').expect("lines");
        let end = "# shadowmesh end me\n";
        for (file, line) in [
            (format!("x\n{begin}\n10.0.0.1 a\n"), 2),
            (format!("{end}x\n"), 1),
            (format!("{begin}\n{whole}"), 2),
            (format!("{begin}\n{other}{end}"), 2),
            (format!("{whole}{begin}"), 5),
            (format!("{begin}\n# shadowmesh end you\n{rest}"), 2),
        ] {
            assert_eq!(edit(file.as_bytes(), "me", None), Err(Damaged { line }), "{file}");
            assert_eq!(edit(file.as_bytes(), "me", Some(&whole)), Err(Damaged { line }), "{file}");
        }
        // Another's that is not whole is another's business.
        let file = format!("# shadowmesh begin you x\n{whole}");
        assert_eq!(edit(file.as_bytes(), "me", None).expect("ours is"), b"# shadowmesh begin you x\n");
    }

    #[test]
    fn a_copied_block_and_other_ends_of_lines_are_known() {
        let whole = block("me", &["b"]);
        let file = format!("a\r\n{}b\n{whole}c", whole.replace('\n', "\r\n"));
        assert_eq!(edit(file.as_bytes(), "me", None).expect("whole"), b"a\r\nb\nc");
        let again = edit(file.as_bytes(), "me", Some(&whole)).expect("whole");
        assert_eq!(String::from_utf8(again).expect("text"), format!("a\r\n{whole}b\nc"));
    }

    /// Lines of any bytes, and now and then one of a block of somebody.
    fn file() -> impl Strategy<Value = Vec<u8>> {
        let line = prop_oneof![
            4 => proptest::collection::vec(any::<u8>(), 0..30),
            2 => Just(b"127.0.0.1 localhost\r\n".to_vec()),
            2 => Just(b"\n".to_vec()),
            1 => Just(block("you", &["c", "d"]).into_bytes()),
            1 => Just(b"# shadowmesh begin you x\n".to_vec()),
            1 => Just(b"# shadowmesh end you\n".to_vec()),
        ];
        proptest::collection::vec(line, 0..12).prop_map(|lines| lines.concat())
    }

    proptest! {
        #[test]
        fn putting_in_and_taking_out_leaves_any_file_as_it_was(
            file in file(), first in "[a-z]{1,5}", second in "[a-z]{1,5}"
        ) {
            let put = edit(&file, "me", Some(&block("me", &[&first]))).unwrap();
            let again = edit(&put, "me", Some(&block("me", &[&first, &second]))).unwrap();
            prop_assert_eq!(edit(&put, "me", None).unwrap(), file.clone());
            prop_assert_eq!(edit(&again, "me", None).unwrap(), file);
        }

        #[test]
        fn what_is_outside_stays_whatever_happens_around_it(before in file(), after in file()) {
            let (mine, other) = (block("me", &["b"]), block("me", &["c", "d"]));
            let mut file = before.clone();
            // A block begins a line.
            if file.last().is_some_and(|byte| *byte != b'\n') {
                file.push(b'\n');
            }
            let head = file.len();
            file.extend_from_slice(mine.as_bytes());
            file.extend_from_slice(&after);
            let edited = edit(&file, "me", Some(&other)).unwrap();
            prop_assert_eq!(&edited[..head], &file[..head]);
            prop_assert_eq!(&edited[head..head + other.len()], other.as_bytes());
            prop_assert_eq!(&edited[head + other.len()..], &after[..]);
        }

        #[test]
        fn two_nodes_do_not_touch_each_others(file in file()) {
            let before = names_beside(&file, "you");
            let (mine, yours) = (block("me", &["b"]), block("him", &["c"]));
            let both = edit(&edit(&file, "me", Some(&mine)).unwrap(), "him", Some(&yours)).unwrap();
            // In whichever order they go.
            let one = edit(&edit(&both, "me", None).unwrap(), "him", None).unwrap();
            let two = edit(&edit(&both, "him", None).unwrap(), "me", None).unwrap();
            prop_assert_eq!(&one, &file);
            prop_assert_eq!(&two, &file);
            prop_assert_eq!(names_beside(&one, "you"), before);
        }
    }
}
