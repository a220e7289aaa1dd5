//! Questions to a daemon and its answers: over the client socket on the same machine, over the sealed status port between
//! nodes.
//!
//! Owns the frames, the socket file and who may use it, and the limits that keep a slow, broken or hostile client from
//! costing the daemon anything. Knows nothing of what the answers mean: a [`Handler`] gives them.
//!
//! Commands of operators are taken on the client socket only, from root, `cluster_user` and the members of `cluster_group`, by
//! the kernel's word on who asks.
//!
//! One connection carries one question and one answer. On the client socket both are JSON behind a length (4 bytes,
//! little-endian); on the status port the same JSON travels inside [`wire::Channel`](crate::wire::Channel).

pub mod blocking;
pub mod client;
mod error;
mod protocol;
mod server;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use futures_util::future::BoxFuture;

use crate::model::{Request, Response};

pub use crate::wire::MAX_QUESTION;
pub use error::ControlError;
pub use server::{Link, LinkHandler, Listen, LocalServer, MAX_CLIENTS, RemoteServer, serve_clients};

/// Answers a question. May take a few seconds; beyond that the client is told so and the answer is dropped.
pub type Handler = Arc<dyn Fn(Request) -> BoxFuture<'static, Response> + Send + Sync>;

/// The client socket of the daemon with this `run_dir`.
#[must_use]
pub fn socket_path(run_dir: &Path) -> PathBuf {
    run_dir.join("drcm_server.sock")
}

/// The random part of a hello.
fn random() -> Result<[u8; 32], ControlError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|_| ControlError::Random)?;
    Ok(bytes)
}
