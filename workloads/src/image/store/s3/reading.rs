//! Reading an object as it comes: one answer from a place on, and another from where that one broke.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::Write;
use std::ops::Range;
use std::rc::Rc;

use super::client::Client;
use super::trouble::Trouble;
use crate::gateway::fetching::{Answer, Failure, Phase};
use crate::image::store::{Key, Meta, Object, Pending, StoreError};

/// An object's bytes from a place on.
struct Stream {
    answer: Option<Answer>,
    /// Where in the object the next byte is.
    at: u64,
    /// Where reading ends; `None`: at the object's end.
    end: Option<u64>,
    /// Bytes that came and were not taken yet, and how many of them were.
    came: Vec<u8>,
    taken: usize,
    /// Attempts without a byte in between.
    attempt: u32,
}

impl Stream {
    fn new(range: Range<u64>, is_open: bool) -> Stream {
        let end = (!is_open).then_some(range.end);
        Stream { answer: None, at: range.start, end, came: Vec::new(), taken: 0, attempt: 1 }
    }

    /// Where the next byte that is taken lies.
    fn position(&self) -> u64 {
        self.at - (self.came.len() - self.taken) as u64
    }

    /// Whether there are bytes to take; false at the end.
    async fn fill(&mut self, client: &Client, name: &str) -> Result<bool, Trouble> {
        while self.taken == self.came.len() {
            if self.end.is_some_and(|end| self.at >= end) {
                return Ok(false);
            }
            self.came.clear();
            self.taken = 0;
            let trouble = match self.advance(client, name).await {
                Ok(true) => {
                    self.attempt = 1;
                    // No more than was asked for is believed.
                    let left = self.end.map_or(usize::MAX, |end| (end - self.at) as usize);
                    self.came.truncate(left);
                    self.at += self.came.len() as u64;
                    continue;
                }
                Ok(false) => return Ok(false),
                Err(trouble) => trouble,
            };
            self.answer = None;
            // A part of what broke may have come: it is asked for again, from where we are.
            self.came.clear();
            client.pause(&mut self.attempt, trouble).await?;
        }
        Ok(true)
    }

    /// One step: a connection, or a piece. False at the end.
    async fn advance(&mut self, client: &Client, name: &str) -> Result<bool, (Trouble, Option<std::time::Duration>)> {
        if self.answer.is_none() {
            match client.read_from(name, self.at, self.end).await? {
                Some(answer) => self.answer = Some(answer),
                None => return Ok(false),
            }
        }
        let Some(answer) = &mut self.answer else { return Ok(false) };
        let patience = client.site.settings.answer_max;
        let next = client.shard.timeout(patience, answer.next(&mut self.came)).await;
        let next = next.unwrap_or_else(|_elapsed| Err(Failure::timeout(Phase::Body)));
        let more = next.map_err(|failure| (Trouble::of_failure(&failure), None))?;
        Ok(more || !self.came.is_empty())
    }
}

/// An object that is being read by a shard.
pub(super) struct Outgoing {
    client: Rc<Client>,
    name: String,
    key: Key,
    meta: Meta,
    /// Where what was announced ends.
    end: Cell<u64>,
    stream: RefCell<Option<Stream>>,
}

impl Outgoing {
    pub(super) fn new(client: Rc<Client>, name: String, key: Key, meta: Meta) -> Outgoing {
        Outgoing { client, name, key, meta, end: Cell::new(meta.len), stream: RefCell::default() }
    }
}

impl Object for Outgoing {
    fn meta(&self) -> Meta {
        self.meta
    }

    fn announce(&self, range: Range<u64>) {
        self.end.set(range.end.min(self.meta.len));
        self.stream.replace(None);
    }

    fn read_at(&self, memory: Vec<u8>, want: usize, offset: u64) -> Pending<'_, Vec<u8>> {
        Box::pin(async move {
            let mut memory = memory;
            let wanted_end = (offset + want as u64).min(self.meta.len);
            let kept = self
                .stream
                .take()
                .filter(|stream| stream.position() == offset && stream.end.is_some_and(|end| end >= wanted_end));
            let end = self.end.get().max(wanted_end);
            let mut stream = kept.unwrap_or_else(|| Stream::new(offset..end, false));
            let mut left = (wanted_end.saturating_sub(offset)) as usize;
            while left > 0 {
                let filled = stream.fill(&self.client, &self.name).await;
                if !filled.map_err(|trouble| missing_or(&self.client, &trouble, &self.key, &self.name))? {
                    break;
                }
                let piece = &stream.came[stream.taken..];
                let piece = &piece[..piece.len().min(left)];
                memory.extend_from_slice(piece);
                left -= piece.len();
                stream.taken += piece.len();
            }
            self.stream.replace(Some(stream));
            Ok(memory)
        })
    }
}

/// A range of an object, cut to its length.
pub(super) async fn range(client: &Client, key: &Key, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
    let name = client.site.object(key);
    if range.is_empty() {
        let found = client.head(&name).await?;
        return found.map(|_| Vec::new()).ok_or(StoreError::Missing(*key));
    }
    let mut stream = Stream::new(range, false);
    let mut bytes = Vec::new();
    while stream.fill(client, &name).await.map_err(|trouble| missing_or(client, &trouble, key, &name))? {
        bytes.extend_from_slice(&stream.came[stream.taken..]);
        stream.taken = stream.came.len();
    }
    Ok(bytes)
}

/// Writes a whole object into a file, which lies in memory: no shard waits for it. Its length.
pub(super) async fn whole(client: &Client, key: &Key, mut file: &File) -> Result<u64, StoreError> {
    let name = client.site.object(key);
    let mut stream = Stream::new(0..0, true);
    let mut len = 0;
    while stream.fill(client, &name).await.map_err(|trouble| missing_or(client, &trouble, key, &name))? {
        let piece = &stream.came[stream.taken..];
        file.write_all(piece).map_err(|error| StoreError::of(&error, "copying to memory", key))?;
        len += piece.len() as u64;
        stream.taken = stream.came.len();
    }
    Ok(len)
}

fn missing_or(client: &Client, trouble: &Trouble, key: &Key, name: &str) -> StoreError {
    match trouble.is_missing() {
        true => StoreError::Missing(*key),
        false => client.told(trouble, "reading", name),
    }
}
