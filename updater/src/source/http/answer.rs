//! What a server's status and headers mean for the range that was asked for. Pure: headers in, a verdict out.

use hyper::StatusCode;
use hyper::header::{
    CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, HeaderName, LAST_MODIFIED, LOCATION,
    RETRY_AFTER, TRANSFER_ENCODING,
};
use std::ops::Range;
use std::time::Duration;

/// What is known of a file from answers before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Known {
    /// For `If-Range`: a strong entity tag, or a date.
    pub(crate) validator: Option<String>,
    /// Its length.
    pub(crate) bytes: Option<u64>,
}

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The body comes.
    Body(Body),
    /// The file is elsewhere.
    Moved { location: String },
    /// There is no such file.
    Missing,
    /// The file ends before the range begins.
    Ends { bytes: u64 },
    /// The file is another one than it was.
    Changed,
    /// Trying again helps perhaps, not before this time.
    Later { reason: String, after: Option<Duration> },
    /// Trying again does not help.
    Refused { reason: String },
}

/// A body that comes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Body {
    /// Whether the server gave what was asked for; else it gives all from the first byte.
    pub(crate) is_range: bool,
    /// So many bytes come before the range.
    pub(crate) skip: u64,
    /// So many come, if that is known.
    pub(crate) bytes: Option<u64>,
    /// What is known of the file from now on.
    pub(crate) known: Known,
}

/// A server may ask for more patience than anybody has.
const MAX_AFTER: Duration = Duration::from_secs(300);
/// Longer ones are not sent back: they only take memory.
const MAX_VALIDATOR_BYTES: usize = 256;

/// Judges the head of an answer.
pub(crate) fn judge(status: StatusCode, headers: &HeaderMap, asked: &Range<u64>, known: &Known) -> Answer {
    let refused =
        |reason: &str| Answer::Refused { reason: format!("the server answered {}{reason}", status.as_u16()) };
    match status.as_u16() {
        200 => whole(headers, asked, known),
        206 => part(headers, asked, known),
        301 | 302 | 303 | 307 | 308 => match text(headers, LOCATION) {
            Some(location) => Answer::Moved { location: location.to_owned() },
            None => refused(" and did not say where to"),
        },
        404 | 410 => Answer::Missing,
        416 => match text(headers, CONTENT_RANGE).and_then(|range| range.strip_prefix("bytes */")).and_then(number) {
            Some(bytes) if bytes <= asked.start => match known.bytes {
                Some(before) if before != bytes => Answer::Changed,
                Some(_) | None => Answer::Ends { bytes },
            },
            Some(_) | None => refused(": it does not give the range that was asked for"),
        },
        408 | 425 | 429 | 500..=599 => Answer::Later {
            reason: format!("the server answered {}", status.as_u16()),
            after: text(headers, RETRY_AFTER)
                .and_then(number)
                .map(Duration::from_secs)
                .map(|after| after.min(MAX_AFTER)),
        },
        401 | 403 => refused(": it does not let us"),
        407 => refused(": the proxy wants a name and a password"),
        _ => refused(""),
    }
}

fn whole(headers: &HeaderMap, asked: &Range<u64>, known: &Known) -> Answer {
    if let Some(reason) = encoded(headers) {
        return Answer::Refused { reason };
    }
    let bytes = text(headers, CONTENT_LENGTH).and_then(number);
    if bytes.is_none() && !headers.contains_key(TRANSFER_ENCODING) {
        return Answer::Refused { reason: "the server does not say how much it sends".to_owned() };
    }
    let now = Known { validator: validator(headers), bytes };
    if is_other(known, &now) {
        return Answer::Changed;
    }
    match bytes {
        Some(bytes) if bytes <= asked.start && asked.start < asked.end => Answer::Ends { bytes },
        _ => Answer::Body(Body { is_range: false, skip: asked.start, bytes, known: now }),
    }
}

fn part(headers: &HeaderMap, asked: &Range<u64>, known: &Known) -> Answer {
    if let Some(reason) = encoded(headers) {
        return Answer::Refused { reason };
    }
    let wrong = || Answer::Refused {
        reason: format!(
            "the server was asked for bytes {}-{}, and gives {}",
            asked.start,
            asked.end.saturating_sub(1),
            text(headers, CONTENT_RANGE).unwrap_or("it does not say which")
        ),
    };
    let Some((given, of)) = text(headers, CONTENT_RANGE).and_then(content_range) else { return wrong() };
    // It may be less than was asked for: the file ends.
    let is_short = given.end < asked.end && of != Some(given.end);
    if given.start != asked.start || asked.end < given.end || is_short {
        return wrong();
    }
    let bytes = given.end.saturating_sub(given.start);
    if text(headers, CONTENT_LENGTH).is_some_and(|length| number(length) != Some(bytes)) {
        return wrong();
    }
    let now = Known { validator: validator(headers), bytes: of };
    if is_other(known, &now) {
        return Answer::Changed;
    }
    Answer::Body(Body { is_range: true, skip: 0, bytes: Some(bytes), known: now })
}

/// What both answers tell must be the same.
fn is_other(before: &Known, now: &Known) -> bool {
    let differ = |before: bool, same: bool| before && !same;
    differ(before.validator.is_some() && now.validator.is_some(), before.validator == now.validator)
        || differ(before.bytes.is_some() && now.bytes.is_some(), before.bytes == now.bytes)
}

/// A weak tag says nothing of the bytes (RFC 9110, 13.1.5).
fn validator(headers: &HeaderMap) -> Option<String> {
    let tag = text(headers, ETAG).filter(|tag| tag.starts_with('"'));
    let validator = tag.or_else(|| text(headers, LAST_MODIFIED))?;
    (validator.len() <= MAX_VALIDATOR_BYTES).then(|| validator.to_owned())
}

fn encoded(headers: &HeaderMap) -> Option<String> {
    let encoding = text(headers, CONTENT_ENCODING).filter(|encoding| !encoding.eq_ignore_ascii_case("identity"))?;
    let encoding: String = encoding.chars().take(32).collect();
    Some(format!("the server sends it encoded ({encoding}), which it was asked not to"))
}

/// `bytes A-B/C` as A..B+1 and C, which may be `*`.
fn content_range(text: &str) -> Option<(Range<u64>, Option<u64>)> {
    let (range, of) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, end) = (number(first)?, number(last)?.checked_add(1)?);
    let of = if of == "*" { None } else { Some(number(of)?) };
    (first < end && of.is_none_or(|of| end <= of)).then_some((first..end, of))
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

/// `from_str` would take a sign.
fn number(digits: &str) -> Option<u64> {
    let is_plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if is_plain { digits.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use hyper::header::HeaderValue;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        };
        pairs.iter().map(pair).collect()
    }

    fn answer(status: u16, pairs: &[(&'static str, &str)], asked: Range<u64>) -> Answer {
        judge(StatusCode::from_u16(status).unwrap(), &headers(pairs), &asked, &Known::default())
    }

    fn body(is_range: bool, skip: u64, bytes: Option<u64>, of: Option<u64>) -> Answer {
        Answer::Body(Body { is_range, skip, bytes, known: Known { validator: None, bytes: of } })
    }

    #[test]
    fn a_range_is_taken_only_as_it_was_asked_for() {
        let part = |range: &str| answer(206, &[("content-range", range)], 100..200);
        assert_eq!(part("bytes 100-199/1000"), body(true, 0, Some(100), Some(1000)));
        assert_eq!(part("bytes 100-199/*"), body(true, 0, Some(100), None));
        assert_eq!(part("bytes 100-149/150"), body(true, 0, Some(50), Some(150)), "the file ends");
        for wrong in [
            "bytes 0-99/1000",
            "bytes 101-199/1000",
            "bytes 100-200/1000",
            "bytes 100-149/1000",
            "bytes 100-149/*",
            "bytes 100-199/150",
            "bytes 199-100/1000",
            "bytes +100-199/1000",
            "bytes 100-18446744073709551615/*",
            "bytes */1000",
            "items 100-199/1000",
            "",
        ] {
            assert!(matches!(part(wrong), Answer::Refused { .. }), "{wrong}");
        }
        let lengths = [("content-range", "bytes 100-199/1000"), ("content-length", "101")];
        assert!(matches!(answer(206, &lengths, 100..200), Answer::Refused { .. }));
    }

    #[test]
    fn a_server_without_ranges_gives_all_from_the_first_byte() {
        assert_eq!(answer(200, &[("content-length", "1000")], 100..200), body(false, 100, Some(1000), Some(1000)));
        assert_eq!(answer(200, &[("transfer-encoding", "chunked")], 0..200), body(false, 0, None, None));
        assert!(matches!(answer(200, &[], 0..200), Answer::Refused { .. }));
        assert_eq!(answer(200, &[("content-length", "100")], 100..200), Answer::Ends { bytes: 100 });
        let packed = [("content-length", "100"), ("content-encoding", "gzip")];
        assert!(matches!(answer(200, &packed, 0..200), Answer::Refused { .. }));
        // More than there can be is a number that is not read, not one that wraps.
        assert!(matches!(answer(200, &[("content-length", "18446744073709551616")], 0..1), Answer::Refused { .. }));
    }

    #[test]
    fn a_file_that_changes_between_two_answers_is_noticed() {
        let known = Known { validator: Some("\"a\"".to_owned()), bytes: Some(1000) };
        let again = |status, pairs: &[(&'static str, &str)]| {
            judge(StatusCode::from_u16(status).unwrap(), &headers(pairs), &(100..200), &known)
        };
        let range = ("content-range", "bytes 100-199/1000");
        assert!(matches!(again(206, &[range, ("etag", "\"a\"")]), Answer::Body(_)));
        assert_eq!(again(206, &[range, ("etag", "\"b\"")]), Answer::Changed);
        assert_eq!(again(206, &[("content-range", "bytes 100-199/1001")]), Answer::Changed);
        assert_eq!(again(200, &[("content-length", "1000"), ("etag", "\"b\"")]), Answer::Changed);
        assert_eq!(again(200, &[("content-length", "1001")]), Answer::Changed);
        assert_eq!(again(416, &[("content-range", "bytes */50")]), Answer::Changed);
        let weak = [("content-length", "5"), ("etag", "W/\"a\""), ("last-modified", "Mon")];
        let Answer::Body(Body { known, .. }) = answer(200, &weak, 0..5) else { panic!("no body") };
        assert_eq!(known.validator.as_deref(), Some("Mon"));
    }

    #[test]
    fn each_status_has_its_consequence() {
        assert_eq!(answer(302, &[("location", "/x")], 0..1), Answer::Moved { location: "/x".to_owned() });
        assert!(matches!(answer(302, &[], 0..1), Answer::Refused { .. }));
        assert_eq!(answer(404, &[], 0..1), Answer::Missing);
        assert_eq!(answer(416, &[("content-range", "bytes */50")], 100..200), Answer::Ends { bytes: 50 });
        assert!(matches!(answer(416, &[("content-range", "bytes */500")], 100..200), Answer::Refused { .. }));
        let later = |pairs: &[(&'static str, &str)]| match answer(503, pairs, 0..1) {
            Answer::Later { after, .. } => after,
            other => panic!("{other:?}"),
        };
        assert_eq!(later(&[]), None);
        assert_eq!(later(&[("retry-after", "7")]), Some(Duration::from_secs(7)));
        assert_eq!(later(&[("retry-after", "99999999999")]), Some(MAX_AFTER));
        for status in [204, 304, 400, 401, 403, 407, 451] {
            assert!(matches!(answer(status, &[], 0..1), Answer::Refused { .. }), "{status}");
        }
    }

    /// Two bytes of status, and headers as they stand on the wire.
    #[test]
    fn heads_of_any_bytes_promise_no_byte_that_was_not_asked_for() {
        let seeds = [
            b"206content-range: bytes 100-199/1000\ncontent-length: 100\netag: \"a\"".to_vec(),
            b"200content-length: 1000\nlast-modified: Mon".to_vec(),
            b"416content-range: bytes */50".to_vec(),
            b"302location: //h/x".to_vec(),
            b"302location: //[::1]:8/x".to_vec(),
        ];
        let words =
            ["18446744073709551615", "bytes ", "-", "/*", "content-encoding: gzip", "\n", "503retry-after: 9"];
        crate::fuzzing::fuzz("http head", &seeds, &words, |bytes| {
            let text = String::from_utf8_lossy(bytes);
            let Some((status, rest)) = text.split_at_checked(3) else { return };
            let Ok(status) = status.parse() else { return };
            let headers = rest.lines().filter_map(|line| {
                let (name, value) = line.split_once(": ")?;
                Some((HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_str(value).ok()?))
            });
            let known = Known { validator: Some("\"a\"".to_owned()), bytes: Some(1000) };
            match judge(status, &headers.collect(), &(100..200), &known) {
                Answer::Body(Body { is_range: true, skip, bytes, known }) => {
                    assert!(skip == 0 && bytes.is_some_and(|bytes| (1..=100).contains(&bytes)));
                    assert!(known.bytes.is_none_or(|bytes| bytes == 1000));
                }
                Answer::Body(Body { is_range: false, skip, bytes, .. }) => {
                    assert!(skip == 100 && bytes.is_none_or(|bytes| bytes == 1000));
                }
                Answer::Ends { bytes } => assert!(bytes <= 100),
                Answer::Later { after, .. } => assert!(after.is_none_or(|after| after <= MAX_AFTER)),
                Answer::Moved { location } => {
                    let from = super::super::address::Address::parse("https://h/a/b").unwrap();
                    if let Ok(there) = from.redirected(&location) {
                        assert!(there.to_string().starts_with("https://"), "{there}");
                        assert_eq!(super::super::address::Address::parse(&there.to_string()), Ok(there));
                    }
                }
                Answer::Missing | Answer::Changed | Answer::Refused { .. } => {}
            }
        });
    }
}
