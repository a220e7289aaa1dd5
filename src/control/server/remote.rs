//! The status port: sealed questions of other nodes. Who does not know the authkey gets no byte. A node that introduces itself
//! in place of a question keeps its stream, for heartbeats: [`Link`].

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    time,
};

use super::{ANSWER_DEADLINE, QUESTION_DEADLINE, answer, serve_clients};
use crate::{
    control::{ControlError, Handler, protocol, random},
    model::Right,
    wire::{Channel, HELLO_LENGTH, Introduction, answer_hello},
};

/// For an unknown client to show that it has the authkey: a place is not held longer for less.
const HELLO_DEADLINE: Duration = Duration::from_millis(500);

/// A stream whose other end has shown, just now, that it knows the authkey, and that carries datagrams from here on.
#[derive(Debug)]
pub struct Link {
    /// The stream.
    pub stream: TcpStream,
    /// Whose it is.
    pub introduction: Introduction,
}

/// Takes streams for heartbeats; must not block. One that is dropped is closed.
pub type LinkHandler = Arc<dyn Fn(Link) + Send + Sync>;

/// Listens on the status port.
pub struct RemoteServer {
    listener: TcpListener,
    authkey: Arc<[u8]>,
    links: Option<LinkHandler>,
}

impl RemoteServer {
    /// Listens on this address.
    ///
    /// # Errors
    /// The address is taken, or not (yet) one of this machine.
    pub async fn bind(address: SocketAddr, authkey: &[u8]) -> Result<Self, ControlError> {
        let listener = TcpListener::bind(address).await.map_err(|source| ControlError::Listen { address, source })?;
        Ok(Self { listener, authkey: authkey.into(), links: None })
    }

    /// Hands streams for heartbeats to this handler; without one they are closed.
    #[must_use]
    pub fn with_links(self, links: LinkHandler) -> Self {
        Self { links: Some(links), ..self }
    }

    /// The address listened on; `None` if the kernel does not tell.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.listener.local_addr().ok()
    }

    /// Answers other nodes until `shutdown` holds true or its sender is gone.
    pub async fn serve(self, handler: Handler, shutdown: watch::Receiver<bool>) {
        let Self { listener, authkey, links } = self;
        let converse = |stream| {
            let (authkey, handler, links) = (Arc::clone(&authkey), handler.clone(), links.clone());
            async move {
                // The reason is of interest only to who looks for it: anybody can cause one.
                if let Err(reason) = converse(stream, &authkey, &handler, links.as_ref()).await {
                    tracing::trace!(reason, "a client of the status port was dropped");
                }
            }
        };
        serve_clients(listener, converse, shutdown).await;
    }
}

/// One question and its answer. The error says where it ended.
async fn converse(mut stream: TcpStream, authkey: &[u8], handler: &Handler, links: Option<&LinkHandler>) -> Result<(), &'static str> {
    stream.set_nodelay(true).map_err(|_| "the connection is broken")?;
    let mut hello = [0; HELLO_LENGTH];
    time::timeout(HELLO_DEADLINE, stream.read_exact(&mut hello)).await.map_err(|_| "no hello in time")?.map_err(|_| "no hello")?;
    let random = random().map_err(|_| "no random numbers")?;
    let (mut channel, reply) = answer_hello(authkey, random, &hello).map_err(|_| "a hello without our authkey")?;
    let question = time::timeout(QUESTION_DEADLINE, read_question(&mut stream, &mut channel, &reply));
    let question = question.await.map_err(|_| "no question in time")??;
    if let Some(introduction) = Introduction::read(&question) {
        links.ok_or("nobody takes links here")?(Link { stream, introduction });
        return Ok(());
    }
    let content = answer(handler, &question, Right::Configure).await;
    let frame = channel.seal(&content).map_err(|_| "the answer could not be sealed")?;
    drop(content);
    let written = time::timeout(ANSWER_DEADLINE, stream.write_all(&frame)).await;
    written.map_err(|_| "the answer was not taken in time")?.map_err(|_| "the answer was not taken")
}

async fn read_question(stream: &mut TcpStream, channel: &mut Channel, reply: &[u8]) -> Result<Vec<u8>, &'static str> {
    stream.write_all(reply).await.map_err(|_| "our hello was not taken")?;
    let mut length = [0; 4];
    stream.read_exact(&mut length).await.map_err(|_| "no question")?;
    let length = channel.sealed_length(length).map_err(|_| "the question is too long")?;
    let sealed = protocol::read_bytes(stream, length as u64).await.map_err(|_| "half a question")?;
    channel.open(sealed).map_err(|_| "the question's seal does not match")
}
