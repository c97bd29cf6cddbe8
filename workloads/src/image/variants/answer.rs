//! A variant for a client, on a shard: found, or asked for and waited for.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use super::address::{self, Asked};
use super::{Made, Refused, VariantSettings, Variants, Wish};
use crate::image::api::{Api, of_fault, of_store};
use crate::image::delivery::{self, Told, disposition};
use crate::image::fault::{Fault, Kind};
use crate::image::format::Format;
use crate::image::header::{self, Apart, Header, Progress};
use crate::image::intake::judge;
use crate::image::sniff::{self, SNIFF_BYTES};
use crate::image::store::{Key, Object, StoreError};
use crate::image::upload::whole_seconds;
use crate::serve::range::{Selection, select};
use crate::serve::wire::{Either, either};
use crate::serve::{Body, Problem, Reply, Request, negotiate};

/// Bytes of an original that are read at first: enough for most heads.
const HEAD_BYTES: usize = 64 << 10;

/// `GET /v1/images/ORIGINAL/OPTIONS`.
pub(in crate::image) async fn deliver(api: &Api, request: &Request, body: &mut Body<'_>) -> Result<Reply, Problem> {
    let variants = api.desk.variants.as_ref().ok_or_else(not_offered)?;
    let (asked, left) = allowed(api, variants, request)?;
    let settings = &variants.settings;
    let mut recipe = asked.recipe;
    if asked.is_negotiated {
        recipe.format = liked(request.field("accept"), &settings.auto);
    }
    let key = api.desk.queue.salt().variant(&asked.original, &recipe);
    let told = Promise {
        etag: format!("\"{key}\""),
        cache_control: cache_control(settings, left, asked.is_lasting),
        is_negotiated: asked.is_negotiated,
    };
    match api.shelf.open(&key).await {
        Ok(object) => {
            variants.figures.found.fetch_add(1, Ordering::Relaxed);
            let format = match recipe.format {
                Some(format) => format,
                None => sniffed(&*object).await?,
            };
            return Ok(told.kept(api, request, &key, format, object));
        }
        Err(StoreError::Missing(_)) => {}
        Err(error) => return Err(of_store(error)),
    }
    // Until it is in the store the original is not deleted, so that nothing of one outlives it.
    let entering = api.desk.doors.enter(&api.shard, asked.original).await?;
    let original = match api.shelf.open(&asked.original).await {
        Err(StoreError::Missing(_)) => return Err(no_original()),
        opened => opened.map_err(of_store)?,
    };
    // What the client has is what would be made: nobody has to make it.
    if select(request, &told.etag, 0) == Selection::NotModified {
        return Ok(told.not_modified());
    }
    let len = original.meta().len;
    let header = header_of(api, &*original).await?;
    drop(original);
    let wish = Wish { _entering: Some(entering), ..Wish::of(key, asked.original, len, header, recipe) };
    judge(api.desk.gate.ask_aside(&wish.cost))?;
    let Made { format } = made(api, variants, body, wish).await?;
    let object = match api.shelf.open(&key).await {
        // It had to go for others at once.
        Err(StoreError::Missing(_)) => return Err(busy("The room for variants is too small for those asked for.", 1)),
        opened => opened.map_err(of_store)?,
    };
    Ok(told.kept(api, request, &key, format, object))
}

/// What is asked for, by leave of a signature; and the seconds that are left of it, if it ends.
fn allowed(api: &Api, variants: &Variants, request: &Request) -> Result<(Asked, Option<u64>), Problem> {
    let refused = |problem: Problem| {
        variants.figures.unsigned.fetch_add(1, Ordering::Relaxed);
        problem
    };
    let (path, signature) = address::split(request.path());
    let settings = &variants.settings;
    let is_signed = signature.is_some_and(|signature| settings.signer.has_signed(path, signature));
    // A wrong signature is wrong also where none is needed.
    if !is_signed && (signature.is_some() || !settings.unsigned) {
        return Err(refused(unsigned(signature.is_some())));
    }
    let mut asked = address::read(path, &api.config.presets).map_err(|fault| of_fault(&fault))?;
    api.config.presets.resolve(&mut asked.recipe).map_err(|fault| of_fault(&fault))?;
    // A clock before 1970 is as good as 1970.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let left = asked.expires.map(|until| until.saturating_sub(now));
    if left == Some(0) {
        return Err(refused(expired()));
    }
    Ok((asked, left))
}

/// The format for a client that may choose: what it names, or the one that is made where none is asked for.
fn liked(accept: Option<&str>, offered: &[Format]) -> Option<Format> {
    let kinds: Vec<&str> = offered.iter().map(|format| format.media_type()).collect();
    let best = negotiate::best_named(accept, &kinds)?;
    offered.iter().copied().find(|format| format.media_type() == best)
}

fn cache_control(settings: &VariantSettings, left: Option<u64>, is_lasting: bool) -> String {
    let max_age = settings.max_age.as_secs();
    match left {
        Some(left) => format!("public, max-age={}", left.min(max_age)),
        None if is_lasting && max_age > 0 => format!("public, max-age={max_age}, immutable"),
        None => format!("public, max-age={max_age}"),
    }
}

/// What is known of an answer before the variant is.
struct Promise {
    etag: String,
    cache_control: String,
    is_negotiated: bool,
}

impl Promise {
    fn chosen(&self) -> Vec<(&'static str, String)> {
        if self.is_negotiated { vec![("vary", "accept".to_owned())] } else { Vec::new() }
    }

    fn kept(self, api: &Api, request: &Request, key: &Key, format: Format, object: Box<dyn Object>) -> Reply {
        let chosen = self.chosen();
        let Promise { etag, cache_control, .. } = self;
        let disposition = disposition(request, key, format);
        api.meters.delivered(delivery::answer(
            request,
            Told { etag, format, cache_control, disposition, chosen },
            object,
        ))
    }

    fn not_modified(self) -> Reply {
        let mut reply = Reply::empty(304);
        reply.fields.extend(self.chosen());
        reply.with("etag", self.etag).with("cache-control", self.cache_control)
    }
}

/// The format of a variant that was left to its original: its first bytes say it.
async fn sniffed(object: &dyn Object) -> Result<Format, Problem> {
    object.announce(0..object.meta().len);
    let head = object.read_at(Vec::with_capacity(SNIFF_BYTES), SNIFF_BYTES, 0).await.map_err(of_store)?;
    let known = sniff::sniff(&head).and_then(|sniffed| sniff::format(sniffed).ok());
    known.ok_or_else(|| of_store(StoreError::Io("a variant in the store is no image".to_owned())))
}

/// What an original's head says, within the limits of today.
async fn header_of(api: &Api, original: &dyn Object) -> Result<Header, Problem> {
    let len = original.meta().len;
    let read_to = async |bytes: Vec<u8>, at: u64, end: u64| {
        let more = usize::try_from(end.min(len).saturating_sub(at)).unwrap_or(usize::MAX);
        original.read_at(bytes, more, at).await.map_err(of_store)
    };
    let mut head = read_to(Vec::new(), 0, HEAD_BYTES as u64).await?;
    let (mut from, mut apart) = (0, Vec::new());
    loop {
        let end = (head.len() as u64).max(from + apart.len() as u64);
        let known = Apart { at: usize::try_from(from).unwrap_or(usize::MAX), bytes: &apart };
        let read = header::read_apart(&head, known, Some(len), &api.config.limits).map_err(|fault| of_fault(&fault))?;
        match read {
            Progress::Header(header) => return Ok(header),
            Progress::NeedMore { from: ahead, bytes } if ahead > head.len() as u64 => {
                (from, apart) = (ahead, read_to(Vec::new(), ahead, bytes).await?);
            }
            Progress::NeedMore { bytes, .. } => {
                let at = head.len() as u64;
                head = read_to(head, at, bytes.max(at + 1)).await?;
            }
        }
        if (head.len() as u64).max(from + apart.len() as u64) <= end {
            let detail = "the original ends in the middle of its header";
            return Err(of_fault(&Fault::new(Kind::BadImage, detail)));
        }
    }
}

/// Waits for a variant to be made, as long as the client is there and the limit says.
async fn made(api: &Api, variants: &Arc<Variants>, body: &mut Body<'_>, wish: Wish) -> Result<Made, Problem> {
    let wait = variants.settings.wait_max;
    let making = api.shard.until_drained(api.shard.timeout(wait, variants.ask(wish)));
    match either(making, body.left()).await {
        Either::First(Some(Ok(Some(Ok(made))))) => Ok(made),
        Either::First(Some(Ok(Some(Err(refused))))) => Err(of_refused(refused)),
        Either::First(Some(Err(_elapsed))) => {
            let why = format!("It is still being made after {} s; ask again, and it may be there.", wait.as_secs());
            Err(busy(&why, 1))
        }
        // The server stops, or nobody is there to read this.
        Either::First(None | Some(Ok(None))) | Either::Second(()) => {
            Err(busy("The server is going away. Ask again.", 5))
        }
    }
}

fn of_refused(refused: Refused) -> Problem {
    match refused {
        Refused::Busy(wait) => busy("Too many variants wait to be made.", whole_seconds(wait)),
        Refused::Fault(fault) => of_fault(&fault),
        Refused::Store(error) => of_store(error),
    }
}

fn busy(why: &str, seconds: u64) -> Problem {
    Problem::new(503, why)
        .of_kind("about:blank#variants-busy", "The variant is not there yet")
        .with("retry-after", seconds.to_string())
}

fn not_offered() -> Problem {
    Problem::new(
        404,
        "There is nothing at this address: this server makes no variants of originals. Those who run it can switch them on: \
         [image.variants].",
    )
}

fn no_original() -> Problem {
    Problem::new(404, "There is no such original. It may have been removed; source.key of a job's document names one.")
}

fn unsigned(is_wrong: bool) -> Problem {
    let detail = match is_wrong {
        true => {
            "The signature is not of this address: every byte of the path before /sig: counts, and the key may have been \
             replaced. Sign it anew."
        }
        false => "This address is not signed. End it with /sig:SIGNATURE: `annulus image sign` makes one.",
    };
    Problem::new(403, detail).of_kind("about:blank#not-signed", "The address is not signed")
}

fn expired() -> Problem {
    let detail = "This address was good until the moment that exp: says, which has passed. Ask for a new one where it came from.";
    Problem::new(410, detail).of_kind("about:blank#expired", "The address has expired")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn caches_keep_what_lasts() {
        let settings = VariantSettings { max_age: Duration::from_secs(1000), ..VariantSettings::default() };
        for (left, is_lasting, expected) in [
            (None, true, "public, max-age=1000, immutable"),
            (None, false, "public, max-age=1000"),
            (Some(7), true, "public, max-age=7"),
            (Some(7000), true, "public, max-age=1000"),
        ] {
            assert_eq!(cache_control(&settings, left, is_lasting), expected);
        }
        let uncached = VariantSettings { max_age: Duration::ZERO, ..VariantSettings::default() };
        assert_eq!(cache_control(&uncached, None, true), "public, max-age=0");
    }

    #[test]
    fn who_names_no_new_format_gets_the_originals_own() {
        let auto = [Format::Avif, Format::Webp];
        assert_eq!(liked(Some("image/webp,*/*;q=0.8"), &auto), Some(Format::Webp));
        assert_eq!(liked(Some("image/avif,image/webp"), &[Format::Webp]), Some(Format::Webp));
        assert_eq!((liked(Some("*/*"), &auto), liked(None, &auto)), (None, None));
    }
}
