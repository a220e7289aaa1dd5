//! The utilities as programs, without a cluster: locks under concurrency, alerts and their throttle, what is read out of a report.
//! What needs machines is tried on whole systems in tests/containers.

mod alerts;
mod locks;
mod report;
mod workspace;
