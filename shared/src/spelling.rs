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

/// Levenshtein distance, over the first [`COMPARED`] characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(COMPARED).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().take(COMPARED).enumerate() {
        let mut next = vec![i + 1];
        let mut left = i + 1;
        for (to, pair) in b.iter().zip(row.windows(2)) {
            let (diagonal, above) = match pair {
                [diagonal, above] => (*diagonal, *above),
                _ => continue,
            };
            left = (diagonal + usize::from(from != *to)).min(above + 1).min(left + 1);
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
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
            ("teapot", None),
            ("", None),
        ] {
            assert_eq!(closest(word, known), meant, "{word}");
        }
        assert_eq!(closest("allow", []), None);
        assert_eq!(closest(&"a".repeat(1 << 20), known), None);
    }
}
