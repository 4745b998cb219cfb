//! Lines of a text, and the words of a line.

/// A piece of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token<'a> {
    Word(&'a str),
    Comma,
    Arrow,
}

impl<'a> Token<'a> {
    /// As it is written.
    pub(super) const fn text(self) -> &'a str {
        match self {
            Self::Word(word) => word,
            Self::Comma => ",",
            Self::Arrow => "->",
        }
    }
}

/// The tokens of a line without its comment, each with its column, and the column behind the last.
pub(super) fn tokens(line: &str) -> (Vec<(usize, Token<'_>)>, usize) {
    let mut rest = line.split('#').next().unwrap_or_default();
    let (mut column, mut tokens, mut end) = (1, Vec::new(), 1);
    loop {
        let begun = rest.trim_start_matches([' ', '\t']);
        column += rest.len() - begun.len();
        let Some((token, len)) = first(begun) else { return (tokens, end) };
        tokens.push((column, token));
        column += token.text().chars().count();
        end = column;
        rest = begun.get(len..).unwrap_or_default();
    }
}

/// The token at the front, and its length in bytes.
fn first(text: &str) -> Option<(Token<'_>, usize)> {
    if text.starts_with("->") {
        return Some((Token::Arrow, 2));
    }
    if text.starts_with(',') {
        return Some((Token::Comma, 1));
    }
    let len =
        [text.find([' ', '\t', ',']), text.find("->")].into_iter().flatten().min().unwrap_or(text.len());
    let word = text.get(..len).filter(|word| !word.is_empty())?;
    Some((Token::Word(word), len))
}

/// The first character of a line that does not show what it does, with its column. Control characters (but the tab) end or hide
/// lines in some editors; the others turn the direction of writing (CVE-2021-42574) or end lines.
pub(super) fn hidden(line: &str) -> Option<(usize, char)> {
    let is_hidden = |c: char| {
        (c.is_control() && c != '\t')
            || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    line.chars().enumerate().find(|(_, c)| is_hidden(*c)).map(|(at, c)| (at + 1, c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_have_columns_and_need_no_blanks_around_signs() {
        use Token::{Arrow, Comma, Word};
        let (found, end) = tokens("\tallow a,b->c-,  d -->e # any, -> x");
        let expected = [
            (2, Word("allow")),
            (8, Word("a")),
            (9, Comma),
            (10, Word("b")),
            (11, Arrow),
            (13, Word("c-")),
            (15, Comma),
            (18, Word("d")),
            (20, Word("-")),
            (21, Arrow),
            (23, Word("e")),
        ];
        assert_eq!((found.as_slice(), end), (&expected[..], 24));
        assert_eq!(tokens("  # nothing"), (vec![], 1));
        assert_eq!(tokens("ä ö"), (vec![(1, Word("ä")), (3, Word("ö"))], 4), "columns are characters");
    }

    #[test]
    fn what_hides_is_found() {
        assert_eq!(hidden("allow any -> any\t# \u{e4}\u{6f22}"), None);
        assert_eq!(hidden("# a\rallow"), Some((4, '\r')));
        assert_eq!(hidden("\u{202e}"), Some((1, '\u{202e}')));
        assert_eq!(hidden("ab\u{85}"), Some((3, '\u{85}')));
    }
}
