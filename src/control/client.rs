//! Asking daemons, without blocking. The whole exchange with one daemon, connecting included, is bounded by the timeout;
//! several are asked at once, so that a dead one costs nothing as long as another answers.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::unix::fs::MetadataExt,
    path::Path,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use nix::unistd::{Gid, Group};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream, UnixStream},
    time,
};

use super::{
    ControlError,
    protocol::{self, FrameError},
    random, socket_path,
};
use crate::{
    model::{Request, Response},
    wire::{Channel, HELLO_LENGTH, Introduction, MAX_ANSWER, Opening},
};

/// Who asks another node.
#[derive(Clone, Copy)]
pub struct Caller<'a> {
    /// What it proves to know.
    pub authkey: &'a [u8],
    /// Its address. Firewalls know the nodes by their `keep_alive_ip`, while the kernel would take a floating address where that is the
    /// nearer one. Where this is no address of this machine, the kernel chooses.
    pub from: Option<IpAddr>,
}

impl<'a> From<&'a [u8]> for Caller<'a> {
    /// From whatever address.
    fn from(authkey: &'a [u8]) -> Self {
        Self { authkey, from: None }
    }
}

/// Asks the daemon of this machine.
///
/// # Errors
/// It is not running, may not be asked, or does not answer in time.
pub async fn ask_local(run_dir: &Path, request: &Request, timeout: Duration) -> Result<Response, ControlError> {
    let socket = socket_path(run_dir);
    let whom = || format!("the daemon at {}", socket.display());
    let exchange = async {
        let mut stream = connect_local(&socket).await?;
        // A daemon that refuses early may close before it has read all: its answer is still there to read.
        let written = protocol::write_frame(&mut stream, &protocol::encode(request)).await;
        let answer = protocol::read_frame(&mut stream, MAX_ANSWER).await.map_err(|error| match (error, written) {
            (FrameError::TooLong { bytes }, _) => too_long(whom(), bytes),
            (FrameError::Io(_), Err(source)) | (FrameError::Io(source), Ok(())) => broken(whom(), source),
        })?;
        protocol::decode(&answer).map_err(|detail| ControlError::Protocol { whom: whom(), detail })
    };
    time::timeout(timeout, exchange).await.unwrap_or_else(|_| Err(ControlError::TimedOut { whom: whom(), after: timeout }))
}

/// Asks the daemon of another node over its status port.
///
/// # Errors
/// It cannot be reached, has another authkey, or does not answer in time.
pub async fn ask_remote(address: SocketAddr, caller: Caller<'_>, request: &Request, timeout: Duration) -> Result<Response, ControlError> {
    let whom = || format!("the node at {address}");
    let exchange = async {
        let io_error = |source| broken(whom(), source);
        let seal_error = |source| ControlError::Seal { whom: whom(), source };
        let mut stream = connect(address, caller.from).await.map_err(|source| ControlError::Unreachable { whom: whom(), source })?;
        let mut channel = put_question(&mut stream, address, caller.authkey, &protocol::encode(request)).await?;
        let mut length = [0; 4];
        stream.read_exact(&mut length).await.map_err(io_error)?;
        let sealed = channel.sealed_length(length).map_err(seal_error)?;
        let sealed = protocol::read_bytes(&mut stream, sealed as u64).await.map_err(io_error)?;
        let content = channel.open(sealed).map_err(seal_error)?;
        protocol::decode(&content).map_err(|detail| ControlError::Protocol { whom: whom(), detail })
    };
    time::timeout(timeout, exchange).await.unwrap_or_else(|_| Err(ControlError::TimedOut { whom: whom(), after: timeout }))
}

async fn connect(address: SocketAddr, from: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    if let Some(from) = from {
        // Better asked from another address than not at all.
        socket.bind(SocketAddr::new(from, 0)).ok();
    }
    socket.connect(address).await
}

/// Makes a connected stream one for heartbeats: the other end proves that it knows the authkey, and is told who talks to it.
/// Not bounded in time: that is the caller's, as connecting was.
///
/// # Errors
/// It has another authkey, or the connection breaks.
pub async fn introduce(
    stream: &mut TcpStream,
    address: SocketAddr,
    authkey: &[u8],
    introduction: Introduction,
) -> Result<(), ControlError> {
    put_question(stream, address, authkey, &introduction.question()).await.map(drop)
}

/// The hellos, and the question.
async fn put_question(stream: &mut TcpStream, address: SocketAddr, authkey: &[u8], question: &[u8]) -> Result<Channel, ControlError> {
    let whom = || format!("the node at {address}");
    let io_error = |source| broken(whom(), source);
    let seal_error = |source| ControlError::Seal { whom: whom(), source };
    let (opening, hello) = Opening::new(authkey, random()?);
    stream.set_nodelay(true).map_err(io_error)?;
    stream.write_all(&hello).await.map_err(io_error)?;
    let mut answer = [0; HELLO_LENGTH];
    stream.read_exact(&mut answer).await.map_err(io_error)?;
    let mut channel = opening.finish(&answer).map_err(seal_error)?;
    let question = channel.seal(question).map_err(seal_error)?;
    stream.write_all(&question).await.map_err(io_error)?;
    Ok(channel)
}

/// Asks all these nodes at once; the first good answer counts, with its sender. A refusal is passed on only when nobody
/// has a better answer.
///
/// # Errors
/// Nobody answered: why, for each.
pub async fn ask_any(
    addresses: &[SocketAddr],
    caller: Caller<'_>,
    request: &Request,
    timeout: Duration,
) -> Result<(SocketAddr, Response), ControlError> {
    let ask = async |address: SocketAddr| (address, ask_remote(address, caller, request, timeout).await);
    let mut asked: FuturesUnordered<_> = addresses.iter().map(|address| ask(*address)).collect();
    let mut refused = None;
    let mut failures = Vec::new();
    while let Some((address, answer)) = asked.next().await {
        match answer {
            Ok(refusal @ Response::Refused(_)) => refused = Some((address, refusal)),
            Ok(good) => return Ok((address, good)),
            Err(failure) => failures.push((address, failure)),
        }
    }
    failures.sort_by_key(|(address, _)| addresses.iter().position(|other| other == address));
    refused.ok_or(ControlError::NobodyAnswered { failures })
}

/// Connects to the client socket. Its queue may be full for a moment.
async fn connect_local(socket: &Path) -> Result<UnixStream, ControlError> {
    let mut pause = Duration::from_millis(1);
    let began = Instant::now();
    loop {
        match UnixStream::connect(socket).await {
            Ok(stream) => return Ok(stream),
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                    return Err(ControlError::NotRunning { socket: socket.into() });
                }
                io::ErrorKind::PermissionDenied => {
                    return Err(ControlError::Denied { socket: socket.into(), group: group_of(socket) });
                }
                io::ErrorKind::WouldBlock if began.elapsed() < Duration::from_secs(10) => {
                    time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_millis(50));
                }
                _ => return Err(ControlError::Unreachable { whom: format!("the daemon at {}", socket.display()), source: error }),
            },
        }
    }
}

/// The group of the socket, for people.
fn group_of(socket: &Path) -> String {
    let gid = socket.symlink_metadata().map(|metadata| Gid::from_raw(metadata.gid()));
    let group = gid.ok().and_then(|gid| Group::from_gid(gid).ok().flatten());
    group.map_or_else(|| "cluster_group".into(), |group| format!("the group {}", group.name))
}

/// An end of the stream means something else than a broken network.
fn broken(whom: String, source: io::Error) -> ControlError {
    match source.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => ControlError::Closed { whom },
        _ => ControlError::Unreachable { whom, source },
    }
}

fn too_long(whom: String, bytes: u32) -> ControlError {
    ControlError::Protocol { whom, detail: format!("an answer of {bytes} bytes, more than the {MAX_ANSWER} allowed") }
}
