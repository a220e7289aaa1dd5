//! The seal of a datagram, frozen: header, key and tag as every version writes them, whatever its messages are. It shares
//! nothing with the seal that is shipped.

use chacha20poly1305::{AeadInOut, ChaCha20Poly1305, Key, KeyInit, Nonce};
use hkdf::Hkdf;
use sha2::Sha256;

/// What stands before the sealed records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub version: u8,
    pub readable_from: u8,
    pub from: u64,
    pub to: u64,
    pub boot: u64,
    pub session: u64,
    pub counter: u64,
}

impl Header {
    const LENGTH: usize = 42;

    fn bytes(&self) -> Vec<u8> {
        let numbers = [self.from, self.to, self.boot, self.session, self.counter];
        [self.version, self.readable_from].into_iter().chain(numbers.into_iter().flat_map(u64::to_le_bytes)).collect()
    }

    fn cipher(&self, authkey: &[u8]) -> (ChaCha20Poly1305, Nonce) {
        let info = [b"datagram".to_vec(), [self.from, self.boot, self.session].into_iter().flat_map(u64::to_le_bytes).collect()].concat();
        let mut key = Key::default();
        Hkdf::<Sha256>::new(Some(b"drcm wire 2"), authkey).expand(&info, &mut key).expect("32 bytes can be derived");
        let mut nonce = Nonce::default();
        nonce[4..].copy_from_slice(&self.counter.to_le_bytes());
        (ChaCha20Poly1305::new(&key), nonce)
    }

    /// The datagram with this header around these records.
    pub fn seal(&self, authkey: &[u8], records: &[u8]) -> Vec<u8> {
        let (cipher, nonce) = self.cipher(authkey);
        let mut sealed = records.to_vec();
        let tag = cipher.encrypt_inout_detached(&nonce, &self.bytes(), sealed.as_mut_slice().into()).expect("a datagram is short");
        [self.bytes(), sealed, tag.to_vec()].concat()
    }

    /// The header and the records of a datagram, whoever it is addressed to; `None` when its seal does not match.
    pub fn open(authkey: &[u8], datagram: &[u8]) -> Option<(Self, Vec<u8>)> {
        let (head, rest) = datagram.split_at_checked(Self::LENGTH)?;
        let (sealed, tag) = rest.split_last_chunk::<16>()?;
        let number = |at: usize| u64::from_le_bytes(head[2 + 8 * at..10 + 8 * at].try_into().expect("eight bytes"));
        let header = Self {
            version: head[0],
            readable_from: head[1],
            from: number(0),
            to: number(1),
            boot: number(2),
            session: number(3),
            counter: number(4),
        };
        let (cipher, nonce) = header.cipher(authkey);
        let mut records = sealed.to_vec();
        cipher.decrypt_inout_detached(&nonce, head, records.as_mut_slice().into(), &(*tag).into()).ok()?;
        Some((header, records))
    }
}
