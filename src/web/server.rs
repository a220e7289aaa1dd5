//! The listener: few visitors at a time, each for a short time.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    time::timeout,
};

use super::site::Site;
use crate::control::serve_clients;

/// For a visitor to say what it wants.
const QUESTION_DEADLINE: Duration = Duration::from_secs(5);
/// For all of it: bounds how long the memory of an answer is held.
const DEADLINE: Duration = Duration::from_secs(20);
/// Longest question, in bytes, with all its headers.
const LONGEST_QUESTION: usize = 16 * 1024;

/// Listens for visitors.
pub struct WebServer {
    listener: TcpListener,
}

impl WebServer {
    /// Listens on this address.
    ///
    /// # Errors
    /// The address is taken, or not (yet) one of this machine.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        Ok(Self { listener: TcpListener::bind(address).await? })
    }

    /// The address listened on; `None` if the kernel does not tell.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.listener.local_addr().ok()
    }

    /// Shows the site until `shutdown` holds true or its sender is gone.
    pub async fn serve(self, site: Site, shutdown: watch::Receiver<bool>) {
        let site = Arc::new(site);
        serve_clients(self.listener, move |stream| answer(stream, site.clone()), shutdown).await;
    }
}

/// One question and its answer.
async fn answer(stream: TcpStream, site: Arc<Site>) {
    let service = service_fn(|question| {
        let site = site.clone();
        async move { Ok::<_, Infallible>(site.answer(&question).await) }
    });
    let mut http = http1::Builder::new();
    http.keep_alive(false).timer(TokioTimer::new()).header_read_timeout(QUESTION_DEADLINE).max_buf_size(LONGEST_QUESTION);
    // The reason is of interest only to who looks for it: anybody can cause one.
    match timeout(DEADLINE, http.serve_connection(TokioIo::new(stream), service)).await {
        Ok(Ok(())) => {}
        Ok(Err(reason)) => tracing::trace!("a visitor of the status page was dropped: {reason}"),
        Err(_) => tracing::trace!("a visitor of the status page took too long"),
    }
}
