//! What a user asks for, from words to an event of the machine.

use super::{Request, read_policy};
use crate::machine::Event;
use crate::places::Places;
use crate::record::Line;
use crate::source::open::STANDARD_INPUT;
use crate::source::stick;
use std::ffi::OsString;
use yado_wire::hex;

/// What these words stand for.
///
/// # Errors
/// A sentence that says what is wrong.
pub(crate) fn parse_request(words: &[OsString], places: &Places) -> Result<Request, String> {
    let words: Option<Vec<&str>> = words.iter().map(|word| word.to_str()).collect();
    let words = words.ok_or("an argument is no text")?;
    match words.as_slice() {
        ["install", rest @ ..] => Ok(Request::Do(Event::Asked { source: source_of(rest, places)? })),
        ["check", rest @ ..] => Ok(Request::Check(source_of(rest, places)?)),
        words => wish(words).map(Request::Do),
    }
}

fn wish(words: &[&str]) -> Result<Event, String> {
    match words {
        ["confirm"] => Ok(Event::UserConfirms),
        ["rollback"] => Ok(Event::UserRollsBack),
        ["hold"] => Ok(Event::UserHolds),
        ["unhold"] => Ok(Event::UserReleases),
        ["cancel"] => Ok(Event::UserCancels),
        ["allow", fingerprint] => match hex::parse_digest(fingerprint) {
            Some(release) => Ok(Event::UserAllows { release }),
            None => Err("a release's fingerprint has 64 hexadecimal digits".to_owned()),
        },
        [other, ..] => Err(format!("unknown request \"{}\"", other.escape_default())),
        [] => Err("a request is missing".to_owned()),
    }
}

/// The source that is named, or else the policy's.
fn source_of(rest: &[&str], places: &Places) -> Result<Line, String> {
    match rest {
        [] => match read_policy(places).source {
            Some(text) => source(&text),
            None => Err("no source is named, neither here nor in update.toml".to_owned()),
        },
        [text] => source(text),
        _ => Err("one source, and nothing behind it".to_owned()),
    }
}

/// The source that these words name.
pub(super) fn source(text: &str) -> Result<Line, String> {
    let is_source = [STANDARD_INPUT, stick::ADDRESS].contains(&text)
        || ["/", "http://", "https://"].iter().any(|start| text.starts_with(start));
    match Line::parse(text).filter(|_| is_source) {
        Some(source) => Ok(source),
        None => Err(format!(
            "\"{}\" is no source: http://…, https://…, a directory by its whole path, usb for a stick, or - for standard input",
            text.escape_default()
        )),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parsed(words: &[&str]) -> Result<Request, String> {
        let none = std::path::PathBuf::from("/nonexistent");
        let places = Places { system: none.clone(), data: none.clone(), run: none, state: None };
        parse_request(&words.iter().map(OsString::from).collect::<Vec<_>>(), &places)
    }

    #[test]
    fn what_is_wanted_is_understood_or_refused_with_a_reason() {
        for text in ["http://10.0.2.2:8080/release-2/", "https://x/", "/media/stick", "-", "usb"] {
            let source = Line::parse(text).unwrap();
            assert_eq!(parsed(&["install", text]), Ok(Request::Do(Event::Asked { source: source.clone() })));
            assert_eq!(parsed(&["check", text]), Ok(Request::Check(source)));
        }
        assert_eq!(parsed(&["rollback"]), Ok(Request::Do(Event::UserRollsBack)));
        let refused: &[&[&str]] = &[
            &[],
            &["install"],
            &["install", ""],
            &["install", "release-2"],
            &["install", "ftp://x/"],
            &["install", "/a\nb"],
            &["remove"],
            &["confirm", "2"],
            &["allow", "ab"],
        ];
        for words in refused {
            assert!(parsed(words).is_err(), "{words:?}");
        }
    }
}
