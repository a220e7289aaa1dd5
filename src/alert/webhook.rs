//! The webhook: each event as the JSON of a POST, one after another, tried again for some minutes.

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustls::crypto::ring;
use tokio::{task::spawn_blocking, time::sleep};
use tracing::debug;
use ureq::{
    Agent,
    tls::{PemItem, RootCerts, TlsConfig, TlsProvider, parse_pem},
};

use super::{Settings, Troubles, outbox::Outbox, words};
use crate::{
    config::secret,
    model::{Incident, Webhook},
};

/// For one try as a whole.
const LIMIT: Duration = Duration::from_secs(10);
/// After a failure, doubled each time.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(60);
/// Tries, over about five minutes.
const TRIES: u32 = 10;
/// Longest list of authorities that is read, in bytes.
const LONGEST_AUTHORITIES: u64 = 4 << 20;
/// Where distributions keep the authorities that they trust.
const AUTHORITIES: [&str; 4] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem"];

/// Why it was not taken.
enum Failure {
    /// It may be next time.
    Passing(String),
    /// It will not be.
    Lasting(String),
}

/// Posts events.
pub(super) async fn webhook(settings: Arc<Settings>, webhook: Webhook, outbox: Outbox<Arc<Incident>>, troubles: Troubles) {
    let webhook = Arc::new(webhook);
    // Made once, and anew when it failed: a certificate may have been replaced.
    let mut agent: Option<Agent> = None;
    loop {
        let taken = outbox.take().await;
        troubles.dropped("webhook_url", taken.dropped);
        let json = words::json(&taken.item);
        let mut wait = FIRST_RETRY;
        for number in 1..=TRIES {
            let (webhook, auth_dir, json, known) = (webhook.clone(), settings.auth_dir.clone(), json.clone(), agent.take());
            // Its own deadline ends it.
            let tried = spawn_blocking(move || post(&webhook, &auth_dir, &json, known)).await;
            let failure = match tried {
                Ok(Ok(used)) => {
                    agent = Some(used);
                    break;
                }
                Ok(Err(failure)) => failure,
                Err(error) => Failure::Passing(error.to_string()),
            };
            match failure {
                Failure::Passing(why) if number < TRIES => {
                    debug!("webhook_url: {why}; trying again in {} s", wait.as_secs());
                    if number == 1 {
                        troubles.say(format!("webhook_url did not take an event, it is tried again: {why}"));
                    }
                }
                Failure::Passing(why) | Failure::Lasting(why) => {
                    troubles.say(format!("webhook_url did not take an event, it is given up: {why}"));
                    break;
                }
            }
            sleep(wait).await;
            wait = (wait * 2).min(LONGEST_RETRY);
        }
    }
}

/// One try. Blocks, ten seconds at most.
fn post(webhook: &Webhook, auth_dir: &Path, json: &[u8], agent: Option<Agent>) -> Result<Agent, Failure> {
    let agent = match agent {
        Some(agent) => agent,
        None => self::agent(webhook).map_err(Failure::Passing)?,
    };
    let mut request = agent.post(&webhook.url).header("content-type", "application/json");
    if let Some(name) = &webhook.token {
        let token = secret(&auth_dir.join(name), "webhook_token").map_err(Failure::Passing)?;
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let status = request.send(json).map_err(|error| Failure::Passing(error.to_string()))?.status();
    match status.as_u16() {
        200..=299 => Ok(agent),
        408 | 425 | 429 | 500..=599 => Err(Failure::Passing(format!("the server says {status}"))),
        300..=399 => Err(Failure::Lasting(format!("the server says {status}: write the address that it names in webhook_url"))),
        _ => Err(Failure::Lasting(format!("the server says {status}"))),
    }
}

fn agent(webhook: &Webhook) -> Result<Agent, String> {
    let roots = if webhook.url.starts_with("https:") { authorities(webhook.authorities.as_deref())? } else { Vec::new() };
    let tls = TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .root_certs(RootCerts::Specific(Arc::new(roots)))
        .unversioned_rustls_crypto_provider(Arc::new(ring::default_provider()))
        .build();
    let config = Agent::config_builder()
        .timeout_global(Some(LIMIT))
        .max_redirects(0)
        .max_redirects_will_error(false)
        .http_status_as_error(false)
        // Only what the configuration says.
        .proxy(None)
        .user_agent(concat!("drcm/", env!("CARGO_PKG_VERSION")))
        .tls_config(tls)
        .build();
    Ok(config.into())
}

/// Who may vouch for the server.
fn authorities(own: Option<&Path>) -> Result<Vec<ureq::tls::Certificate<'static>>, String> {
    let path = match own {
        Some(path) => path.to_owned(),
        None => AUTHORITIES
            .iter()
            .map(PathBuf::from)
            .find(|path| path.is_file())
            .ok_or("this machine has no list of authorities (package ca-certificates), and webhook_ca names none")?,
    };
    let unreadable = |error: std::io::Error| format!("the authorities in {} cannot be read: {error}", path.display());
    let mut pem = Vec::new();
    fs::File::open(&path).and_then(|file| file.take(LONGEST_AUTHORITIES).read_to_end(&mut pem)).map_err(unreadable)?;
    let certificates: Vec<_> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() { Err(format!("there is no certificate in {}", path.display())) } else { Ok(certificates) }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead as _, BufReader, Write as _},
        net::TcpListener,
        os::unix::fs::PermissionsExt as _,
        process::{Child, Command, Stdio},
        sync::mpsc::{Receiver, channel},
        thread,
        time::Instant,
    };

    use super::*;
    use crate::alert::{Alerts, fixture};

    fn place(name: &str) -> PathBuf {
        let place = std::env::temp_dir().join(format!("drcm-webhook-{name}-{}", std::process::id()));
        fs::create_dir_all(&place).unwrap();
        place
    }

    /// A server that answers with these, one after another, and tells the header lines of what it was asked.
    fn server(answers: &'static [&str]) -> (String, Receiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/x", listener.local_addr().unwrap());
        let (tell, asked) = channel();
        thread::spawn(move || {
            for (answer, stream) in answers.iter().zip(listener.incoming()) {
                let mut stream = stream.unwrap();
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
                tell.send(lines.by_ref().take_while(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")).unwrap();
                drop(lines.next());
                write!(stream, "HTTP/1.1 {answer}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
            }
        });
        (url, asked)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_may_pass_is_tried_again_and_what_lasts_is_not() {
        let place = place("again");
        let (url, asked) = server(&["503 Busy", "204 No Content", "404 Not Found", "302 Found", "200 OK"]);
        fs::write(place.join("token"), "secret\n").unwrap();
        fs::set_permissions(place.join("token"), fs::Permissions::from_mode(0o600)).unwrap();
        let mut settings = fixture::settings(&place);
        settings.alerts.webhook = Some(Webhook { url, token: Some("token".into()), authorities: None });
        let (alerts, mut troubles) = Alerts::start(settings);
        for number in 1..=4 {
            alerts.tell(&Arc::new(Incident { number, ..fixture::failover() }));
        }
        let mut told = Vec::new();
        for _ in 0..3 {
            told.push(tokio::time::timeout(Duration::from_secs(20), troubles.recv()).await.unwrap().unwrap());
        }
        assert!(told[0].contains("an event, it is tried again: the server says 503"), "{told:?}");
        assert!(told[1].contains("an event, it is given up: the server says 404"), "{told:?}");
        assert!(told[2].contains("an event, it is given up: the server says 302") && !told.concat().contains("secret"), "{told:?}");
        let heads: Vec<String> =
            (0..5).map(|_| tokio::task::block_in_place(|| asked.recv_timeout(Duration::from_secs(20)).unwrap())).collect();
        let head = heads[4].to_ascii_lowercase();
        assert!(head.starts_with("post /x http/1.1") && head.contains("authorization: bearer secret"), "{head}");
        assert!(head.contains("content-type: application/json") && head.contains("user-agent: drcm/"), "{head}");
        fs::remove_dir_all(place).unwrap();
    }

    #[test]
    fn a_token_that_others_may_read_is_not_used() {
        let place = place("token");
        let path = place.join("token");
        let try_with = |text: &str, mode| {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            secret(&path, "webhook_token")
        };
        assert_eq!(try_with(" a.b-c\n", 0o400), Ok("a.b-c".to_owned()));
        for (text, mode) in [("hush", 0o640), ("hush", 0o604), ("", 0o600), ("hush two", 0o600), ("hu\nsh", 0o600)] {
            let fault = try_with(text, mode).unwrap_err();
            assert!(fault.contains("webhook_token") && !fault.contains("hush"), "{fault}");
        }
        fs::remove_dir_all(place).unwrap();
    }

    #[test]
    fn a_server_that_does_not_answer_is_not_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let begun = Instant::now();
        let tried = post(&Webhook { url, token: None, authorities: None }, Path::new("/"), b"{}", None);
        assert!(matches!(&tried, Err(Failure::Passing(why)) if why.contains("timeout")));
        assert!(begun.elapsed() < LIMIT + Duration::from_secs(3), "{:?}", begun.elapsed());
    }

    /// A real TLS server of another make.
    struct Tls(Child);

    impl Drop for Tls {
        fn drop(&mut self) {
            self.0.kill().ok();
            self.0.wait().ok();
        }
    }

    fn openssl(place: &Path, words: &str) {
        let done = Command::new("openssl").args(words.split(' ')).current_dir(place).output().unwrap();
        assert!(done.status.success(), "{words}: {}", String::from_utf8_lossy(&done.stderr));
    }

    #[test]
    fn https_takes_only_servers_that_somebody_known_vouches_for() {
        let place = place("tls");
        openssl(&place, "req -x509 -newkey rsa:2048 -nodes -days 2 -keyout ca.key -out ca.pem -subj /CN=ours");
        openssl(&place, "req -x509 -newkey rsa:2048 -nodes -days 2 -keyout other.key -out other.pem -subj /CN=another");
        openssl(&place, "req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=localhost");
        fs::write(place.join("names"), "subjectAltName=DNS:localhost\n").unwrap();
        openssl(&place, "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out server.pem");
        // A port that was free a moment ago.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let words = format!("s_server -quiet -accept 127.0.0.1:{port} -cert server.pem -key server.key");
        let mut command = Command::new("openssl");
        command.args(words.split(' ')).current_dir(&place).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut tls = Tls(command.spawn().unwrap());
        let mut input = tls.0.stdin.take().unwrap();
        // Until it listens; a connection without a word does no harm.
        let begun = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(10), "openssl s_server does not listen");
            thread::sleep(Duration::from_millis(20));
        }
        let with = |file: &str| Webhook { url: format!("https://localhost:{port}/x"), token: None, authorities: Some(place.join(file)) };
        match post(&with("other.pem"), &place, b"{}", None) {
            Err(Failure::Passing(why)) => assert!(why.to_lowercase().contains("certificate"), "{why}"),
            Err(Failure::Lasting(why)) => panic!("{why}"),
            Ok(_) => panic!("nobody known vouches for it"),
        }
        // It sends what it is given, once somebody has connected.
        let answer = thread::spawn(move || {
            thread::sleep(Duration::from_millis(500));
            input.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
            input
        });
        if let Err(Failure::Passing(why) | Failure::Lasting(why)) = post(&with("ca.pem"), &place, b"{\"x\":1}", None) {
            panic!("{why}");
        }
        drop(answer.join().unwrap());
        fs::remove_dir_all(place).unwrap();
    }
}
