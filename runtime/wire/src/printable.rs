//! Texts of others made safe to print: a container writes messages that a person reads in a terminal.

use std::borrow::Cow;

/// `text` with all that a terminal would obey, or that would show it in another order than it has, written out: `\u{1b}`.
pub fn printable(text: &str) -> Cow<'_, str> {
    if is_plain(text) || !text.chars().any(is_obeyed) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        if is_obeyed(char) {
            out.extend(char.escape_unicode());
        } else {
            out.push(char);
        }
    }
    Cow::Owned(out)
}

/// Whether it is printable ASCII throughout, as most texts are: nothing in it is [obeyed](is_obeyed).
pub fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

/// Whether a terminal would do something else with it than show it where it stands: control characters of ASCII (but the tab)
/// and of ECMA-48, line separators, what turns the direction of writing (UAX #9), and marks that have no width and hide in names.
pub fn is_obeyed(char: char) -> bool {
    (char.is_control() && char != '\t')
        || matches!(
            char,
            '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_written_out() {
        assert_eq!(printable("fine\täß\u{5e9}"), "fine\täß\u{5e9}");
        assert_eq!(printable("a\x1b[2Jb\n"), "a\\u{1b}[2Jb\\u{a}");
        assert_eq!(
            printable("ro\u{200b}ot\u{2060}\u{feff}\u{61c}\u{2028}"),
            "ro\\u{200b}ot\\u{2060}\\u{feff}\\u{61c}\\u{2028}"
        );
        assert_eq!(printable("gpj\u{202e}exe.\u{9b}m\u{2066}"), "gpj\\u{202e}exe.\\u{9b}m\\u{2066}");
    }

    #[test]
    fn each_character_that_is_obeyed_is_one_of_the_ranges() {
        let ranges = [
            ('\0', '\u{8}'),
            ('\n', '\u{1f}'),
            ('\u{7f}', '\u{9f}'),
            ('\u{61c}', '\u{61c}'),
            ('\u{200b}', '\u{200f}'),
            ('\u{2028}', '\u{202e}'),
            ('\u{2060}', '\u{206f}'),
            ('\u{feff}', '\u{feff}'),
        ];
        for char in '\0'..=char::MAX {
            let is_in = ranges.iter().any(|(first, last)| (*first..=*last).contains(&char));
            assert_eq!(is_obeyed(char), is_in, "{}", char.escape_unicode());
            assert!(!(is_in && is_plain(&char.to_string())), "{}", char.escape_unicode());
        }
    }
}
