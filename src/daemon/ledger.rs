//! What must outlive the process but not the machine: the core's [`Memory`], in run_dir. Two copies in turn, each with a
//! number and a checksum, so that a process killed while it writes leaves the copy before, on which nothing newer relied.
//!
//! A memory that kills whoever reads it must not keep a node down for ever: after [`RESUMPTIONS`] processes that went on with
//! it and ended within [`SETTLED`], the next one starts anew.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use sha2::{Digest, Sha256};

use super::state::StateError;
use crate::{cluster::Memory, sys::clock};

/// Names the layout: another one is not read.
const MAGIC: &[u8; 8] = b"drcmled4";
/// Magic, boot of the machine, number, resumptions, length, checksum of all that and the content.
const HEADER: usize = CHECKSUM + 16;
/// Where the checksum is.
const CHECKSUM: usize = 8 + 16 + 8 + 8 + 8;
/// Processes in a row that may go on with a memory and end at once.
const RESUMPTIONS: u64 = 5;
/// A process that has lived this long did not end because of what it found.
const SETTLED: Duration = Duration::from_secs(30);
/// Longest content that is read: far beyond any cluster.
const LONGEST: u64 = 64 << 20;

/// The writing side. On a disk of its own it would be slow: run_dir is meant to be a tmpfs, and nothing is ever synced,
/// because a machine that goes down takes everything with it that the memory speaks of.
#[derive(Debug)]
pub struct Ledger {
    copies: [File; 2],
    paths: [PathBuf; 2],
    machine: [u8; 16],
    number: u64,
    /// How many processes in a row went on with what they found, this one included.
    resumptions: u64,
    opened: Instant,
    buffer: Vec<u8>,
    /// What was written last, to write nothing twice.
    last: Vec<u8>,
}

impl Ledger {
    /// Opens both copies; also gives what a process before this one left, if the machine has not been restarted since.
    ///
    /// # Errors
    /// When run_dir cannot be used.
    pub fn open(run_dir: &Path, service_name: &str) -> Result<(Self, Option<Memory>), StateError> {
        let paths = [0, 1].map(|copy| run_dir.join(format!("{service_name}.leases.{copy}")));
        let fault = |path: &Path| {
            let path = path.to_owned();
            move |source| StateError::File { path, source }
        };
        let boot = clock::boot_of_the_machine().map_err(|source| StateError::Machine { source })?;
        let machine = *Sha256::digest(boot.as_bytes()).first_chunk().expect("a SHA-256 is 32 bytes");
        let open = |path: &PathBuf| {
            let flags = nix::libc::O_CLOEXEC | nix::libc::O_NOFOLLOW;
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(flags).open(path)
        };
        let copies = [open(&paths[0]).map_err(fault(&paths[0]))?, open(&paths[1]).map_err(fault(&paths[1]))?];
        let newest = copies.iter().filter_map(|copy| read(copy, &machine)).max_by_key(|found| found.number);
        let mut ledger =
            Self { copies, paths, machine, number: 0, resumptions: 0, opened: Instant::now(), buffer: Vec::new(), last: Vec::new() };
        let Some(found) = newest else { return Ok((ledger, None)) };
        ledger.number = found.number;
        if found.resumptions >= RESUMPTIONS {
            tracing::warn!("{RESUMPTIONS} processes in a row went on with what was left in run_dir and ended at once: starting anew");
            return Ok((ledger, None));
        }
        ledger.resumptions = found.resumptions + 1;
        Ok((ledger, Some(found.memory)))
    }

    /// Writes what has changed. Once this returns, a process that follows knows it.
    ///
    /// # Errors
    /// When run_dir is full or gone: then nothing that relies on it may be said.
    pub fn write(&mut self, memory: &Memory) -> io::Result<()> {
        self.buffer.clear();
        self.buffer.resize(HEADER, 0);
        self.buffer = postcard::to_extend(memory, std::mem::take(&mut self.buffer)).map_err(io::Error::other)?;
        if self.buffer[HEADER..] == self.last[..] {
            return Ok(());
        }
        let number = self.number + 1;
        let length = (self.buffer.len() - HEADER) as u64;
        self.buffer[..8].copy_from_slice(MAGIC);
        self.buffer[8..24].copy_from_slice(&self.machine);
        self.buffer[24..32].copy_from_slice(&number.to_le_bytes());
        let resumptions = if self.opened.elapsed() < SETTLED { self.resumptions } else { 0 };
        self.buffer[32..40].copy_from_slice(&resumptions.to_le_bytes());
        self.buffer[40..CHECKSUM].copy_from_slice(&length.to_le_bytes());
        let checksum = checksum(&self.buffer);
        self.buffer[CHECKSUM..HEADER].copy_from_slice(&checksum);
        self.copies[usize::from(number % 2 == 1)].write_all_at(&self.buffer, 0)?;
        self.number = number;
        self.last.clear();
        self.last.extend_from_slice(&self.buffer[HEADER..]);
        Ok(())
    }

    /// Makes both copies unreadable: what could not be written would be missing from them. Shortening a file needs no space.
    pub fn spoil(&mut self) {
        for copy in &self.copies {
            if let Err(error) = copy.set_len(0) {
                tracing::debug!("ledger: {error}");
            }
        }
        self.last.clear();
    }

    /// After a clean leave: nothing is held or promised that a successor would have to know.
    pub fn remove(&mut self) {
        self.spoil();
        for path in &self.paths {
            if let Err(error) = fs::remove_file(path) {
                tracing::debug!("{}: {error}", path.display());
            }
        }
    }
}

/// Of the header but for the checksum itself, and of the content.
fn checksum(bytes: &[u8]) -> [u8; 16] {
    let digest = Sha256::new().chain_update(&bytes[..CHECKSUM]).chain_update(&bytes[HEADER..]).finalize();
    *digest.first_chunk().expect("a SHA-256 is 32 bytes")
}

/// An intact copy.
struct Found {
    number: u64,
    resumptions: u64,
    memory: Memory,
}

fn read(copy: &File, machine: &[u8; 16]) -> Option<Found> {
    let mut bytes = Vec::new();
    // Whatever cannot be read is as good as not there: the node then starts silent.
    copy.take(LONGEST).read_to_end(&mut bytes).ok()?;
    let length = usize::try_from(number(&bytes, 40)?).ok()?;
    let end = HEADER.checked_add(length)?;
    // An earlier, longer content may follow.
    let bytes = bytes.get(..end)?;
    if bytes[..8] != *MAGIC || bytes[8..24] != *machine || bytes[CHECKSUM..HEADER] != checksum(bytes) {
        return None;
    }
    Some(Found { number: number(bytes, 24)?, resumptions: number(bytes, 32)?, memory: postcard::from_bytes(&bytes[HEADER..]).ok()? })
}

fn number(bytes: &[u8], at: usize) -> Option<u64> {
    // A header that is not whole holds no number.
    bytes.get(..HEADER)?.get(at..at + 8)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        cluster::{Node, Start},
        config::parse_cfg,
        model::{BootId, Event, NodeId, Time},
    };

    fn directory(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("drcm-ledger-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// A node that has a vote and runs something.
    fn node() -> Node {
        let text = "[CM_NODE]\nnodename = a\nhostname = a\nkeep_alive_ip = 10.0.0.1\n";
        let config: Arc<_> = parse_cfg("test.cfg", text).unwrap().config;
        let mut node = Node::new(config, NodeId::of("a"), BootId(7), Start::default(), Time(1));
        node.handle(Event::Timer, Time(2));
        node
    }

    #[test]
    fn the_newest_intact_copy_is_what_a_successor_reads() {
        let directory = directory("newest");
        let (mut ledger, nothing) = Ledger::open(&directory, "drcm").unwrap();
        assert_eq!(nothing, None);
        let mut node = node();
        let mut written = Vec::new();
        for turn in 0..5 {
            node.handle(Event::Timer, Time(2_000_000_000 * (turn + 1)));
            let memory = node.memory();
            ledger.write(&memory).unwrap();
            assert_eq!(Ledger::open(&directory, "drcm").unwrap().1.as_ref(), Some(&memory));
            written.push(memory);
        }
        // The process was killed while it wrote: the copy before counts.
        let newest = usize::from(ledger.number % 2 == 1);
        ledger.copies[newest].write_all_at(b"torn", HEADER as u64 + 3).unwrap();
        assert_eq!(Ledger::open(&directory, "drcm").unwrap().1.as_ref(), Some(&written[3]));
        // And with both broken, nothing is believed.
        ledger.copies[1 - newest].set_len(HEADER as u64 - 1).unwrap();
        assert_eq!(Ledger::open(&directory, "drcm").unwrap().1, None);
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn what_was_written_before_the_machine_was_restarted_is_not_read() {
        let directory = directory("machine");
        let (mut ledger, _) = Ledger::open(&directory, "drcm").unwrap();
        ledger.machine = [1; 16];
        ledger.write(&node().memory()).unwrap();
        assert_eq!(Ledger::open(&directory, "drcm").unwrap().1, None);
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn what_kills_its_readers_is_not_read_for_ever() {
        let directory = directory("loop");
        Ledger::open(&directory, "drcm").unwrap().0.write(&node().memory()).unwrap();
        let mut resumed = 0;
        while let (mut ledger, Some(memory)) = Ledger::open(&directory, "drcm").unwrap() {
            ledger.write(&memory).unwrap();
            resumed += 1;
        }
        assert_eq!(resumed, RESUMPTIONS);
        // The one that started anew begins to count anew.
        Ledger::open(&directory, "drcm").unwrap().0.write(&node().memory()).unwrap();
        assert!(Ledger::open(&directory, "drcm").unwrap().1.is_some());
        fs::remove_dir_all(directory).unwrap();
    }

    /// postcard tells nothing of types: a process of another version would read nonsense.
    #[test]
    fn another_layout_has_another_name() {
        let text = "[CM_IPADDRS]\nvip, 10.0.0.100, 24, eth0, \n\
                    [CM_NODE]\nnodename = a\nhostname = a\nkeep_alive_ip = 10.0.0.1\nnode_floating_ip_addrs = vip\n\
                    [CM_NODE]\nnodename = b\nhostname = b\nkeep_alive_ip = 10.0.0.2\nnode_backup_floating_ip_addrs = a:vip\n";
        let config: Arc<_> = parse_cfg("test.cfg", text).unwrap().config;
        let mut node = Node::new(config, NodeId::of("a"), BootId(7), Start::default(), Time(1));
        node.handle(Event::Timer, Time(2));
        let bytes = postcard::to_stdvec(&node.memory()).unwrap();
        let digest = Sha256::digest(&bytes).iter().take(4).map(|byte| format!("{byte:02x}")).collect::<String>();
        assert_eq!((MAGIC, digest.as_str()), (b"drcmled4", "cdb48779"), "what is remembered has another layout: give MAGIC another number");
    }

    #[test]
    fn nothing_is_left_after_a_clean_leave() {
        let directory = directory("leave");
        let (mut ledger, _) = Ledger::open(&directory, "drcm").unwrap();
        ledger.write(&node().memory()).unwrap();
        ledger.remove();
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);
        fs::remove_dir_all(directory).unwrap();
    }
}
