//! Who may look.

use std::{net::IpAddr, path::PathBuf};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hyper::{
    HeaderMap,
    header::{AUTHORIZATION, HOST},
};
use sha2::{Digest as _, Sha256};
use tokio::task::spawn_blocking;

use crate::config::secret;

/// What it takes to be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// To be on this machine. Whoever calls it by another name than its own may be a page in a browser here that was sent by
    /// somebody else.
    Local,
    /// To know the token in this file: read for each question, so that it can be replaced.
    Token(PathBuf),
}

/// Why somebody is not answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denied {
    /// It has another name for us.
    Host,
    /// It has not shown the token.
    Unknown,
    /// The token cannot be read: a sentence for the log.
    NoToken(String),
}

impl Access {
    /// Whether a question with these headers is to be answered.
    ///
    /// # Errors
    /// Why not.
    pub async fn admit(&self, headers: &HeaderMap) -> Result<(), Denied> {
        match self {
            Self::Local => {
                let host = headers.get(HOST).and_then(|host| host.to_str().ok());
                if host.is_some_and(is_own_name) { Ok(()) } else { Err(Denied::Host) }
            }
            Self::Token(path) => {
                let shown = shown(headers).ok_or(Denied::Unknown)?;
                let path = path.clone();
                let token =
                    spawn_blocking(move || secret(&path, "status_token")).await.map_err(|error| Denied::NoToken(error.to_string()))?;
                let token = token.map_err(Denied::NoToken)?;
                // By their digests: how long it takes says nothing of the token.
                if Sha256::digest(shown) == Sha256::digest(token) { Ok(()) } else { Err(Denied::Unknown) }
            }
        }
    }
}

/// `localhost`, or an address, with or without a port.
fn is_own_name(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) && (!name.contains(':') || name.ends_with(']')) => name,
        _ => host,
    };
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok()
}

/// A bearer token, or the password that a browser was told.
fn shown(headers: &HeaderMap) -> Option<Vec<u8>> {
    let (scheme, rest) = headers.get(AUTHORIZATION)?.to_str().ok()?.trim().split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.trim().as_bytes().to_vec());
    }
    if scheme.eq_ignore_ascii_case("basic") {
        let both = STANDARD.decode(rest.trim()).ok()?;
        let colon = both.iter().position(|byte| *byte == b':')?;
        return Some(both[colon + 1..].to_vec());
    }
    None
}

#[cfg(test)]
mod tests {
    use std::{env, fs, os::unix::fs::PermissionsExt as _, process};

    use super::*;

    fn headers(name: hyper::header::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().unwrap())])
    }

    #[tokio::test]
    async fn without_a_token_only_who_calls_us_by_our_own_name() {
        for (host, admitted) in [
            ("localhost", true),
            ("LOCALHOST:9186", true),
            ("127.0.0.1:9186", true),
            ("[::1]:9186", true),
            ("[::1]", true),
            ("evil.example.com:9186", false),
            ("localhost.evil.example.com", false),
            ("127.0.0.1.evil.example.com", false),
            ("", false),
        ] {
            assert_eq!(Access::Local.admit(&headers(HOST, host)).await.is_ok(), admitted, "{host}");
        }
        assert_eq!(Access::Local.admit(&HeaderMap::new()).await, Err(Denied::Host));
    }

    #[tokio::test]
    async fn with_a_token_only_who_knows_it() {
        let path = env::temp_dir().join(format!("drcm-status-token-{}", process::id()));
        fs::write(&path, "open-sesame\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let access = Access::Token(path.clone());
        let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
        for (shown, admitted) in [
            ("Bearer open-sesame".to_owned(), true),
            ("bearer  open-sesame ".to_owned(), true),
            (basic("anyone:open-sesame"), true),
            (basic(":open-sesame"), true),
            (basic("open-sesame"), false),
            (basic("open-sesame:"), false),
            ("Basic ***".to_owned(), false),
            ("Bearer open-sesam".to_owned(), false),
            ("Bearer ".to_owned(), false),
            ("open-sesame".to_owned(), false),
        ] {
            assert_eq!(access.admit(&headers(AUTHORIZATION, &shown)).await.is_ok(), admitted, "{shown}");
        }
        assert_eq!(access.admit(&headers(HOST, "localhost")).await, Err(Denied::Unknown));
        // What others may read is no secret.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let denied = access.admit(&headers(AUTHORIZATION, "Bearer open-sesame")).await.unwrap_err();
        assert!(matches!(&denied, Denied::NoToken(why) if why.contains("chmod 600") && !why.contains("sesame")), "{denied:?}");
        fs::remove_file(path).unwrap();
    }
}
