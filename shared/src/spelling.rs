//! Which known word somebody meant.
//!
//! For whatever people type by hand: a word that is refused with the right one beside it costs a second, one that is only
//! refused costs a look into the manual.

/// Characters of a word that are compared; longer ones are no slip of the finger.
const COMPARED: usize = 64;

/// The word of `known` that is like `word`: at most half of it has to be changed, whatever the case of its letters.
pub fn closest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let nearest = known.into_iter().map(|known| (distance(&word, &known.to_lowercase()), known)).min()?;
    (nearest.0 <= nearest.1.chars().count() / 2).then_some(nearest.1)
}

/// How many letters have to be added, left out or changed, or change places with their neighbour (Damerau and Levenshtein), over the
/// first [`COMPARED`] characters.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<_>, Vec<_>) = (a.chars().take(COMPARED).collect(), b.chars().take(COMPARED).collect());
    // Row by row; a row for each beginning of `a`, a column for each of `b`.
    let (mut above, mut row): (Vec<usize>, Vec<usize>) = (Vec::new(), (0..=b.len()).collect());
    let at = |row: &[usize], column: usize| row.get(column).copied().unwrap_or(usize::MAX - 1);
    let mut last_from = None;
    for (i, from) in a.iter().enumerate() {
        let before = std::mem::replace(&mut above, std::mem::replace(&mut row, vec![i + 1]));
        let mut last_to = None;
        for (j, to) in b.iter().enumerate() {
            let changed = at(&above, j) + usize::from(from != to);
            let swapped = match j.checked_sub(1) {
                Some(j) if last_from == Some(to) && last_to == Some(from) => at(&before, j) + 1,
                Some(_) | None => usize::MAX,
            };
            row.push(changed.min(swapped).min(at(&above, j + 1) + 1).min(at(&row, j) + 1));
            last_to = Some(to);
        }
        last_from = Some(from);
    }
    at(&row, b.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_named_unless_none_is_near() {
        let known = ["allow", "deny", "bridge"];
        for (word, meant) in [
            ("alow", Some("allow")),
            ("DENY", Some("deny")),
            ("brigde", Some("bridge")),
            ("dney", Some("deny")),
            ("teapot", None),
            ("", None),
        ] {
            assert_eq!(closest(word, known), meant, "{word}");
        }
        for (a, b, steps) in [
            ("", "", 0),
            ("", "ab", 2),
            ("ab", "", 2),
            ("tga", "tag", 1),
            ("abcd", "badc", 2),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!((distance(a, b), distance(b, a)), (steps, steps), "{a} {b}");
        }
        assert_eq!(closest("allow", []), None);
        assert_eq!(closest(&"a".repeat(1 << 20), known), None);
    }
}
