//! A publication as it is kept: what the log writes of it and other nodes are told, and back.

use std::borrow::Cow;
use std::sync::Arc;

use super::log::{Key, Publication, Tags};
use super::seal::Sealer;
use super::session::ClientId;
use super::stream::{Author, Content, Epoch};

/// Where a publication is. A sealed payload is bound to it: nobody can put it in another's place.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// In which channel.
    pub channel: &'a str,
    /// In which life of it.
    pub epoch: Epoch,
    /// Its number there.
    pub offset: u64,
}

impl<'a> Place<'a> {
    /// Of a publication that the broker is still to number.
    pub fn none(channel: &'a str) -> Place<'a> {
        Place { channel, epoch: [0; 4], offset: 0 }
    }

    /// What a sealed payload is bound to.
    pub fn bytes(&self) -> Vec<u8> {
        [self.channel.as_bytes(), &[0], &self.epoch, &self.offset.to_le_bytes()].concat()
    }
}

/// Calls `write` with a publication as it is kept: encrypted where there is a `sealer`.
pub fn with_publication<R>(
    place: Place<'_>,
    time_ms: u64,
    key: Option<Key>,
    content: &Content,
    sealer: Option<&Sealer>,
    write: impl FnOnce(Publication<'_>) -> R,
) -> R {
    let author = content.author.as_ref();
    // Of one that was removed there is nothing to hide.
    let sealer = sealer.filter(|_| !content.is_removed());
    let tags = Tags::encode(content.tags.iter().map(|(name, value)| (&**name, &**value)));
    let data = match sealer {
        Some(sealer) => Cow::Owned(sealer.seal(&place.bytes(), &content.data)),
        None => Cow::Borrowed(&*content.data),
    };
    write(Publication {
        channel: place.channel,
        epoch: place.epoch,
        offset: place.offset,
        time_ms,
        key,
        user: author.map_or("", |author| &author.user),
        client: author.map_or([0; 16], |author| author.client.id().0),
        conn_info: author.and_then(|author| author.conn_info.as_deref()).unwrap_or_default(),
        chan_info: author.and_then(|author| author.chan_info.as_deref()).unwrap_or_default(),
        tags: Tags::new(&tags).unwrap_or_default(),
        data: &data,
        sealed: sealer.is_some(),
        binary: content.binary,
    })
}

/// What was published. `None`: it is encrypted, and no key of ours opens it.
pub fn content_of(publication: &Publication<'_>, sealer: Option<&Sealer>) -> Option<Content> {
    let data = match publication.sealed {
        false => publication.data.into(),
        true => {
            let Publication { channel, epoch, offset, .. } = *publication;
            sealer?.open(&Place { channel, epoch, offset }.bytes(), publication.data)?.into()
        }
    };
    let owned = |text: &str| Cow::Owned(text.to_owned());
    let tags = publication.tags.iter().map(|(name, value)| (owned(name), owned(value))).collect();
    Some(Content { data, binary: publication.binary, author: author_of(publication), tags })
}

/// Who published it; `None`: the server's own API.
pub fn author_of(publication: &Publication<'_>) -> Option<Author> {
    let some = |bytes: &[u8]| (!bytes.is_empty()).then(|| Arc::from(bytes));
    (publication.client != [0; 16]).then(|| Author {
        user: publication.user.into(),
        client: ClientId(publication.client).into(),
        conn_info: some(publication.conn_info),
        chan_info: some(publication.chan_info),
    })
}
