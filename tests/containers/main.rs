//! Whole systems: what an administrator sees who installs drcm on real machines with a real systemd. Needs root.

mod daemon;
mod kinds;
mod lab;
mod service;
mod web;
