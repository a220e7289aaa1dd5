//! systemd's notify socket, spoken by hand: one datagram of `KEY=value` lines.

use std::{
    env, io,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram},
    },
    time::Duration,
};

/// The way to the service manager that started us; silent when there is none.
#[derive(Debug, Default)]
pub struct Notify {
    socket: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

/// What to tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// Start-up, or reading the configuration again, is done.
    Ready,
    /// The configuration is being read again, since this time of the monotonic clock.
    Reloading(Duration),
    /// Still alive.
    Watchdog,
    /// Shutting down.
    Stopping,
    /// A line for `systemctl status`.
    Status(&'a str),
}

impl Notify {
    /// From NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID of our environment.
    ///
    /// # Errors
    /// When a socket is named that cannot be used; the daemon runs on without it.
    pub fn from_environment() -> io::Result<Self> {
        let watchdog_is_ours = env::var("WATCHDOG_PID").map_or(true, |pid| pid == std::process::id().to_string());
        let watchdog = env::var("WATCHDOG_USEC").ok().filter(|_| watchdog_is_ours).and_then(|text| text.parse().ok());
        let Some(name) = env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else { return Ok(Self::default()) };
        let address = match name.as_encoded_bytes().strip_prefix(b"@") {
            Some(abstract_name) => SocketAddr::from_abstract_name(abstract_name)?,
            None => SocketAddr::from_pathname(&name)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket: Some((socket, address)), watchdog: watchdog.filter(|span| *span > 0).map(Duration::from_micros) })
    }

    /// How often the service manager wants to hear [`Message::Watchdog`] at least; send it twice as often.
    #[must_use]
    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// Sends one message. Never blocks: a service manager that does not read must not stop the lease loop.
    ///
    /// # Errors
    /// When the datagram was not taken.
    pub fn send(&self, message: Message<'_>) -> io::Result<()> {
        let Some((socket, address)) = &self.socket else { return Ok(()) };
        let text = match message {
            Message::Ready => "READY=1".to_owned(),
            Message::Reloading(since) => format!("RELOADING=1\nMONOTONIC_USEC={}", since.as_micros()),
            Message::Watchdog => "WATCHDOG=1".to_owned(),
            Message::Stopping => "STOPPING=1".to_owned(),
            // One line: what follows a line feed would be read as another key.
            Message::Status(status) => format!("STATUS={}", status.replace(['\n', '\r'], " ")),
        };
        socket.send_to_addr(text.as_bytes(), address).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_arrive_as_systemd_reads_them() {
        let address = SocketAddr::from_abstract_name(format!("drcm-notify-test-{}", std::process::id())).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        let notify = Notify { socket: Some((UnixDatagram::unbound().unwrap(), address)), watchdog: None };
        let mut buffer = [0; 64];
        for (message, text) in [
            (Message::Ready, "READY=1"),
            (Message::Reloading(Duration::from_millis(7)), "RELOADING=1\nMONOTONIC_USEC=7000"),
            (Message::Watchdog, "WATCHDOG=1"),
            (Message::Stopping, "STOPPING=1"),
            (Message::Status("two\nlines"), "STATUS=two lines"),
        ] {
            notify.send(message).unwrap();
            let length = manager.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], text.as_bytes());
        }
        Notify::default().send(Message::Ready).unwrap();
    }
}
