//! The status page and the metrics, over HTTP: read only, off unless `status_listen` is given.
//!
//! Owns who may look (a token, or a loopback address called by its own name), the limits of visitors, and how the cluster is
//! shown. It asks the daemon as any client does, and many visitors cost no more than one.

mod access;
mod meters;
mod metrics;
mod server;
mod site;

pub use access::Access;
pub use meters::Meters;
pub use server::WebServer;
pub use site::Site;
