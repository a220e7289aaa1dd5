//! Shares as mount(2) wants them: the address of the server, the share, and the credentials, which go nowhere but there.

use std::net::SocketAddr;

use nix::unistd::{Group, User};

use super::{
    credentials::Credentials,
    error::MountError,
    options::{has, value_of},
};
use crate::sys::errand::Secret;

/// Longest text of options that the kernel takes.
pub(super) const LONGEST_DATA: usize = 4095;

/// A share, as the source names it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share<'s> {
    pub(super) host: &'s str,
    pub(super) share: &'s str,
    pub(super) directory: &'s str,
}

/// Whether a share with these options is mounted without a user and password.
pub(super) fn is_anonymous(words: &[String]) -> bool {
    has(words, &["guest"]) || value_of(words, &["sec"]).is_some_and(|value| value.starts_with("krb5") || value == "none")
}

/// What the kernel is told. `credentials` may be left out where there is no user.
pub(super) fn data(
    share: Share<'_>,
    server: SocketAddr,
    credentials: Option<&Credentials>,
    words: &[String],
) -> Result<Secret, MountError> {
    let mut text = Text::new();
    // Kernels from 5.11 on read these from the source, and older ones only here.
    text.say("unc", format!("\\\\{}\\{}", share.host, share.share).as_bytes());
    if !share.directory.is_empty() {
        text.say("prefixpath", share.directory.as_bytes());
    }
    text.say("ip", written(server).as_bytes());
    if let Some(credentials) = credentials {
        let (domain, user) = credentials.username.split_once(['\\', '/']).unwrap_or((&credentials.domain, &credentials.username));
        text.say("user", user.as_bytes());
        if !domain.is_empty() {
            text.say("domain", domain.as_bytes());
        }
        text.say("pass", credentials.password.bytes());
        let theirs = [
            ("file_mode", &credentials.file_mode),
            ("dir_mode", &credentials.dir_mode),
            ("uid", &credentials.uid),
            ("gid", &credentials.gid),
        ];
        // The configuration goes before the file.
        for (name, value) in theirs.into_iter().filter(|(name, value)| !value.is_empty() && !has(words, &[name])) {
            text.say(name, for_kernel(name, value)?.as_bytes());
        }
    }
    for word in words {
        match word.split_once('=') {
            Some((name, value)) => text.say(name, for_kernel(name, value)?.as_bytes()),
            None => text.word(word),
        }
    }
    text.finish()
}

/// Options as they grow, with room for all from the beginning: growing would leave what is secret in freed memory.
struct Text(Vec<u8>);

impl Text {
    fn new() -> Self {
        Self(Vec::with_capacity(LONGEST_DATA + 1))
    }

    /// What is beyond the end of the room is only counted, by one byte.
    fn push(&mut self, byte: u8) {
        if self.0.len() < LONGEST_DATA + 1 {
            self.0.push(byte);
        }
    }

    fn word(&mut self, word: &str) {
        if !self.0.is_empty() {
            self.push(b',');
        }
        word.bytes().for_each(|byte| self.push(byte));
    }

    fn say(&mut self, name: &str, value: &[u8]) {
        self.word(name);
        self.push(b'=');
        for byte in value {
            self.push(*byte);
            if *byte == b',' {
                // The kernel takes two commas in a row for one within a value.
                self.push(b',');
            }
        }
    }

    fn finish(mut self) -> Result<Secret, MountError> {
        let text = std::mem::take(&mut self.0);
        if text.len() > LONGEST_DATA {
            drop(Secret::new(text));
            return Err(MountError::TooLong);
        }
        Secret::new(text).ok_or_else(|| MountError::Option { word: "options".into(), why: "they hold a zero byte" })
    }
}

/// The kernel reads octal only with a zero in front, and knows users by number only.
fn for_kernel(name: &str, value: &str) -> Result<String, MountError> {
    match name {
        "file_mode" | "dir_mode" => mode(name, value),
        "uid" | "cruid" | "backupuid" => id(name, value, user_id),
        "gid" | "backupgid" => id(name, value, group_id),
        _ => Ok(value.to_owned()),
    }
}

fn mode(name: &str, value: &str) -> Result<String, MountError> {
    let parsed = u32::from_str_radix(value, 8).ok().filter(|mode| *mode <= 0o7777);
    let mode = parsed.ok_or_else(|| MountError::Option { word: name.to_owned(), why: "write it like 0755" })?;
    Ok(format!("0{mode:o}"))
}

fn id(name: &str, value: &str, find: fn(&str) -> Option<u32>) -> Result<String, MountError> {
    let found = value.parse().ok().or_else(|| find(value));
    let why = "there is no such user or group on this node; create it, or write its number";
    found.map(|id| id.to_string()).ok_or_else(|| MountError::Option { word: name.to_owned(), why })
}

fn user_id(name: &str) -> Option<u32> {
    User::from_name(name).ok().flatten().map(|user| user.uid.as_raw())
}

fn group_id(name: &str) -> Option<u32> {
    Group::from_name(name).ok().flatten().map(|group| group.gid.as_raw())
}

fn written(address: SocketAddr) -> String {
    match address {
        SocketAddr::V6(address) if address.scope_id() != 0 => format!("{}%{}", address.ip(), address.scope_id()),
        other => other.ip().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drivers::file_system::credentials::parse;

    const SHARE: Share<'_> = Share { host: "files", share: "users", directory: "web" };

    fn said(credentials: &str, words: &[&str]) -> Result<String, MountError> {
        let credentials = (!credentials.is_empty()).then(|| parse(credentials.as_bytes()).unwrap());
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        data(SHARE, "192.168.122.225:0".parse().unwrap(), credentials.as_ref(), &words).map(|secret| secret.reveal().to_owned())
    }

    #[test]
    fn the_kernel_is_told_share_server_and_credentials() {
        assert_eq!(
            said("username=web password=hush uid=33 gid=root dir_mode=755 file_mode=0644", &["vers=3.0", "noperm"]).unwrap(),
            "unc=\\\\files\\users,prefixpath=web,ip=192.168.122.225,user=web,pass=hush,file_mode=0644,dir_mode=0755,uid=33,gid=0,vers=3.0,noperm"
        );
        assert_eq!(
            said("username='WORK\\web' password='a,b,,c=d' domain=other", &[]).unwrap(),
            "unc=\\\\files\\users,prefixpath=web,ip=192.168.122.225,user=web,domain=WORK,pass=a,,b,,,,c=d"
        );
        assert_eq!(said("", &["guest", "uid=0"]).unwrap(), "unc=\\\\files\\users,prefixpath=web,ip=192.168.122.225,guest,uid=0");
        let own = said("username=web password=x uid=33", &["uid=34", "dir_mode=0700"]).unwrap();
        assert!(own.ends_with(",uid=34,dir_mode=0700") && !own.contains("uid=33"), "{own}");
    }

    #[test]
    fn what_the_kernel_would_misread_is_refused() {
        for (words, part) in [(["uid=no-such-user"], "uid"), (["dir_mode=rwx"], "write it like 0755"), (["file_mode=98"], "0755")] {
            let error = said("username=web password=hush", &words).unwrap_err().to_string();
            assert!(error.contains(part) && !error.contains("hush"), "{error}");
        }
        let long = format!("username=web password={}", "x".repeat(5000));
        assert!(matches!(said(&long, &[]), Err(MountError::TooLong)));
    }

    #[test]
    fn guests_and_tickets_need_no_file() {
        let words = |word: &str| vec![word.to_owned()];
        assert!(is_anonymous(&words("guest")) && is_anonymous(&words("sec=krb5i")));
        assert!(!is_anonymous(&words("sec=ntlmssp")) && !is_anonymous(&[]));
    }
}
