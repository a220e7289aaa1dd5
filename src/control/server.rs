//! The daemon's side: two listeners with the same limits. Both serve until they are told to stop, whatever clients do.

mod local;
mod remote;

use std::{io, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::{Semaphore, watch},
    task::JoinSet,
    time,
};

use super::{Handler, protocol};
use crate::{
    model::{Request, Response, Right},
    wire::MAX_ANSWER,
};

pub use local::LocalServer;
pub use remote::{Link, LinkHandler, RemoteServer};

/// Clients served at a time, on each listener; the others wait in the kernel's queue.
pub const MAX_CLIENTS: usize = 64;

/// For the whole question to arrive.
const QUESTION_DEADLINE: Duration = Duration::from_secs(1);
/// For the handler. Longer than any client waits for an ordinary question.
const HANDLER_DEADLINE: Duration = Duration::from_secs(5);
/// For the client to take the answer: bounds how long its memory is held.
const ANSWER_DEADLINE: Duration = Duration::from_secs(1);
/// After a failed accept, which is most often a lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where clients come from.
pub trait Listen {
    /// A connection.
    type Stream: Send + 'static;

    /// Waits for the next client.
    fn next_client(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

impl Listen for UnixListener {
    type Stream = UnixStream;

    async fn next_client(&self) -> io::Result<UnixStream> {
        Ok(self.accept().await?.0)
    }
}

impl Listen for TcpListener {
    type Stream = TcpStream;

    async fn next_client(&self) -> io::Result<TcpStream> {
        Ok(self.accept().await?.0)
    }
}

/// Accepts clients and converses with each in a task of its own, at most [`MAX_CLIENTS`] at a time, until `shutdown` holds
/// true or its sender is gone. Conversations still going on are then cut.
pub async fn serve_clients<Listener: Listen, Conversation>(
    listener: Listener,
    converse: impl Fn(Listener::Stream) -> Conversation,
    mut shutdown: watch::Receiver<bool>,
) where
    Conversation: Future<Output = ()> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(MAX_CLIENTS));
    let mut conversations = JoinSet::new();
    let serve = async {
        loop {
            let place = Arc::clone(&places).acquire_owned().await.expect("this semaphore is never closed");
            while conversations.try_join_next().is_some() {}
            match listener.next_client().await {
                Ok(stream) => {
                    let conversation = converse(stream);
                    conversations.spawn(async move {
                        conversation.await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a client");
                    time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    tokio::select! {
        () = serve => {}
        // An error means that the sender is gone.
        _ = shutdown.wait_for(|stop| *stop) => {}
    }
}

/// The answer to a question, as JSON that fits a frame. `more` is what this client may do beyond asking.
async fn answer(handler: &Handler, question: &[u8], more: Right) -> Vec<u8> {
    let response = match protocol::decode::<Request>(question) {
        Ok(request) if ![Right::Ask, more].contains(&request.right()) => Response::Refused(match request.right() {
            Right::Ask | Right::Steer => "the status port takes no commands: give the command on a node (drcm, as root or a member of \
                                          cluster_group); any node will do, it tells the others"
                .to_owned(),
            Right::Configure => "the client socket takes no configuration: say `drcm apply` as root".to_owned(),
        }),
        Ok(request) => time::timeout(HANDLER_DEADLINE, handler(request))
            .await
            .unwrap_or_else(|_| Response::Refused(format!("the daemon had no answer within {} seconds", HANDLER_DEADLINE.as_secs()))),
        Err(detail) => Response::Refused(format!(
            "drcm_server {} does not know this question ({detail}): run the drcm and drcm_server of the same version",
            env!("CARGO_PKG_VERSION")
        )),
    };
    let content = protocol::encode(&response);
    if content.len() <= MAX_ANSWER {
        content
    } else {
        let bytes = content.len();
        protocol::encode(&Response::Refused(format!("the answer has {bytes} bytes, more than the {MAX_ANSWER} that fit a frame")))
    }
}
