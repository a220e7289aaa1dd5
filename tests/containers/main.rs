//! Whole systems: what an administrator sees who installs drcm on real machines with a real systemd. Needs root.

mod change;
mod daemon;
mod init_script;
mod kinds;
mod lab;
mod package;
mod readme;
mod replication;
mod scripts;
mod service;
mod user;
mod web;
