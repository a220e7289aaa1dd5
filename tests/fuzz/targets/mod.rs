//! What is fuzzed, one function a target: it takes any bytes and panics when something that must hold does not. libFuzzer
//! (fuzz/fuzz_targets) and the replay of the kept inputs (tests/fuzz/main.rs) run the same functions. See docs/fuzzing.md.

mod auth;
mod bytes;
mod channel;
mod cluster;
mod config;
mod datagram;
mod question;
mod records;
#[path = "../../frozen/seal.rs"]
mod seal;

/// The name of a target, which is that of its corpus, and its body.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 9] = [
    ("auth", auth::files),
    ("channel", channel::hellos_and_frames),
    ("check", config::check_of_a_file),
    ("cluster", cluster::hostile_peers),
    ("config_cfg", config::cfg),
    ("config_toml", config::toml),
    ("datagram", datagram::datagrams),
    ("question", question::questions),
    ("records", records::records),
];

/// Runs the target of this name.
pub fn run(name: &str, bytes: &[u8]) {
    let (_, target) = TARGETS.iter().find(|(known, _)| *known == name).unwrap_or_else(|| panic!("there is no target {name}"));
    target(bytes);
}
