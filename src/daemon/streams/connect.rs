//! Opening a connection, and what every connection is set to.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use nix::sys::socket::{setsockopt, sockopt};
use tokio::{
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use crate::{config::AuthKey, control::client::introduce, wire::Introduction};

/// Bytes under way or waiting in the kernel, each way: a few dozen heartbeats. More would only grow old there.
const BUFFER: u32 = 16 << 10;
/// A connection at rest is looked at after so many seconds, then every few, before it is given up.
const KEEPALIVE_SECONDS: u32 = 15;

/// The times of one peer's connections, all from T: how much silence makes it dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Data that is not acknowledged for so long ends the connection: a new one is up sooner than the old one's next try.
    pub stall: Duration,
    /// Longest time for connecting and the proofs.
    pub dial: Duration,
    /// First and longest time from the beginning of a try that fails to the next try.
    pub backoff: (Duration, Duration),
}

impl Limits {
    /// For a peer with this T. A break much shorter than T must be overcome within T, so each step takes a part of it only.
    pub fn for_silence(silence: Duration) -> Self {
        let part = |of: u32, least: u64, most: u64| (silence / of).clamp(Duration::from_millis(least), Duration::from_millis(most));
        Self { stall: part(4, 300, 5_000), dial: part(6, 500, 3_000), backoff: (part(8, 10, 100), part(8, 100, 5_000)) }
    }

    /// Time from the beginning of this try, counted from 1 since the last success, to the next one's; `chance` is drawn anew for
    /// each. At least half of the full wait.
    pub fn wait(&self, attempt: u32, chance: u32) -> Duration {
        let (first, longest) = self.backoff;
        let full = (first * 2_u32.pow(attempt.saturating_sub(1).min(10))).min(longest);
        full / 2 + full / 2 * (chance >> 16) / (1 << 16)
    }
}

/// Connects from `source`, if given, and introduces this node. An error is the reason, for the log.
pub async fn dial(
    address: SocketAddr,
    source: Option<IpAddr>,
    authkey: &AuthKey,
    introduction: Introduction,
    limits: Limits,
) -> Result<TcpStream, String> {
    let connect = async {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.map_err(|error| error.to_string())?;
        // Before connecting: they decide the window that is offered.
        set(&socket, limits).map_err(|error| error.to_string())?;
        if let Some(source) = source {
            socket.bind(SocketAddr::new(source, 0)).map_err(|error| format!("{source} is not an address of this machine: {error}"))?;
        }
        let mut stream = socket.connect(address).await.map_err(|error| error.to_string())?;
        introduce(&mut stream, address, authkey.bytes(), introduction).await.map_err(|error| error.to_string())?;
        Ok(stream)
    };
    timeout(limits.dial, connect).await.unwrap_or_else(|_| Err(format!("no answer within {} ms", limits.dial.as_millis())))
}

/// What a connection that the peer opened is set to.
pub fn adopt(stream: &TcpStream, limits: Limits) -> io::Result<()> {
    stream.set_nodelay(true)?;
    set(stream, limits)
}

fn set(socket: &impl std::os::fd::AsFd, limits: Limits) -> io::Result<()> {
    setsockopt(socket, sockopt::TcpUserTimeout, &u32::try_from(limits.stall.as_millis()).unwrap_or(u32::MAX))?;
    setsockopt(socket, sockopt::SndBuf, &(BUFFER as usize))?;
    setsockopt(socket, sockopt::RcvBuf, &(BUFFER as usize))?;
    setsockopt(socket, sockopt::KeepAlive, &true)?;
    setsockopt(socket, sockopt::TcpKeepIdle, &KEEPALIVE_SECONDS)?;
    setsockopt(socket, sockopt::TcpKeepInterval, &(KEEPALIVE_SECONDS / 3))?;
    setsockopt(socket, sockopt::Priority, &6)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_limit_and_differ_by_chance() {
        let limits = Limits::for_silence(Duration::from_secs(60));
        assert_eq!(limits.backoff, (Duration::from_millis(100), Duration::from_secs(5)));
        let half = |failures| limits.wait(failures, 0);
        assert_eq!([1, 2, 3, 7, 1000].map(half), [50, 100, 200, 2500, 2500].map(Duration::from_millis));
        for failures in 1..20 {
            let (least, most) = (limits.wait(failures, 0), limits.wait(failures, u32::MAX));
            assert!(most > least.mul_f64(1.9) && most <= least * 2, "{least:?} {most:?}");
        }
    }

    #[test]
    fn every_step_of_a_recovery_takes_a_part_of_the_silence_only() {
        for seconds in [3, 6, 15, 60, 600] {
            let silence = Duration::from_secs(seconds);
            let limits = Limits::for_silence(silence);
            assert!(limits.dial.max(limits.backoff.1) + limits.stall < silence / 2, "{seconds} s: {limits:?}");
        }
    }
}
