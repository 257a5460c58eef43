//! nginx as Debian has it, on a port of loopback: with ranges and without, with TLS and with certificates of clients.

use super::{IMAGE, content, open, options, read, reason};
use std::fs;
use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use yado_updater::source::fetch_process::{FetchProcess, HttpOptions};
use yado_updater::source::{FileName, Ranges, Source, SourceError, read_release};

struct Nginx {
    process: Child,
    folder: TempDir,
    port: u16,
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // It ends its workers when it is asked to.
        let _ = Command::new("kill").args(["-QUIT", &self.process.id().to_string()]).status();
        let _ = self.process.wait();
    }
}

impl Nginx {
    /// With `release`, an image of 3 MB, and these lines more in the server's part of its configuration. `None`: it is not installed.
    fn start(lines: &str) -> Option<Nginx> {
        let folder = tempfile::tempdir().unwrap();
        // The worker is another user.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let root = folder.path().join("root/r");
        fs::create_dir_all(root.join("images")).unwrap();
        fs::write(root.join("release"), content(16_384)).unwrap();
        fs::write(root.join(IMAGE.to_string()), content(3_000_000)).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let place = folder.path().display();
        make_certificates(folder.path())?;
        let tls = if lines.contains("ssl_") { " ssl" } else { "" };
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path {place}/{name};"))
            .join(" ");
        let configuration = format!(
            "daemon off; pid {place}/pid; error_log {place}/errors; events {{}}\n\
             http {{ access_log off; {temporary}\n server {{ listen 127.0.0.1:{port}{tls}; root {place}/root;\n {lines} }} }}\n"
        )
        .replace("PLACE", &place.to_string());
        let path = folder.path().join("nginx.conf");
        fs::write(&path, configuration).unwrap();
        let mut command = Command::new("nginx");
        let started = command.arg("-c").arg(&path).arg("-e").arg(folder.path().join("errors"));
        let process = match started.stdin(Stdio::null()).spawn() {
            Ok(process) => process,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                eprintln!("SKIPPED: nginx is not installed");
                return None;
            }
            Err(error) => panic!("nginx: {error}"),
        };
        let mut nginx = Nginx { process, folder, port };
        let until = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let ended = nginx.process.try_wait().unwrap();
            let errors = fs::read_to_string(nginx.folder.path().join("errors")).unwrap_or_default();
            assert!(ended.is_none() && Instant::now() < until, "nginx: {ended:?}: {errors}");
            std::thread::yield_now();
        }
        Some(nginx)
    }

    fn url(&self, scheme: &str, host: &str) -> String {
        format!("{scheme}://{host}:{}/r/", self.port)
    }

    fn pem(&self, names: &[&str]) -> Vec<u8> {
        names.iter().flat_map(|name| fs::read(self.folder.path().join(name)).unwrap()).collect()
    }
}

/// An authority, a server's certificate for localhost, a client's, and another authority's. `None`: openssl is not installed.
fn make_certificates(folder: &Path) -> Option<()> {
    let openssl = |words: &str| {
        let words = words.split(' ').map(|word| word.replace('+', " "));
        match Command::new("openssl").args(words).current_dir(folder).stderr(Stdio::null()).status() {
            Ok(status) => {
                assert!(status.success());
                Some(())
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                eprintln!("SKIPPED: openssl is not installed");
                None
            }
            Err(error) => panic!("openssl: {error}"),
        }
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    for authority in ["ca", "other"] {
        openssl(&format!(
            "req -x509 {key} -keyout {authority}.key -out {authority}.pem -days 2 -subj /CN={authority}"
        ))?;
    }
    for (name, extensions) in [("server", "subjectAltName=DNS:localhost"), ("client", "extendedKeyUsage=clientAuth")]
    {
        fs::write(folder.join("extensions"), extensions).unwrap();
        openssl(&format!("req -new {key} -keyout {name}.key -out {name}.csr -subj /CN={name}"))?;
        openssl(&format!(
            "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out {name}.pem -days 2 -extfile extensions"
        ))?;
    }
    Some(())
}

const TLS: &str = "ssl_certificate PLACE/server.pem; ssl_certificate_key PLACE/server.key;";

#[test]
fn any_part_comes_from_a_server_with_ranges() {
    let Some(nginx) = Nginx::start("") else { return };
    let mut source = open(&nginx.url("http", "127.0.0.1")).unwrap();
    assert_eq!(source.ranges(), Ranges::Any);
    assert!(read_release(&mut source).unwrap() == content(16_384));
    assert_eq!((source.length(IMAGE), source.length(FileName::Boot([9; 32]))), (Some(3_000_000), None));
    let all = content(3_000_000);
    for range in [0..3_000_000, 5..6, 2_999_999..3_000_000, 4096..1_000_000, 100..200] {
        assert!(read(&mut source, IMAGE, range.clone()).unwrap() == all[range.start as usize..range.end as usize]);
    }
    let error = read(&mut source, IMAGE, 2_999_000..3_000_001).unwrap_err();
    assert!(matches!(error, SourceError::Short { bytes: 3_000_000, .. }), "{error}");
    let error = read(&mut source, IMAGE, 4_000_000..4_000_001).unwrap_err();
    assert!(matches!(error, SourceError::Short { bytes: 3_000_000, .. }), "{error}");
    assert!(matches!(read(&mut source, FileName::Image([9; 32]), 0..1), Err(SourceError::Missing { .. })));
}

#[test]
fn a_server_without_ranges_is_read_from_the_first_byte() {
    let Some(nginx) = Nginx::start("max_ranges 0;") else { return };
    let mut source = open(&nginx.url("http", "127.0.0.1")).unwrap();
    assert_eq!(source.ranges(), Ranges::Whole);
    assert!(read_release(&mut source).unwrap() == content(16_384));
    assert_eq!((source.length(IMAGE), source.length(FileName::Boot([9; 32]))), (Some(3_000_000), None));
    let all = content(3_000_000);
    for range in [0..3_000_000, 2_000_000..2_000_100] {
        assert!(read(&mut source, IMAGE, range.clone()).unwrap() == all[range.start as usize..range.end as usize]);
    }
    let error = read(&mut source, IMAGE, 0..3_000_001).unwrap_err();
    assert!(matches!(error, SourceError::Short { bytes: 3_000_000, .. }), "{error}");
}

#[test]
fn a_file_that_is_replaced_between_two_ranges_is_noticed() {
    let Some(nginx) = Nginx::start("") else { return };
    let mut source = open(&nginx.url("http", "127.0.0.1")).unwrap();
    assert!(read(&mut source, IMAGE, 0..1000).is_ok());
    let path = nginx.folder.path().join("root/r").join(IMAGE.to_string());
    fs::write(&path, content(2_000_000)).unwrap();
    let reason = reason(read(&mut source, IMAGE, 1000..2000));
    assert!(reason.contains("was changed on the server"), "{reason}");
}

#[test]
fn a_connection_that_the_server_closes_after_each_answer_is_made_again() {
    let Some(nginx) = Nginx::start("keepalive_timeout 0;") else { return };
    let mut source = open(&nginx.url("http", "127.0.0.1")).unwrap();
    let all = content(3_000_000);
    for start in [0_usize, 1_000_000, 2_000_000] {
        assert!(read(&mut source, IMAGE, start as u64..start as u64 + 1000).unwrap() == all[start..start + 1000]);
    }
}

#[test]
fn a_server_is_judged_by_its_certificate() {
    let Some(nginx) = Nginx::start(TLS) else { return };
    let judged = |host: &str, authority: &str| {
        let authorities = nginx.pem(&[authority]);
        FetchProcess::open(HttpOptions { authorities, ..options(&nginx.url("https", host)) })
    };
    let mut source = judged("localhost", "ca.pem").unwrap();
    assert!(read(&mut source, IMAGE, 0..3_000_000).unwrap() == content(3_000_000));
    super::confined::assert_little_memory(nginx.port);
    drop(source);
    for (host, authority, why) in
        [("localhost", "other.pem", "UnknownIssuer"), ("127.0.0.1", "ca.pem", "not valid for name")]
    {
        let error = judged(host, authority).unwrap_err().to_string();
        assert!(error.contains(why), "{host}: {error}");
        assert!(!error.contains("tried"), "it stays wrong: {error}");
    }
    // As many authorities as a distribution has, of which one is ours.
    let authorities = [nginx.pem(&["other.pem"]).repeat(150), nginx.pem(&["ca.pem"])].concat();
    let mut source =
        FetchProcess::open(HttpOptions { authorities, ..options(&nginx.url("https", "localhost")) }).unwrap();
    assert!(read(&mut source, IMAGE, 0..3_000_000).unwrap() == content(3_000_000));
    super::confined::assert_little_memory(nginx.port);
    drop(source);
    // What time it is: the certificate is good for two days.
    let later = HttpOptions {
        authorities: nginx.pem(&["ca.pem"]),
        not_before_seconds: 4_000_000_000,
        ..options(&nginx.url("https", "localhost"))
    };
    let error = FetchProcess::open(later).unwrap_err().to_string();
    assert!(error.contains("expired"), "{error}");
    let plain = reason_of(open(&nginx.url("http", "localhost")));
    assert!(plain.contains("400"), "{plain}");
}

fn reason_of(opened: Result<FetchProcess, SourceError>) -> String {
    opened.map(drop).unwrap_err().to_string()
}

#[test]
fn a_server_that_wants_to_know_who_we_are_is_shown_our_certificate() {
    let lines = format!("{TLS} ssl_client_certificate PLACE/ca.pem; ssl_verify_client on;");
    let Some(nginx) = Nginx::start(&lines) else { return };
    let with = |identity: Option<Vec<u8>>| {
        let authorities = nginx.pem(&["ca.pem"]);
        FetchProcess::open(HttpOptions { authorities, identity, ..options(&nginx.url("https", "localhost")) })
    };
    let mut source = with(Some(nginx.pem(&["client.pem", "client.key"]))).unwrap();
    assert!(read(&mut source, IMAGE, 0..3_000_000).unwrap() == content(3_000_000));
    assert!(reason_of(with(None)).contains("400"), "nginx's answer to who has none");
    let mixed = reason_of(with(Some(nginx.pem(&["client.pem", "server.key"]))));
    assert!(mixed.contains("our certificate"), "{mixed}");
}
