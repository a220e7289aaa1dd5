//! The questions of [`client`] for callers that have nothing else to do: the command line. Not to be called
//! from asynchronous code.

use std::{net::SocketAddr, path::Path, time::Duration};

use tokio::runtime::{Builder, Runtime};

use super::{
    ControlError,
    client::{self, Caller},
};
use crate::model::{Request, Response};

/// See [`client::ask_local`].
///
/// # Errors
/// As there.
pub fn ask_local(run_dir: &Path, request: &Request, timeout: Duration) -> Result<Response, ControlError> {
    runtime()?.block_on(client::ask_local(run_dir, request, timeout))
}

/// See [`client::ask_remote`].
///
/// # Errors
/// As there.
pub fn ask_remote(address: SocketAddr, caller: Caller<'_>, request: &Request, timeout: Duration) -> Result<Response, ControlError> {
    runtime()?.block_on(client::ask_remote(address, caller, request, timeout))
}

/// See [`client::ask_any`].
///
/// # Errors
/// As there.
pub fn ask_any(
    addresses: &[SocketAddr],
    caller: Caller<'_>,
    request: &Request,
    timeout: Duration,
) -> Result<(SocketAddr, Response), ControlError> {
    runtime()?.block_on(client::ask_any(addresses, caller, request, timeout))
}

fn runtime() -> Result<Runtime, ControlError> {
    Builder::new_current_thread().enable_all().build().map_err(ControlError::Runtime)
}
