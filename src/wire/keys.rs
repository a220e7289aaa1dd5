//! Every key, each derived from the authkey (or from the endpoint's secret) for one purpose.

use chacha20poly1305::{ChaCha20Poly1305, Key, KeyInit, Nonce};
use hkdf::Hkdf;
use sha2::Sha256;

use crate::model::{BootId, NodeId};

/// Starts every derivation, so that no other use of the authkey yields the same key.
const PROTOCOL: &[u8] = b"drcm wire 2";

/// What keys are derived from.
pub struct Root(Hkdf<Sha256>);

impl Root {
    /// From the authkey, or from a secret of the process.
    pub fn new(material: &[u8]) -> Self {
        Self(Hkdf::new(Some(PROTOCOL), material))
    }

    /// The key under which one process of a node seals its datagrams.
    pub fn datagrams(&self, sender: NodeId, boot: BootId, session: u64) -> ChaCha20Poly1305 {
        self.cipher(&[b"datagram", &sender.0.to_le_bytes(), &boot.0.to_le_bytes(), &session.to_le_bytes()])
    }

    /// The key that seals what `label` says, for these parts. The parts have fixed lengths per label.
    pub fn cipher(&self, parts: &[&[u8]]) -> ChaCha20Poly1305 {
        let mut key = Key::default();
        self.derive(parts, &mut key);
        ChaCha20Poly1305::new(&key)
    }

    /// A number nobody without the material can foresee.
    pub fn number(&self, parts: &[&[u8]]) -> u64 {
        let mut bytes = [0; 8];
        self.derive(parts, &mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn derive(&self, parts: &[&[u8]], out: &mut [u8]) {
        self.0.expand_multi_info(parts, out).expect("the output is far below the limit of HKDF");
    }
}

/// The nonce of a counter. Each key has one counter, which never repeats.
pub fn nonce(counter: u64) -> Nonce {
    let mut nonce = Nonce::default();
    nonce[4..].copy_from_slice(&counter.to_le_bytes());
    nonce
}
