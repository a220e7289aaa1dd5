//! The rooms of the project that read what outsiders and administrators write, under the project's name, built from its own
//! sources: the other rooms, and the dependencies that only they have, would double the time it takes to build a target.

#[path = "../../src/cluster/mod.rs"]
pub mod cluster;
#[path = "../../src/config/mod.rs"]
pub mod config;
#[path = "../../src/control/mod.rs"]
pub mod control;
#[path = "../../src/model/mod.rs"]
pub mod model;
#[path = "../../src/wire/mod.rs"]
pub mod wire;

/// What is fuzzed; shared with the tests, which know the project under this name.
#[path = "../../tests/fuzz/targets/mod.rs"]
pub mod targets;

extern crate self as drcm;
