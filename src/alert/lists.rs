//! Who gets mails: the addresses of the configuration and, where it names one, those of a `cm_alert_list.sh`, of which only plain
//! assignments are read. Nothing of it is run.

use std::{fs::OpenOptions, io::Read as _, os::unix::fs::MetadataExt as _, os::unix::fs::OpenOptionsExt as _, path::Path};

use lettre::Address;
use nix::libc;

use crate::config::mail_address;

/// Longest list that is read, in bytes.
const LONGEST: u64 = 64 << 10;
/// Most receivers of one kind.
const MOST: usize = 64;

/// Receivers of mails, and of text messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Receivers {
    pub(super) email: Vec<Address>,
    pub(super) text: Vec<Address>,
}

impl Receivers {
    /// Those of the configuration and of the file, each once.
    ///
    /// # Errors
    /// What is wrong, for the operator; what could be understood is there all the same.
    pub(super) fn of(email: &[String], text: &[String], file: Option<&Path>) -> (Self, Vec<String>) {
        let mut faults = Vec::new();
        let (mut email, mut text) = (email.to_vec(), text.to_vec());
        if let Some(path) = file {
            match read(path).and_then(|content| assignments(&content)) {
                Ok((more_email, more_text)) => {
                    email.extend(more_email);
                    text.extend(more_text);
                }
                Err(fault) => faults.push(format!("{} (alert_lists) cannot be used: {fault}", path.display())),
            }
        }
        let receivers = Self { email: addresses(&email, &mut faults), text: addresses(&text, &mut faults) };
        (receivers, faults)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.email.is_empty() && self.text.is_empty()
    }
}

fn addresses(names: &[String], faults: &mut Vec<String>) -> Vec<Address> {
    let mut addresses: Vec<Address> = Vec::new();
    for name in names {
        match mail_address(name) {
            Ok(address) if addresses.contains(&address) => {}
            Ok(_) if addresses.len() == MOST => {
                faults.push(format!("more than {MOST} receivers: the others get nothing"));
                break;
            }
            Ok(address) => addresses.push(address),
            Err(fault) => faults.push(fault),
        }
    }
    addresses
}

fn read(path: &Path) -> Result<String, String> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(|error| error.to_string())?;
    let metadata = file.metadata().map_err(|error| error.to_string())?;
    if !metadata.is_file() {
        return Err("it is not a regular file".to_owned());
    }
    if metadata.mode() & 0o002 != 0 {
        return Err(format!("everybody may write it; chmod o-w {}", path.display()));
    }
    let mut text = String::new();
    file.take(LONGEST + 1).read_to_string(&mut text).map_err(|error| error.to_string())?;
    if text.len() as u64 > LONGEST { Err(format!("it is longer than {LONGEST} bytes")) } else { Ok(text) }
}

/// `EMAILlist` and `TEXTlist`, the last of each.
fn assignments(text: &str) -> Result<(Vec<String>, Vec<String>), String> {
    let (mut email, mut sms) = (Vec::new(), Vec::new());
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        let line = line.strip_prefix("export ").unwrap_or(line).trim_start();
        let Some((name, value)) = line.split_once('=') else { continue };
        let list = match name {
            "EMAILlist" => &mut email,
            "TEXTlist" => &mut sms,
            _ => continue,
        };
        let value = plain(value).ok_or_else(|| {
            format!("line {}: {name} is not a plain list; it is read, not run: write the addresses themselves, in quotes", number + 1)
        })?;
        *list = value.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect();
    }
    Ok((email, sms))
}

/// A word of shell that means itself: in quotes, or bare; a comment may follow.
fn plain(value: &str) -> Option<&str> {
    let (word, rest) = match value.chars().next() {
        Some(quote @ ('"' | '\'')) => value[1..].split_once(quote)?,
        _ => value.split_once([' ', '\t']).unwrap_or((value, "")),
    };
    let rest = rest.trim_start();
    let alone = rest.is_empty() || rest.starts_with('#') || rest == ";";
    (alone && !word.contains(['$', '`', '\\', '"', '\''])).then_some(word)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[test]
    fn the_documented_list_is_read_and_nothing_is_run() {
        let text = "# Set your comma delimited alert lists here\nexport EMAILlist=\"root,name@example.com\"\nexport TEXTlist=\"555-555-5555@mobile.example.com\" # mine\n";
        let (email, sms) = assignments(text).unwrap();
        assert_eq!(email, ["root", "name@example.com"]);
        assert_eq!(sms, ["555-555-5555@mobile.example.com"]);
        assert_eq!(assignments("EMAILlist=root\nTEXTlist=''\nOTHER=$(reboot)\n").unwrap().0, ["root"]);
        for text in ["EMAILlist=\"$(reboot)\"", "EMAILlist=\"a,$X\"", "EMAILlist=`id`", "EMAILlist=\"a\"; reboot", "EMAILlist=\"a"] {
            assert!(assignments(text).unwrap_err().contains("line 1"), "{text}");
        }
    }

    #[test]
    fn receivers_are_told_once_and_faults_are_named() {
        let file = std::env::temp_dir().join(format!("drcm-lists-{}", std::process::id()));
        fs::write(&file, "EMAILlist=\"root,b@example.com\"\n").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let (receivers, faults) = Receivers::of(&names(&["b@example.com", "not an address"]), &[], Some(&file));
        let email: Vec<String> = receivers.email.iter().map(ToString::to_string).collect();
        assert_eq!(email, ["b@example.com", "root@localhost"]);
        assert!(faults.len() == 1 && faults[0].contains("not an address"), "{faults:?}");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o646)).unwrap();
        let (receivers, faults) = Receivers::of(&[], &[], Some(&file));
        assert!(receivers.is_empty() && faults[0].contains("chmod o-w"), "{faults:?}");
        fs::remove_file(file).unwrap();
    }
}
