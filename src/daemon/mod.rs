//! What runs one node.
//!
//! Owns the threads and tasks of the daemon and joins the other rooms together; decides nothing about ownership itself.

pub mod logs;
