//! Servers that are slow, endless, broken or lie.

use super::server::{Asked, Server, send, send_range};
use super::{IMAGE, content, open, options, read, reason};
use std::io::Read;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use yado_updater::source::fetch_process::FetchProcess;
use yado_updater::source::{FileName, Ranges, Source, SourceError, read_release};

/// Answers the first question, whether it gives ranges, honestly, and all others by the function.
fn after_the_first(answer: impl Fn(&Asked, &mut TcpStream) -> bool + Send + Sync + 'static) -> Server {
    Server::start(move |asked, stream| match asked.number {
        0 => send_range(asked, stream, &[7; 100], ""),
        _ => answer(asked, stream),
    })
}

fn refused(answer: impl Fn(&Asked, &mut TcpStream) -> bool + Send + Sync + 'static) -> (String, Server) {
    let server = after_the_first(answer);
    let mut source = open(&server.url).unwrap();
    let began = Instant::now();
    let reason = reason(read(&mut source, IMAGE, 0..100_000));
    assert!(began.elapsed() < Duration::from_secs(20), "{reason}: only after {:?}", began.elapsed());
    (reason, server)
}

#[test]
fn a_body_that_is_cut_short_is_asked_for_again_from_where_it_was_cut() {
    let all = Arc::new(content(300_000));
    let bytes = Arc::clone(&all);
    let server = after_the_first(move |asked, stream| {
        let (first, end) = asked.range();
        let cut = (first + 70_000).min(end);
        let head = format!(
            "HTTP/1.1 206 Partial Content\r\nContent-Length: {}\r\nContent-Range: bytes {first}-{}/300000\r\n\r\n",
            end - first,
            end - 1
        );
        send(stream, head.as_bytes()) && send(stream, &bytes[first..cut]) && cut == end
    });
    let mut source = open(&server.url).unwrap();
    assert!(read(&mut source, IMAGE, 0..300_000).unwrap() == *all);
    let starts: Vec<usize> = server.log()[1..].iter().map(|asked| asked.range().0).collect();
    assert_eq!(starts, [0, 70_000, 140_000, 210_000, 280_000]);
}

#[test]
fn a_body_that_always_ends_after_a_byte_is_given_up() {
    let (reason, server) = refused(|asked, stream| {
        let (first, end) = asked.range();
        let head = format!(
            "HTTP/1.1 206 Partial Content\r\nContent-Length: {}\r\nContent-Range: bytes {first}-{}/100000\r\n\r\nx",
            end - first,
            end - 1
        );
        send(stream, head.as_bytes());
        false
    });
    assert!(reason.contains("tried 3 times"), "{reason}");
    assert_eq!(server.log().len(), 4);
}

#[test]
fn an_endless_body_ends_where_the_range_does() {
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    let server = after_the_first(move |_, stream| {
        send(stream, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        while send(stream, b"1000\r\n") && send(stream, &[7; 0x1000]) && send(stream, b"\r\n") {
            count.fetch_add(0x1000, Ordering::SeqCst);
        }
        false
    });
    let mut source = open(&server.url).unwrap();
    assert_eq!(read(&mut source, IMAGE, 0..100_000).unwrap(), vec![7; 100_000]);
    // Also one that was to be 300 KiB at most.
    assert!(read_release(&mut source).unwrap().len() < 300 << 10);
    drop(source);
    assert!(sent.load(Ordering::SeqCst) < 64 << 20, "it hangs up");
}

#[test]
fn a_byte_now_and_then_is_too_slow() {
    let (reason, _) = refused(|asked, stream| {
        let (first, end) = asked.range();
        let head = format!(
            "HTTP/1.1 206 Partial Content\r\nContent-Length: {}\r\nContent-Range: bytes {first}-{}/100000\r\n\r\n",
            end - first,
            end - 1
        );
        send(stream, head.as_bytes());
        // Until it hangs up.
        while send(stream, b"x") {
            thread::park_timeout(Duration::from_millis(50));
        }
        false
    });
    assert!(reason.contains("too slow"), "{reason}");
}

#[test]
fn a_head_that_does_not_come_or_has_no_end_is_given_up() {
    let (reason, _) = refused(|_, stream| {
        // Until it hangs up.
        let _ = stream.read(&mut [0; 1]);
        false
    });
    assert!(reason.contains("no answer in 2s"), "{reason}");
    for line in ["X: y\r\n".to_owned(), format!("X: {}\r\n", "y".repeat(5000))] {
        let (reason, server) = refused(move |_, stream| {
            send(stream, b"HTTP/1.1 206 Partial Content\r\n");
            while send(stream, line.as_bytes()) {}
            false
        });
        assert!(reason.contains("no answer that HTTP has"), "{reason}");
        assert_eq!(server.log().len(), 2, "it is not asked again");
    }
    // One that says again and again that it is about to answer.
    let (reason, _) = refused(|_, stream| {
        while send(stream, b"HTTP/1.1 100 Continue\r\n\r\n") {
            thread::park_timeout(Duration::from_millis(5));
        }
        false
    });
    assert!(reason.contains("no answer"), "{reason}");
}

#[test]
fn redirections_are_followed_and_a_loop_is_not() {
    let all = Arc::new(content(100_000));
    let bytes = Arc::clone(&all);
    let server = Server::start(move |asked, stream| {
        if asked.line.contains("/elsewhere/") {
            return send_range(asked, stream, &bytes, "");
        }
        let name = asked.line.split(' ').nth(1).unwrap().rsplit('/').next().unwrap();
        send(
            stream,
            format!("HTTP/1.1 302 Found\r\nLocation: /elsewhere/{name}\r\nContent-Length: 0\r\n\r\n").as_bytes(),
        )
    });
    let mut source = open(&server.url).unwrap();
    for range in [0..10, 10..100_000] {
        assert!(read(&mut source, IMAGE, range.clone()).unwrap() == all[range.start as usize..range.end as usize]);
    }
    let asked: Vec<bool> = server.log().iter().map(|asked| asked.line.contains("/elsewhere/")).collect();
    assert_eq!(asked, [false, true, false, true, true], "it is remembered where a file is");

    let looped = Server::start(|_, stream| {
        send(stream, b"HTTP/1.1 302 Found\r\nLocation: /r/release\r\nContent-Length: 0\r\n\r\n")
    });
    let error = open(&looped.url).unwrap_err();
    assert!(error.to_string().contains("more than 5 redirections"), "{error}");
    assert_eq!(looped.log().len(), 6);
    for location in ["ftp://127.0.0.1/x", "http://user@127.0.0.1/", "/a b", "http://127.0.0.1:0/"] {
        let server = Server::start(move |_, stream| {
            send(stream, format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\n\r\n").as_bytes());
            false
        });
        let error = open(&server.url).unwrap_err();
        assert!(error.to_string().contains("redirected:"), "{location}: {error}");
        assert_eq!(server.log().len(), 1, "{location}");
    }
}

#[test]
fn a_range_that_was_not_asked_for_is_refused() {
    for range in ["bytes 1-100000/200000", "bytes 0-100000/200000", "bytes 0-99/200000", "pages 0-99999/*", ""] {
        let (reason, server) = refused(move |_, stream| {
            let head =
                format!("HTTP/1.1 206 Partial Content\r\nContent-Length: 100000\r\nContent-Range: {range}\r\n\r\n");
            send(stream, head.as_bytes()) && send(stream, &[0; 100_000])
        });
        assert!(reason.contains("was asked for bytes 0-99999"), "{range}: {reason}");
        assert_eq!(server.log().len(), 2, "it is not asked again");
    }
}

#[test]
fn a_length_that_no_file_has_is_not_believed() {
    let lengths = ["18446744073709551615", "99999999999999999999", "-1", "100000, 100001"];
    for length in lengths {
        let (reason, _) = refused(move |_, stream| {
            send(stream, format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\nxy").as_bytes());
            false
        });
        eprintln!("{length}: {reason}");
        assert!(reason.contains("no answer that HTTP has") || reason.contains("how much"), "{length}: {reason}");
    }
    // A release of more bytes than it can have: they are not taken.
    let server = Server::start(|asked, stream| {
        let (first, end) = asked.range();
        let head = format!(
            "HTTP/1.1 206 Partial Content\r\nContent-Length: {}\r\nContent-Range: bytes {first}-{}/18446744073709551615\r\n\r\n",
            end - first,
            end - 1
        );
        send(stream, head.as_bytes()) && send(stream, &vec![0; end - first])
    });
    let mut source = open(&server.url).unwrap();
    assert_eq!(read_release(&mut source).unwrap().len() as u64, yado_image::release::MAX_RELEASE_BYTES + 1);
}

#[test]
fn a_file_that_changes_between_two_ranges_is_noticed() {
    let server = after_the_first(|asked, stream| {
        send_range(asked, stream, &[7; 200_000], &format!("ETag: \"{}\"\r\n", asked.number.min(2)))
    });
    let mut source = open(&server.url).unwrap();
    assert_eq!(read(&mut source, IMAGE, 0..1000).unwrap().len(), 1000);
    let reason = reason(read(&mut source, IMAGE, 1000..2000));
    assert!(reason.contains("was changed on the server"), "{reason}");
    let log = server.log();
    assert_eq!((log[1].header("if-range"), log[2].header("if-range")), (None, Some("\"1\"")));
    // It is what it is now: another attempt may read that.
    assert!(read(&mut source, IMAGE, 0..1000).is_ok());
}

#[test]
fn a_server_that_is_busy_is_asked_again_and_one_that_refuses_is_not() {
    let server = after_the_first(|asked, stream| match asked.number {
        1 | 2 => send(stream, b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"),
        3 => send_range(asked, stream, &[7; 1000], ""),
        4 => send(stream, b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
        5 => send(stream, b"HTTP/1.1 416 No\r\nContent-Range: bytes */1000\r\nContent-Length: 0\r\n\r\n"),
        _ => send(stream, b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"),
    });
    let mut source = open(&server.url).unwrap();
    assert_eq!(read(&mut source, IMAGE, 0..1000).unwrap(), vec![7; 1000]);
    assert!(matches!(read(&mut source, FileName::Boot([1; 32]), 0..9), Err(SourceError::Missing { .. })));
    assert!(matches!(read(&mut source, IMAGE, 1000..2000), Err(SourceError::Short { bytes: 1000, .. })));
    assert!(reason(read(&mut source, IMAGE, 0..9)).contains("403"));
    assert_eq!(server.log().len(), 7);
}

#[test]
fn nobody_there_is_said_with_its_address() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let error = open(&format!("http://{address}/")).unwrap_err().to_string();
    assert!(error.contains(&address) && error.contains("tried 3 times"), "{error}");
    let error = open("http://name.invalid/").unwrap_err().to_string();
    assert!(error.contains("name.invalid"), "{error}");
    for url in ["ftp://h/", "http://user:pw@h/", "h", "https://127.0.0.1/"] {
        let error = open(url).unwrap_err();
        assert!(matches!(error, SourceError::Broken { .. }), "{url}: {error}");
    }
}

#[test]
fn who_takes_may_stop_and_ask_for_something_else() {
    let server = after_the_first(|asked, stream| send_range(asked, stream, &[7; 1 << 20], ""));
    let mut source = open(&server.url).unwrap();
    assert_eq!(source.ranges(), Ranges::Any);
    let mut pieces = 0;
    let stopped = source.read(IMAGE, 0..1 << 20, &mut |_| {
        pieces += 1;
        Err(std::io::ErrorKind::StorageFull.into())
    });
    assert!(matches!(stopped, Err(SourceError::Stopped(error)) if error.kind() == std::io::ErrorKind::StorageFull));
    assert_eq!(pieces, 1);
    assert_eq!(read(&mut source, IMAGE, 5..10).unwrap(), [7; 5]);
    assert!(read(&mut source, IMAGE, 5..5).unwrap().is_empty());
}

/// A proxy of the test's own: it sees whole addresses for http, and names to connect to for https.
#[test]
fn a_proxy_is_told_what_is_wanted_and_who_wants_it() {
    let proxy = Server::start(|asked, stream| match asked.line.as_str() {
        line if line.starts_with("GET http://name.invalid/r/") => send_range(asked, stream, &[7; 1000], ""),
        _ => send(stream, b"HTTP/1.1 405 Not Allowed\r\n\r\n"),
    });
    let through = |url: &str| {
        let proxy = Some(format!("http://me:secret@{}", proxy.address));
        // Any certificate: nobody gets as far as to it.
        let authorities = include_bytes!("authority.pem").to_vec();
        FetchProcess::open(yado_updater::source::fetch_process::HttpOptions { proxy, authorities, ..options(url) })
    };
    let mut source = through("http://name.invalid/r").unwrap();
    assert_eq!(read(&mut source, IMAGE, 0..1000).unwrap(), vec![7; 1000]);
    let error = through("https://name.invalid/r").unwrap_err().to_string();
    assert!(error.contains("the proxy: it answered 405"), "{error}");
    let log = proxy.log();
    assert_eq!(log.last().unwrap().line, "CONNECT name.invalid:443 HTTP/1.1");
    assert!(log.iter().all(|asked| asked.header("proxy-authorization") == Some("Basic bWU6c2VjcmV0")));
}
