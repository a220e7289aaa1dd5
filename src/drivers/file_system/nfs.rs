//! NFS as mount(2) wants it: the address of the server, a version, and for version 4 an address of ours. The kernel speaks
//! the MOUNT protocol of version 3 by itself.

use std::net::{IpAddr, SocketAddr, SocketAddrV6, UdpSocket};

use nix::errno::Errno;

use super::options::{has, value_of};

/// Versions that are tried when the options name none.
const VERSIONS: [&str; 4] = ["4.2", "4.1", "4.0", "3"];
/// The port of NFS 4; a socket is connected to it, which sends nothing.
const PORT: u16 = 2049;

/// One way to ask for a mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Attempt {
    /// The version as the kernel reads it.
    pub(super) version: String,
    /// What the kernel is told.
    pub(super) data: String,
}

/// What to try, in this order.
pub(super) fn attempts(words: &[String], server: SocketAddr) -> Vec<Attempt> {
    let others: Vec<&String> = words.iter().filter(|word| version_in(word).is_none()).collect();
    versions(words)
        .into_iter()
        .map(|version| {
            let mut data = vec![format!("vers={version}"), format!("addr={}", written(server))];
            if version.starts_with('4') {
                data.extend(own_address(server).map(|own| format!("clientaddr={own}")));
            } else {
                let mut say = |name: &str, value: String| {
                    if !has(words, &[name]) {
                        data.push(format!("{name}={value}"));
                    }
                };
                // The protocol of the mount question follows that of the mount, and the family that of the address.
                let datagrams = has(words, &["udp"]) || value_of(words, &["proto"]).is_some_and(|proto| proto.starts_with("udp"));
                let protocol = if datagrams { "udp" } else { "tcp" };
                let family = if server.is_ipv6() { "6" } else { "" };
                say("mountaddr", written(server));
                say("mountproto", format!("{protocol}{family}"));
                if version == "3" {
                    say("mountvers", "3".into());
                }
            }
            data.extend(others.iter().map(|word| (*word).clone()));
            Attempt { version, data: data.join(",") }
        })
        .collect()
}

/// Whether another version may fare better after this answer.
pub(super) fn try_next(errno: Errno, next: &str) -> bool {
    match errno {
        Errno::EPROTONOSUPPORT | Errno::EINVAL | Errno::EOPNOTSUPP => true,
        // Of version 4 alone: servers without it refuse the port, or know the export under another name.
        Errno::ECONNREFUSED | Errno::ENOENT | Errno::EPERM | Errno::EACCES => next == "3",
        _ => false,
    }
}

/// Locks of version 3 are kept by a program on this side.
pub(super) fn needs_statd(version: &str, words: &[String]) -> bool {
    !version.starts_with('4') && !has(words, &["nolock"]) && value_of(words, &["local_lock"]) != Some("all")
}

fn versions(words: &[String]) -> Vec<String> {
    let named = words.iter().rev().filter(|word| !word.starts_with("minorversion=")).find_map(|word| version_in(word));
    let minor = value_of(words, &["minorversion"]);
    match (named, minor) {
        (None, None) => VERSIONS.map(str::to_owned).into(),
        (None | Some("4"), Some(minor)) => vec![format!("4.{minor}")],
        (Some("4"), None) => VERSIONS.iter().filter(|version| version.starts_with('4')).map(|version| (*version).to_owned()).collect(),
        (Some(version), _) => vec![version.to_owned()],
    }
}

/// The version that a word names: `vers=4.2`, `nfsvers=3`, `v4.1`; a minor version counts as one.
fn version_in(word: &str) -> Option<&str> {
    match word.split_once('=') {
        Some(("vers" | "nfsvers" | "minorversion", version)) => Some(version),
        Some(_) => None,
        None => word.strip_prefix('v').filter(|version| version.starts_with(['2', '3', '4'])),
    }
}

/// An address without its port, with its zone.
fn written(address: SocketAddr) -> String {
    match address {
        SocketAddr::V6(address) if address.scope_id() != 0 => format!("{}%{}", address.ip(), address.scope_id()),
        other => other.ip().to_string(),
    }
}

/// The address of ours that the server sees; where it calls back for version 4.0.
fn own_address(server: SocketAddr) -> Option<String> {
    let (any, target) = match server {
        SocketAddr::V4(address) => (SocketAddr::from(([0, 0, 0, 0], 0)), SocketAddr::from((*address.ip(), PORT))),
        SocketAddr::V6(address) => {
            let target = SocketAddrV6::new(*address.ip(), PORT, 0, address.scope_id());
            (SocketAddr::from(([0_u16; 8], 0)), SocketAddr::V6(target))
        }
    };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(target).ok()?;
    let own: IpAddr = socket.local_addr().ok()?.ip();
    (!own.is_unspecified()).then(|| own.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(words: &str, server: &str) -> Vec<String> {
        let words: Vec<String> = words.split(',').filter(|word| !word.is_empty()).map(str::to_owned).collect();
        attempts(&words, server.parse().unwrap()).into_iter().map(|attempt| attempt.data).collect()
    }

    #[test]
    fn every_version_is_tried_when_none_is_named() {
        assert_eq!(
            data("hard,timeo=600", "127.0.0.1:0"),
            [
                "vers=4.2,addr=127.0.0.1,clientaddr=127.0.0.1,hard,timeo=600",
                "vers=4.1,addr=127.0.0.1,clientaddr=127.0.0.1,hard,timeo=600",
                "vers=4.0,addr=127.0.0.1,clientaddr=127.0.0.1,hard,timeo=600",
                "vers=3,addr=127.0.0.1,mountaddr=127.0.0.1,mountproto=tcp,mountvers=3,hard,timeo=600",
            ]
        );
    }

    #[test]
    fn a_version_that_is_named_is_kept_to() {
        for words in ["vers=4.1", "nfsvers=4.1", "v4.1", "vers=4,minorversion=1", "minorversion=1", "vers=3,vers=4.1"] {
            assert_eq!(data(words, "127.0.0.1:0"), ["vers=4.1,addr=127.0.0.1,clientaddr=127.0.0.1"], "{words}");
        }
        assert_eq!(data("nfsvers=4", "127.0.0.1:0").len(), 3);
        assert_eq!(data("v3,nolock", "127.0.0.1:0"), ["vers=3,addr=127.0.0.1,mountaddr=127.0.0.1,mountproto=tcp,mountvers=3,nolock"]);
        assert_eq!(
            data("vers=3,proto=udp,mountproto=tcp,mountport=4000", "127.0.0.1:0"),
            ["vers=3,addr=127.0.0.1,mountaddr=127.0.0.1,mountvers=3,proto=udp,mountproto=tcp,mountport=4000"]
        );
        assert_eq!(data("vers=3,udp", "127.0.0.1:0"), ["vers=3,addr=127.0.0.1,mountaddr=127.0.0.1,mountproto=udp,mountvers=3,udp"]);
    }

    #[test]
    fn ipv6_has_its_own_protocol_names_and_zones() {
        assert_eq!(data("vers=3", "[::1]:0"), ["vers=3,addr=::1,mountaddr=::1,mountproto=tcp6,mountvers=3"]);
        assert_eq!(data("vers=4.2", "[::1]:0"), ["vers=4.2,addr=::1,clientaddr=::1"]);
        let zoned = SocketAddr::V6(SocketAddrV6::new("fe80::1".parse().unwrap(), 0, 0, 7));
        assert_eq!(written(zoned), "fe80::1%7");
    }

    #[test]
    fn only_what_another_version_may_mend_is_tried_again() {
        assert!(try_next(Errno::EPROTONOSUPPORT, "4.1") && try_next(Errno::EINVAL, "3"));
        assert!(try_next(Errno::ECONNREFUSED, "3") && try_next(Errno::ENOENT, "3"));
        for (errno, next) in [(Errno::ETIMEDOUT, "4.1"), (Errno::ECONNREFUSED, "4.1"), (Errno::ENODEV, "3"), (Errno::EPERM, "4.0")] {
            assert!(!try_next(errno, next), "{errno} {next}");
        }
    }

    #[test]
    fn locks_need_help_in_version_three_only() {
        let words = |text: &str| vec![text.to_owned()];
        assert!(needs_statd("3", &[]));
        assert!(!needs_statd("4.0", &[]) && !needs_statd("3", &words("nolock")) && !needs_statd("3", &words("local_lock=all")));
    }
}
