//! Frames on the client socket: a length (4 bytes, little-endian) and that many bytes of JSON. Memory is taken as bytes
//! arrive, never on the word of a length.

use std::io;

use serde::{Serialize, de::DeserializeOwned};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Why a frame could not be read.
#[derive(Debug)]
pub enum FrameError {
    /// The stream broke; an end before the last byte is `UnexpectedEof`.
    Io(io::Error),
    /// Announced longer than allowed.
    TooLong {
        /// The announced length.
        bytes: u32,
    },
}

impl From<io::Error> for FrameError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Reads one frame.
pub async fn read_frame(stream: &mut (impl AsyncRead + Unpin), limit: usize) -> Result<Vec<u8>, FrameError> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).await?;
    let bytes = u32::from_le_bytes(length);
    if usize::try_from(bytes).is_ok_and(|bytes| bytes <= limit) {
        Ok(read_bytes(stream, bytes.into()).await?)
    } else {
        Err(FrameError::TooLong { bytes })
    }
}

/// Reads exactly so many bytes.
pub async fn read_bytes(stream: &mut (impl AsyncRead + Unpin), bytes: u64) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    stream.take(bytes).read_to_end(&mut content).await?;
    if content.len() as u64 == bytes { Ok(content) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// Writes one frame.
pub async fn write_frame(stream: &mut (impl AsyncWrite + Unpin), content: &[u8]) -> io::Result<()> {
    let length = u32::try_from(content.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    stream.write_all(&length.to_le_bytes()).await?;
    stream.write_all(content).await?;
    stream.flush().await
}

/// The JSON of a question or an answer.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("questions and answers are plain data, which JSON can hold")
}

/// A question or an answer from JSON; the error says what is wrong with it.
pub fn decode<T: DeserializeOwned>(content: &[u8]) -> Result<T, String> {
    serde_json::from_slice(content).map_err(|error| error.to_string())
}
