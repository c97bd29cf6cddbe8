//! Frames: what members are sent, made once for all of them who speak one dialect.

use std::sync::Arc;

use annulus_protocols::centrifuge::{ClientInfo, Codec, Payload, Publication, write_publication};
use annulus_protocols::websocket::deflate::{CompressOptions, Compressor};

use crate::chat::channel::Group;
use crate::chat::dialect::Dialect;
use crate::chat::differences::as_text;
use crate::chat::letters::{DifferenceFrames, Frames, OfDialects};
use crate::chat::stream::{Author, Content, Stored};

/// What a message usually has around it on the wire, in bytes: room is made for it at once.
const AROUND_MESSAGE_BYTES: usize = 16;

/// Makes frames. Its buffers are used again and again.
pub(super) struct Framer {
    scratch: Vec<u8>,
    compressor: Option<Compressor>,
}

impl Framer {
    /// Compresses messages of at least so many bytes for those who take that.
    pub(super) fn new(min_bytes: Option<usize>) -> Framer {
        let options = min_bytes.map(|bytes_min| CompressOptions { bytes_min, ..CompressOptions::DEFAULT });
        let compressor = options.map(Compressor::new);
        Framer { scratch: Vec::new(), compressor }
    }

    /// One message as a frame, in each of the dialects.
    pub(super) fn frames(&mut self, dialects: u8, write: impl Fn(Codec, &mut Vec<u8>)) -> OfDialects {
        let mut frames = OfDialects::default();
        for dialect in Dialect::all().filter(|dialect| dialects & 1 << dialect.index() != 0) {
            self.scratch.clear();
            write(dialect.codec(), &mut self.scratch);
            frames[dialect.index()] = Some(self.frame(dialect));
        }
        frames
    }

    /// A publication for those who get differences: whole, and as its difference from the one before.
    pub(super) fn differing(
        &mut self,
        dialects: u8,
        channel: &str,
        publication: &Publication<'_>,
        content: &Content,
        difference: Option<&[u8]>,
    ) -> DifferenceFrames {
        let text = as_text(content);
        let mut write = |data: Option<Payload<'_>>, delta| {
            self.frames(dialects, |codec, out| {
                let data = data.unwrap_or(in_differences(codec, publication.data, &text));
                write_publication(codec, out, channel, &Publication { data, delta, ..*publication });
            })
        };
        // Differences of texts are texts.
        let difference = difference.and_then(|difference| std::str::from_utf8(difference).ok());
        let differing = difference.map(|difference| write(Some(Payload::Quoted(difference)), true));
        DifferenceFrames { whole: write(None, false), differing: differing.unwrap_or_default() }
    }

    fn frame(&mut self, dialect: Dialect) -> Arc<[u8]> {
        let mut frame = Vec::with_capacity(self.scratch.len() + AROUND_MESSAGE_BYTES);
        match self.compressor.as_mut().filter(|_| dialect.deflates()) {
            Some(compressor) => {
                compressor.write_message(&mut frame, dialect.codec().message_kind(), &self.scratch, None);
            }
            None => dialect.write_message(&mut frame, &self.scratch),
        }
        frame.into()
    }
}

/// What some members are sent: at once, or, if they are slow, when they have room.
#[derive(Clone)]
pub(super) struct Frame {
    /// For those who have what was sent before.
    pub(super) now: Arc<[u8]>,
    /// For those who may not.
    pub(super) later: Arc<[u8]>,
}

impl Frame {
    /// What members of a group are sent who speak a dialect; `None`: nobody was expected to.
    pub(super) fn of(frames: &Frames, group: Group, dialect: Dialect) -> Option<Frame> {
        let one = |frames: &OfDialects| frames[dialect.index()].clone();
        let later = match group {
            Group::Whole | Group::Filtered | Group::Watchers => one(&frames.of)?,
            Group::Fresh | Group::Steady => one(&frames.differences.as_ref()?.whole)?,
        };
        let differing = frames.differences.as_ref().filter(|_| group == Group::Steady);
        let now = differing.and_then(|frames| one(&frames.differing)).unwrap_or_else(|| later.clone());
        Some(Frame { now, later })
    }
}

/// Data as those who get differences are told it whole: in the JSON codec as a text.
pub(super) fn in_differences<'d>(codec: Codec, data: Payload<'d>, text: &'d str) -> Payload<'d> {
    if codec == Codec::Json { Payload::Quoted(text) } else { data }
}

/// A publication's author, or a member, as clients are told.
pub(super) fn as_info(author: &Author) -> ClientInfo<'_> {
    ClientInfo {
        user: &author.user,
        client: author.client.as_str(),
        conn_info: author.conn_info.as_deref(),
        chan_info: author.chan_info.as_deref(),
    }
}

/// A content with its place, as clients are told.
pub(super) fn with_offset(content: &Content, offset: u64) -> Publication<'_> {
    let data = match content.binary {
        true => Payload::Binary(&content.data),
        false => Payload::Json(&content.data),
    };
    let info = content.author.as_ref().map(as_info);
    Publication { data, offset, info, tags: &content.tags, delta: false, time_ms: 0 }
}

/// A publication out of a history.
pub(super) fn as_publication(stored: &Stored) -> Publication<'_> {
    with_offset(&stored.content, stored.offset)
}
