//! Delivery of outputs: whole or in part, from where they never change.
//!
//! A key names one output in one format. Without its ending it names all formats in which the output was made, and the
//! client's `Accept` chooses. Originals and manifests are never delivered.

use std::io;

use super::api::{Api, of_store};
use super::format::Format;
use super::store::{Key, Object, StoreError, Suffix};
use super::upload;
use crate::serve::range::{Selection, select};
use crate::serve::reply::Local;
use crate::serve::{Pieces, Problem, Reply, ReplyBody, Request, negotiate};

/// Bytes of a piece: few enough that a slow client pins little, enough that a read is worth its way.
const PIECE_BYTES: usize = 64 << 10;
/// Formats in the order in which we like to send them: the smallest first.
const FORMATS: [Format; 4] = [Format::Avif, Format::Webp, Format::Jpeg, Format::Png];

/// `GET /v1/images/KEY`.
pub(super) async fn deliver(api: &Api, request: &Request, name: &str) -> Result<Reply, Problem> {
    let found = match name.parse::<Key>() {
        Ok(key) => api.shelf.open(&key).await.map(|object| Found { key, object, negotiated: false }),
        // As a key of some format, so that the same text is one and nothing else.
        Err(_) => match format!("{name}.jpeg").parse::<Key>() {
            Ok(key) => negotiated(api, request, key).await?,
            Err(_) => return Err(no_such_image()),
        },
    };
    let found = found.map_err(|error| match error {
        StoreError::Missing(_) => no_such_image(),
        error => of_store(error),
    })?;
    let Some(format) = found.key.suffix.format() else { return Err(no_such_image()) };
    if request.query().any(|(name, _)| name == "direct") {
        return elsewhere(api, request, &found.key, format);
    }
    let Found { key, object, negotiated } = found;
    let chosen = match negotiated {
        true => vec![("vary", "accept".to_owned()), ("content-location", format!("/v1/images/{key}"))],
        false => Vec::new(),
    };
    let told = Told {
        etag: format!("\"{key}\""),
        format,
        cache_control: "public, max-age=31536000, immutable".to_owned(),
        disposition: disposition(request, &key, format),
        chosen,
    };
    Ok(api.meters.delivered(answer(request, told, object)))
}

/// `?direct`: an address in the store itself, for a while.
fn elsewhere(api: &Api, request: &Request, key: &Key, format: Format) -> Result<Reply, Problem> {
    let direct = api.shelf.direct().ok_or_else(upload::no_direct_way)?;
    let link = direct.link(key, format.media_type(), &disposition(request, key, format));
    let reply = Reply::empty(307).with("location", link).with("cache-control", "no-store");
    // Which page it was asked for is none of the store's business, and the address is a leave of its own.
    Ok(reply.with("referrer-policy", "no-referrer"))
}

/// What is said of an image beside its bytes.
pub(super) struct Told {
    /// With its quotes.
    pub(super) etag: String,
    pub(super) format: Format,
    pub(super) cache_control: String,
    pub(super) disposition: String,
    /// Fields on how it was chosen among others.
    pub(super) chosen: Vec<(&'static str, String)>,
}

/// How it is shown or saved, and under which name.
pub(super) fn disposition(request: &Request, key: &Key, format: Format) -> String {
    let asked_to_save = request.query().any(|(name, _)| name == "download");
    let disposition = if asked_to_save { "attachment" } else { "inline" };
    let file_name: String = key.to_string().chars().take(12).collect();
    format!("{disposition}; filename=\"{file_name}.{}\"", format.name())
}

struct Found {
    key: Key,
    object: Box<dyn Object>,
    negotiated: bool,
}

/// The format that the client likes best, of those that are there.
async fn negotiated(api: &Api, request: &Request, any: Key) -> Result<Result<Found, StoreError>, Problem> {
    let mut found: Vec<(Format, Key, Box<dyn Object>)> = Vec::new();
    let mut error = StoreError::Missing(any);
    for format in FORMATS {
        let key = Key { suffix: Suffix::of(format), ..any };
        match api.shelf.open(&key).await {
            Ok(object) => found.push((format, key, object)),
            Err(StoreError::Missing(_)) => {}
            Err(other) => error = other,
        }
    }
    if found.is_empty() {
        return Ok(Err(error));
    }
    let offered: Vec<&str> = found.iter().map(|(format, ..)| format.media_type()).collect();
    let best = negotiate::best(request.field("accept"), &offered);
    let at = best.and_then(|best| found.iter().position(|(format, ..)| format.media_type() == best));
    let Some(at) = at else {
        let detail = format!("This image is there as {}. Accept one of them.", offered.join(", "));
        return Err(Problem::new(406, detail).with("vary", "accept"));
    };
    let (_, key, object) = found.swap_remove(at);
    Ok(Ok(Found { key, object, negotiated: true }))
}

/// The image, as the request's conditions and range want it.
pub(super) fn answer(request: &Request, told: Told, object: Box<dyn Object>) -> Reply {
    let len = object.meta().len;
    let (status, at, end) = match select(request, &told.etag, len) {
        Selection::Whole => (200, 0, len),
        Selection::Part { start, end } => (206, start, end),
        Selection::NotModified => (304, 0, 0),
        Selection::Failed => (412, 0, 0),
        Selection::Unsatisfiable => (416, 0, 0),
    };
    let reply = match status {
        200 | 206 => {
            object.announce(at..end);
            let pieces = Box::new(ObjectPieces { object, at, end });
            let body = ReplyBody::Streamed { len: Some(end - at), pieces };
            Reply { status, fields: Vec::new(), body }.with("content-type", told.format.media_type())
        }
        304 => Reply::empty(304),
        412 => return Problem::new(412, "The image is not the one that If-Match names.").into(),
        _ => {
            let detail = format!("The image has {len} bytes; the range begins behind them.");
            return Problem::new(416, detail).with("content-range", format!("bytes */{len}")).into();
        }
    };
    let mut reply =
        if status == 206 { reply.with("content-range", format!("bytes {at}-{}/{len}", end - 1)) } else { reply };
    reply.fields.extend(told.chosen);
    reply
        .with("etag", told.etag)
        .with("cache-control", told.cache_control)
        .with("accept-ranges", "bytes")
        .with("x-content-type-options", "nosniff")
        .with("content-disposition", told.disposition)
        // Made by our encoders from a stranger's pixels: shown anywhere, running nothing.
        .with("content-security-policy", "default-src 'none'; sandbox")
        .with("cross-origin-resource-policy", "cross-origin")
}

fn no_such_image() -> Problem {
    Problem::new(404, "There is no such image. Keys are in the outputs of a job's document, once it is done.")
}

/// A part of an object.
struct ObjectPieces {
    object: Box<dyn Object>,
    at: u64,
    end: u64,
}

impl Pieces for ObjectPieces {
    fn next(&mut self) -> Local<'_, io::Result<Option<Vec<u8>>>> {
        Box::pin(async move {
            let want = usize::try_from(self.end - self.at).unwrap_or(usize::MAX).min(PIECE_BYTES);
            if want == 0 {
                return Ok(None);
            }
            let reading = self.object.read_at(Vec::with_capacity(want), want, self.at);
            let piece = reading.await.map_err(io::Error::other)?;
            if piece.is_empty() {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the object is shorter than it was"));
            }
            self.at += piece.len() as u64;
            Ok(Some(piece))
        })
    }
}
