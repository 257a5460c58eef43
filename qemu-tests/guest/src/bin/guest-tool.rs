//! What the tests do inside a container: use a GPIO line, eat memory, burn the processor, fork until refused, serve and
//! fetch a page, look at the clock. And on the board: ask init and netd.
//! Every verb prints what it observed as `name=value` lines and judges nothing.

use serde::{Serialize, de::DeserializeOwned};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use yado_sys::gpio_line::{Direction, GpioLine};
use yado_sys::{packet, scheduling};
use yado_wire::MAX_FRAME_BYTES;
use yado_wire::network::{NetReply, NetRequest};
use yado_wire::rescue::{Reply, Request};

const USAGE: &str = "\
usage: guest-tool gpio CHIP OUTPUT-LINE LEVEL INPUT-LINE   drive one line, read another
       guest-tool memory MIB                         touch so much memory, then say so
       guest-tool burn MS                            burn the processor for MS of wall time
       guest-tool fork MAX                           start children until one is refused
       guest-tool serve PORT TEXT                    answer every request with TEXT, for ever
       guest-tool get HOST PORT PATH                 fetch a page
       guest-tool clock FILE                         touch a file, tell the time and the file's
       guest-tool date FILE SECONDS                  date a file as init dates the one that keeps the time
       guest-tool ask init|netd SOCKET               ask for a status, tell how long the answer took";

/// Any page size a board of ours has is a multiple of this.
const PAGE_BYTES: usize = 4096;
const NETWORK_TIMEOUT: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["gpio", chip, output, level, input] => gpio(chip, output, level, input),
        ["memory", mib] => number(mib).and_then(memory),
        ["burn", ms] => number(ms).and_then(burn),
        ["fork", max] => number(max).and_then(fork_until_refused),
        ["serve", port, text] => number(port).and_then(|port| serve(port, text)),
        ["get", host, port, path] => number(port).and_then(|port| get(host, port, path)),
        ["clock", file] => clock(file),
        ["date", file, seconds] => date(file, seconds),
        ["ask", "init", socket] => ask(Path::new(socket), &Request::Status, |reply| match reply {
            Reply::Done => Ok(true),
            Reply::Refused(failure) => Err(failure.to_string()),
            _ => Ok(false),
        }),
        ["ask", "netd", socket] => ask(Path::new(socket), &NetRequest::Status, |reply| match reply {
            NetReply::Done => Ok(true),
            NetReply::Failed(failure) => Err(failure.to_string()),
            _ => Ok(false),
        }),
        // A child of `fork`: it lives until its parent lets go of its input.
        ["wait"] => {
            let _ = std::io::stdin().read(&mut [0]);
            Ok(())
        }
        _ => Err(USAGE.to_owned()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("guest-tool: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn number(text: &str) -> Result<usize, String> {
    text.parse().map_err(|error| format!("{text}: {error}"))
}

/// Drives `output` to `level` and reads both lines while the request is held.
fn gpio(chip: &str, output: &str, level: &str, input: &str) -> Result<(), String> {
    let (output_line, input_line) = (line_number(output)?, line_number(input)?);
    let level = if level == "0" { Direction::OutputLow } else { Direction::OutputHigh };
    let said = |what: &str, error: std::io::Error| format!("{chip}: {what}: {error}");
    let request = |line, direction| GpioLine::request(Path::new(chip), line, direction, "guest-tool");
    let output = request(output_line, level).map_err(|error| said("request the output", error))?;
    let input = request(input_line, Direction::Input).map_err(|error| said("request the input", error))?;
    let driven = output.is_high().map_err(|error| said("read the output back", error))?;
    let read = input.is_high().map_err(|error| said("read the input", error))?;
    println!("output={}", u8::from(driven));
    println!("input={}", u8::from(read));
    std::io::stdout().flush().map_err(|error| error.to_string())?;
    // The line goes back to its idle level when it is dropped: hold it until our input ends, so that the
    // level can be seen from outside too.
    let _ = std::io::stdin().read(&mut [0]);
    Ok(())
}

fn line_number(text: &str) -> Result<u32, String> {
    text.parse().map_err(|error| format!("{text}: {error}"))
}

fn memory(mib: usize) -> Result<(), String> {
    let mut chunks = Vec::with_capacity(mib);
    for number in 1..=mib {
        let mut chunk = vec![0u8; 1024 * 1024];
        for page in chunk.chunks_mut(PAGE_BYTES) {
            page[0] = 1;
        }
        chunks.push(std::hint::black_box(chunk));
        println!("touched_mib={number}");
    }
    Ok(())
}

fn burn(wall_ms: usize) -> Result<(), String> {
    let began = Instant::now();
    let wall = Duration::from_millis(wall_ms as u64);
    let mut sum = 0u64;
    while began.elapsed() < wall {
        for number in 0..100_000u64 {
            sum = std::hint::black_box(sum.wrapping_mul(31).wrapping_add(number));
        }
    }
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    println!("wall_ms={}", began.elapsed().as_millis());
    println!("cpu_ms={}", i128::from(used.tv_sec) * 1000 + i128::from(used.tv_nsec) / 1_000_000);
    Ok(())
}

/// From the request to the last packet of its answer. We go before all others, as `yado rescue status` does, so that what is
/// measured is who answers and not our own turn.
fn ask<Q: Serialize, A: DeserializeOwned>(
    socket: &Path,
    request: &Q,
    is_last: impl Fn(A) -> Result<bool, String>,
) -> Result<(), String> {
    let said = |what: &str, error: std::io::Error| format!("{}: {what}: {error}", socket.display());
    scheduling::run_before_others().map_err(|error| said("go before others", error))?;
    let request = yado_wire::encode(request).ok_or("the request is too long")?;
    let mut buffer = vec![0; MAX_FRAME_BYTES];
    let began = Instant::now();
    let connection = packet::connect(socket).map_err(|error| said("connect", error))?;
    packet::set_timeout(&connection, NETWORK_TIMEOUT).map_err(|error| said("set a limit", error))?;
    packet::send(&connection, &request, &[]).map_err(|error| said("ask", error))?;
    loop {
        let received = packet::recv(&connection, &mut buffer).map_err(|error| said("hear", error))?;
        let received = received.filter(|received| !received.is_end()).ok_or("no answer")?;
        if is_last(yado_wire::decode(&buffer[..received.len]).map_err(|error| error.to_string())?)? {
            break;
        }
    }
    println!("answer_us={}", began.elapsed().as_micros());
    Ok(())
}

fn fork_until_refused(max: usize) -> Result<(), String> {
    let program = std::env::current_exe().map_err(|error| format!("own path: {error}"))?;
    let mut children: Vec<Child> = Vec::new();
    let mut refusal = None;
    while children.len() < max && refusal.is_none() {
        match Command::new(&program).arg("wait").stdin(Stdio::piped()).spawn() {
            Ok(child) => children.push(child),
            Err(error) => refusal = Some(error),
        }
    }
    println!("started={}", children.len());
    match refusal {
        Some(error) => println!("refused_errno={}", error.raw_os_error().unwrap_or(0)),
        None => println!("refused_errno=0"),
    }
    for mut child in children {
        drop(child.stdin.take());
        child.wait().map_err(|error| format!("wait for a child: {error}"))?;
    }
    Ok(())
}

fn serve(port: usize, text: &str) -> Result<(), String> {
    let port = u16::try_from(port).map_err(|error| format!("{port}: {error}"))?;
    let listener =
        TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).map_err(|error| format!("listen on {port}: {error}"))?;
    for stream in listener.incoming() {
        // A peer that goes away in the middle is its own business.
        let _ = stream.and_then(|stream| answer(stream, text));
    }
    Ok(())
}

fn answer(mut stream: TcpStream, text: &str) -> std::io::Result<()> {
    stream.set_read_timeout(Some(NETWORK_TIMEOUT))?;
    stream.set_write_timeout(Some(NETWORK_TIMEOUT))?;
    // The request is short and comes in one segment; what it asks for does not matter.
    let _request_bytes = stream.read(&mut [0; 1024])?;
    stream.write_all(format!("HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len()).as_bytes())
}

fn get(host: &str, port: usize, path: &str) -> Result<(), String> {
    let port = u16::try_from(port).map_err(|error| format!("{port}: {error}"))?;
    let said = |error: std::io::Error| format!("{host}:{port}: {error}");
    let mut stream = TcpStream::connect((host, port)).map_err(said)?;
    stream.set_read_timeout(Some(NETWORK_TIMEOUT)).map_err(said)?;
    stream.set_write_timeout(Some(NETWORK_TIMEOUT)).map_err(said)?;
    println!("peer={}", stream.peer_addr().map_err(said)?);
    // In one piece: the server may have answered and gone before a second one arrives.
    let request = format!("GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(said)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(said)?;
    let (head, body) = answer.split_once("\r\n\r\n").or_else(|| answer.split_once("\n\n")).unwrap_or((&answer, ""));
    println!("status={}", head.lines().next().unwrap_or(""));
    println!("body={}", body.trim_end());
    Ok(())
}

/// Both in seconds since 1970.
fn clock(file: &str) -> Result<(), String> {
    let said = |error: std::io::Error| format!("{file}: {error}");
    let since_1970 = |time: SystemTime| time.duration_since(UNIX_EPOCH).map_err(|error| error.to_string());
    std::fs::write(file, "now").map_err(said)?;
    let modified = std::fs::metadata(file).and_then(|found| found.modified()).map_err(said)?;
    println!("now_s={}", since_1970(SystemTime::now())?.as_secs());
    println!("modified_s={}", since_1970(modified)?.as_secs());
    Ok(())
}

fn date(path: &str, seconds: &str) -> Result<(), String> {
    let said = |error: std::io::Error| format!("{path}: {error}");
    let seconds = seconds.parse().map_err(|error| format!("{seconds}: {error}"))?;
    let file = std::fs::File::create(path).map_err(said)?;
    yado_sys::file_time::set_modified_s(&file, seconds).map_err(said)?;
    println!("modified_s={}", yado_sys::file_time::modified_s(&file).map_err(said)?);
    Ok(())
}
