//! Web servers that do what no honest one does. One that is too slow, or silent, is met with the same rule after minutes: the tests of
//! sources have that with shorter times (`tests/http/hostile.rs`).

use crate::Attempt;
use crate::board::Board;
use crate::server::{Asked, Server, send, send_range};
use std::collections::BTreeMap;
use std::fs;
use std::net::TcpStream;

/// A server that answers each request for a file of the good release by this function, which is given that file.
fn server(board: &Board, answer: impl Fn(&Asked, &mut TcpStream, &[u8]) -> bool + Send + Sync + 'static) -> Attempt {
    let built = board.workshop.build(|options| options.instances.clear());
    let folder = board.workshop.lay_out("bad", &built);
    let mut files = BTreeMap::from([("release".to_owned(), built.release)]);
    for (part, _) in built.manifest.parts() {
        files.insert(part.to_string(), fs::read(folder.join(part.to_string())).unwrap());
    }
    let server = Server::start(move |asked, stream| {
        let name = asked.line.split(' ').nth(1).and_then(|path| path.strip_prefix("/r/")).unwrap_or_default();
        match files.get(name) {
            Some(file) => answer(asked, stream, file),
            None => send(stream, b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
        }
    });
    Attempt::install(&server.url).keeping(server)
}

/// Of its files, the release is given honestly.
pub(crate) fn honest_about_the_release(
    board: &Board,
    answer: impl Fn(&Asked, &mut TcpStream, &[u8]) -> bool + Send + Sync + 'static,
) -> Attempt {
    server(board, move |asked, stream, file| match asked.line.contains("/release ") {
        true => send_range(asked, stream, file, ""),
        false => answer(asked, stream, file),
    })
}

fn redirect(stream: &mut TcpStream, location: &str) -> bool {
    send(stream, format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n").as_bytes())
}

attacks! {
    a_server_that_redirects_in_a_loop: "source-broken", Candidate, |board| {
        server(board, |_, stream, _| redirect(stream, "/r/release"))
    };
    a_server_that_redirects_to_a_file_of_ours: "source-broken", Candidate, |board| {
        server(board, |_, stream, _| redirect(stream, "file:///etc/passwd"))
    };
    a_server_whose_heads_have_no_end: "source-broken", Candidate, |board| server(board, |_, stream, _| {
        send(stream, b"HTTP/1.1 200 OK\r\n");
        while send(stream, b"X: y\r\n") {}
        false
    });
    a_server_whose_release_has_no_end: "release-size", Nothing, |board| server(board, |_, stream, _| {
        send(stream, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        while send(stream, b"1000\r\n") && send(stream, &[7; 0x1000]) && send(stream, b"\r\n") {}
        false
    });
    a_server_whose_release_has_2_to_the_64_bytes: "source-broken", Candidate, |board| server(board, |_, stream, _| {
        send(stream, b"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\nxy");
        false
    });
    a_server_that_gives_another_range: "source-broken", DeniedCandidate, |board| {
        honest_about_the_release(board, |_, stream, file| {
            let head = format!("HTTP/1.1 206 Partial Content\r\nContent-Length: 100\r\nContent-Range: bytes 1-100/{}\r\n\r\n", file.len());
            send(stream, head.as_bytes()) && send(stream, &[0; 100])
        })
    };
    a_server_that_asks_for_a_password: "source-broken", Candidate, |board| server(board, |_, stream, _| {
        send(stream, b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n")
    });
    a_server_that_has_no_release: "source-missing", Nothing, |board| server(board, |_, stream, _| {
        send(stream, b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
    });
    a_server_that_has_no_image: "source-missing", DeniedSlot, |board| {
        honest_about_the_release(board, |_, stream, _| {
            send(stream, b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        })
    };
    a_server_that_gives_other_blocks: "release-file", DeniedSlot, |board| {
        honest_about_the_release(board, |asked, stream, file| {
            let (mut other, header) = (file.to_vec(), file.len().saturating_sub(16_384));
            other[..header].iter_mut().for_each(|byte| *byte ^= 1);
            send_range(asked, stream, &other, "")
        })
    };
    a_server_that_changes_its_files_on_the_way: "source-broken", DeniedCandidate, |board| {
        honest_about_the_release(board, |asked, stream, file| {
            send_range(asked, stream, file, &format!("ETag: \"{}\"\r\n", asked.number))
        })
    };
}
