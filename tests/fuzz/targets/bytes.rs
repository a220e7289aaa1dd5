//! Decisions out of bytes; zeros when there are no more.

/// What is left of an input.
pub struct Bytes<'a>(pub &'a [u8]);

impl<'a> Bytes<'a> {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        let taken = self.slice(N);
        array[..taken.len()].copy_from_slice(taken);
        array
    }

    pub fn byte(&mut self) -> u8 {
        u8::from_le_bytes(self.array())
    }

    pub fn small(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    /// One of so many.
    pub fn pick(&mut self, choices: usize) -> usize {
        usize::from(self.byte()) % choices
    }

    pub fn truth(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// A number near something that matters, or any.
    pub fn number(&mut self, near: u64) -> u64 {
        match self.pick(8) {
            0 => near,
            1 => near.wrapping_add(1),
            2 => near.wrapping_sub(1),
            3 => u64::from(self.byte()),
            4 => u64::MAX,
            5 => near.wrapping_add(u64::from(self.small())),
            6 => 0,
            _ => u64::from_le_bytes(self.array()),
        }
    }

    /// At most so many bytes.
    pub fn slice(&mut self, most: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(most.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// As many bytes as the next two say, if they are there.
    pub fn chunk(&mut self) -> &'a [u8] {
        let length = usize::from(self.small()) % 1500;
        self.slice(length)
    }
}
