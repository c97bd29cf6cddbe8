//! A part of a file as pieces of an answer.

use std::io;

use annulus_engine::File;

use super::reply::{Local, Pieces};

/// Bytes of a piece: few enough that a slow client pins little, enough that a read is worth its way.
const PIECE_BYTES: usize = 64 << 10;

/// Bytes `at..end` of a file that nobody changes.
pub struct FilePieces {
    file: File,
    at: u64,
    end: u64,
}

impl FilePieces {
    /// The bytes from `at` up to `end`.
    pub fn new(file: File, at: u64, end: u64) -> FilePieces {
        FilePieces { file, at, end }
    }
}

impl Pieces for FilePieces {
    fn next(&mut self) -> Local<'_, io::Result<Option<Vec<u8>>>> {
        Box::pin(async move {
            let want = usize::try_from(self.end - self.at).unwrap_or(usize::MAX).min(PIECE_BYTES);
            if want == 0 {
                return Ok(None);
            }
            let piece = self.file.read_at(Vec::with_capacity(want), want, self.at).await?;
            if piece.is_empty() {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file is shorter than it was"));
            }
            self.at += piece.len() as u64;
            Ok(Some(piece))
        })
    }
}
