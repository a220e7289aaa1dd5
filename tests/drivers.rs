//! The drivers against the real thing: addresses in network namespaces made for each test, children and users of this
//! machine. Needs root, a kernel with network namespaces, and `ip` of iproute2; fails where it does not find them.
//!
//! Each test is a process of its own under nextest: it may change namespaces at will, and what it made vanishes with it.

#[path = "drivers/address.rs"]
mod address;
#[path = "drivers/address_order.rs"]
mod address_order;
#[path = "drivers/application.rs"]
mod application;
#[path = "drivers/child.rs"]
mod child;
#[path = "drivers/crontab.rs"]
mod crontab;
#[path = "drivers/file_system.rs"]
mod file_system;
#[path = "drivers/namespace.rs"]
mod namespace;
#[path = "drivers/script.rs"]
mod script;
#[path = "drivers/workspace.rs"]
mod workspace;
