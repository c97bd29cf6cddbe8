//! Bodies: by length, or chunked with trailers (RFC 9112 section 7.1). Data is handed out where it lies.
//!
//! ```text
//!  Size -> (Extension) -> SizeEnd -> Data -> DataCr -> DataLf -> Size ...
//!                            `-- size 0 --> Trailers -> done
//! ```

use super::{BodyFraming, Fault, Limits};
use crate::Input;

/// Most bytes of chunk heads (extensions, small chunks) beyond what the data justifies: a body of one-byte chunks or
/// endless extensions costs far more than it carries.
const OVERHEAD_BYTES_MAX: u64 = 16 << 10;

/// Where a body stands.
#[derive(Debug)]
pub(super) enum BodyDecoder {
    Length { remaining: u64 },
    Chunked(Box<Chunked>),
    UntilClose { total: u64 },
    Done,
}

/// What the decoder found.
pub(super) enum BodyPart<'a> {
    NeedMore,
    Data(&'a [u8]),
    /// Checked trailer lines, not empty.
    Trailers(Vec<u8>),
    End,
}

impl BodyDecoder {
    pub(super) fn new(framing: BodyFraming) -> Self {
        match framing {
            BodyFraming::None => Self::Done,
            BodyFraming::Length(remaining) => Self::Length { remaining },
            BodyFraming::Chunked => Self::Chunked(Box::default()),
            BodyFraming::UntilClose => Self::UntilClose { total: 0 },
        }
    }

    pub(super) fn next_part<'a>(&mut self, limits: &Limits, input: &mut Input<'a>) -> Result<BodyPart<'a>, Fault> {
        match self {
            Self::Done => Ok(BodyPart::End),
            Self::Length { remaining: 0 } => Ok(BodyPart::End),
            Self::Length { remaining } => {
                let data = input.take(usize::try_from(*remaining).unwrap_or(usize::MAX));
                *remaining -= data.len() as u64;
                Ok(if data.is_empty() { BodyPart::NeedMore } else { BodyPart::Data(data) })
            }
            Self::UntilClose { total } => {
                // What fits is handed out before the fault, so that the split makes no difference.
                let room = usize::try_from(limits.body_bytes_max.saturating_sub(*total)).unwrap_or(usize::MAX);
                if room == 0 && !input.is_empty() {
                    return Err(Fault::BodyTooLarge);
                }
                let data = input.take(room);
                *total += data.len() as u64;
                Ok(if data.is_empty() { BodyPart::NeedMore } else { BodyPart::Data(data) })
            }
            Self::Chunked(chunked) => {
                let part = chunked.next_part(limits, input)?;
                if matches!(part, BodyPart::Trailers(_)) {
                    *self = Self::Done;
                }
                Ok(part)
            }
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Chunked {
    state: ChunkState,
    /// Data bytes so far, for the body's limit.
    total: u64,
    /// Bytes of chunk heads so far.
    overhead: u64,
    trailers: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ChunkState {
    Size { size: u64, digits: u8 },
    Extension { size: u64 },
    SizeEnd { size: u64 },
    Data { remaining: u64 },
    DataCr,
    DataLf,
    Trailers { line_start: usize },
}

impl Default for ChunkState {
    fn default() -> Self {
        Self::Size { size: 0, digits: 0 }
    }
}

impl Chunked {
    fn next_part<'a>(&mut self, limits: &Limits, input: &mut Input<'a>) -> Result<BodyPart<'a>, Fault> {
        while !input.is_empty() {
            if let ChunkState::Data { remaining } = self.state {
                return Ok(BodyPart::Data(self.data(remaining, input)));
            }
            let [byte] = *input.take(1) else { break };
            if let ChunkState::Trailers { line_start } = self.state {
                if self.trailer_byte(limits, line_start, byte)? {
                    return Ok(self.end());
                }
            } else {
                self.state = self.framing_byte(limits, byte)?;
            }
        }
        Ok(BodyPart::NeedMore)
    }

    fn data<'a>(&mut self, remaining: u64, input: &mut Input<'a>) -> &'a [u8] {
        let data = input.take(usize::try_from(remaining).unwrap_or(usize::MAX));
        let remaining = remaining - data.len() as u64;
        self.state = if remaining == 0 { ChunkState::DataCr } else { ChunkState::Data { remaining } };
        data
    }

    /// One byte of a chunk's head or of the line end after its data.
    fn framing_byte(&mut self, limits: &Limits, byte: u8) -> Result<ChunkState, Fault> {
        self.overhead += 1;
        // Each data byte pays for two of overhead, so that only chunks of a few bytes run up a debt.
        if self.overhead > OVERHEAD_BYTES_MAX + 2 * self.total {
            return Err(Fault::Chunk);
        }
        match (self.state, byte) {
            (ChunkState::Size { size, digits }, _) if byte.is_ascii_hexdigit() => {
                // Sixteen digits always fit; leading zeros count as digits.
                if digits == 16 {
                    return Err(Fault::Chunk);
                }
                let digit = (byte as char).to_digit(16).map_or(0, u64::from);
                Ok(ChunkState::Size { size: size << 4 | digit, digits: digits + 1 })
            }
            // Stricter than RFC 9112 section 7.1.1: no white space between the size and what follows it.
            (ChunkState::Size { size, digits: 1.. }, b';') => Ok(ChunkState::Extension { size }),
            (ChunkState::Size { size, digits: 1.. } | ChunkState::Extension { size }, b'\r') => {
                Ok(ChunkState::SizeEnd { size })
            }
            (ChunkState::Extension { size }, b'\t' | b' '..=b'~' | 0x80..) => Ok(ChunkState::Extension { size }),
            (ChunkState::SizeEnd { size: 0 }, b'\n') => Ok(ChunkState::Trailers { line_start: 0 }),
            (ChunkState::SizeEnd { size }, b'\n') => self.begin_data(limits, size),
            (ChunkState::DataCr, b'\r') => Ok(ChunkState::DataLf),
            (ChunkState::DataLf, b'\n') => Ok(ChunkState::default()),
            _ => Err(Fault::Chunk),
        }
    }

    fn begin_data(&mut self, limits: &Limits, size: u64) -> Result<ChunkState, Fault> {
        self.total = self.total.saturating_add(size);
        if self.total > limits.body_bytes_max {
            return Err(Fault::BodyTooLarge);
        }
        Ok(ChunkState::Data { remaining: size })
    }

    /// One byte of the trailer section. Returns whether it was the last.
    fn trailer_byte(&mut self, limits: &Limits, line_start: usize, byte: u8) -> Result<bool, Fault> {
        if self.trailers.len() >= limits.trailer_bytes_max {
            return Err(Fault::TrailersTooLarge);
        }
        self.trailers.push(byte);
        if byte != b'\n' {
            return Ok(false);
        }
        let Some(line) = self.trailers[line_start..].strip_suffix(b"\r\n") else {
            return Err(Fault::BareLineFeed);
        };
        if !line.is_empty() {
            self.state = ChunkState::Trailers { line_start: self.trailers.len() };
            return Ok(false);
        }
        check_trailers(&self.trailers, limits)?;
        Ok(true)
    }

    fn end<'a>(&mut self) -> BodyPart<'a> {
        BodyPart::Trailers(std::mem::take(&mut self.trailers))
    }
}

/// Trailers are fields, and none that frames or routes the message (RFC 9110 section 6.5.1).
fn check_trailers(lines: &[u8], limits: &Limits) -> Result<(), Fault> {
    let mut headers = [httparse::EMPTY_HEADER; super::limits::FIELDS_CAPACITY];
    let parsed = httparse::parse_headers(lines, &mut headers).map_err(|_| Fault::Trailer)?;
    let httparse::Status::Complete((len, headers)) = parsed else { return Err(Fault::Trailer) };
    let forbidden = ["content-length", "transfer-encoding", "host", "connection", "trailer", "te"];
    let is_forbidden =
        |header: &httparse::Header<'_>| forbidden.iter().any(|name| header.name.eq_ignore_ascii_case(name));
    if len != lines.len() || headers.len() > limits.fields_max || headers.iter().any(is_forbidden) {
        return Err(Fault::Trailer);
    }
    Ok(())
}
