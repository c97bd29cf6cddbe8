//! Collects a head: borrowed from the input when it lies there as a whole, put together when it arrives in pieces.

use super::scan::{HeadScan, Start};
use super::{Fault, Limits};
use crate::Input;
use std::borrow::Cow;

/// The head under way, if there is one.
#[derive(Debug)]
pub(super) struct HeadReader {
    start: Start,
    partial: Option<Box<Partial>>,
}

#[derive(Debug, Default)]
struct Partial {
    bytes: Vec<u8>,
    scan: HeadScan,
    started: u64,
}

impl HeadReader {
    pub(super) const fn new(start: Start) -> Self {
        Self { start, partial: None }
    }

    /// When the first byte of the head under way was seen.
    pub(super) fn started(&self) -> Option<u64> {
        self.partial.as_ref().map(|partial| partial.started)
    }

    /// The next whole head. `None` means that the input is used up.
    pub(super) fn next_head<'a>(
        &mut self,
        limits: &Limits,
        now: u64,
        input: &mut Input<'a>,
    ) -> Result<Option<Cow<'a, [u8]>>, Fault> {
        if self.partial.is_none() {
            self.skip_empty_lines(input);
            if !starts_with_lone_cr(input.rest())
                && let Some(len) = HeadScan::default().advance(self.start, input.rest(), limits)?
            {
                return Ok(Some(Cow::Borrowed(input.take(len))));
            }
            if input.is_empty() {
                return Ok(None);
            }
        }
        let start = self.start;
        let partial = self.partial.get_or_insert_with(|| Box::new(Partial { started: now, ..Partial::default() }));
        let mut head = None;
        // More than one round only when empty lines were skipped to make room.
        while head.is_none() && !input.is_empty() {
            head = partial.recv(start, limits, input)?;
        }
        if head.is_some() || partial.bytes.is_empty() {
            self.partial = None;
        }
        Ok(head.map(Cow::Owned))
    }

    /// RFC 9112 section 2.2: a server skips empty lines before a request.
    fn skip_empty_lines(&self, input: &mut Input<'_>) {
        while self.start == Start::Request && input.rest().starts_with(b"\r\n") {
            input.take(2);
        }
    }
}

/// The first half of an empty line whose second half has not arrived.
fn starts_with_lone_cr(bytes: &[u8]) -> bool {
    bytes == b"\r"
}

impl Partial {
    /// Takes what belongs to the head, and leaves the rest in the input.
    fn recv(&mut self, start: Start, limits: &Limits, input: &mut Input<'_>) -> Result<Option<Vec<u8>>, Fault> {
        // One byte over the limit is enough to see that it is passed.
        let room = (limits.head_bytes_max + 1).saturating_sub(self.bytes.len());
        let part = &input.rest()[..room.min(input.len())];
        self.bytes.extend_from_slice(part);
        let mut taken = part.len();
        if start == Start::Request && self.bytes.starts_with(b"\r\n") {
            // Removed in one go: one by one, a flood of empty lines would cost the square of its length.
            let empty_lines = self.bytes.as_chunks::<2>().0.iter().take_while(|pair| *pair == b"\r\n").count();
            self.bytes.drain(..2 * empty_lines);
        }
        let mut head = None;
        if !starts_with_lone_cr(&self.bytes)
            && let Some(len) = self.scan.advance(start, &self.bytes, limits)?
        {
            taken -= self.bytes.len() - len;
            self.bytes.truncate(len);
            head = Some(std::mem::take(&mut self.bytes));
        }
        input.take(taken);
        Ok(head)
    }
}
