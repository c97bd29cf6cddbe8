//! Answers compressed for clients that take them so (RFC 9110 section 12.5.3), where it is worth the time that it takes.
//!
//! What the gateway has put together is compressed as a whole: short texts on the spot, longer ones by the compute threads
//! while they have time, and none where the shard has too much to do. Answers that are passed on as they come are not
//! touched: their upstream had its say with the client.
//!
//! Whatever could have been compressed says that it varies with `Accept-Encoding`, also where it was not.

use std::sync::Arc;
use std::time::Duration;

use annulus_engine::Shard;
use annulus_engine::metrics::Counter;
use brotli::enc::BrotliEncoderParams;
use zlib_rs::{DeflateConfig, ReturnCode, compress_slice};

use super::config::model::{self, Coding};
use super::request::{Reply, ReplyBody, Request};
use super::shed::Level;
use crate::serve::pieces::Pieces;

/// Bytes of a text that is compressed by the shard itself, in some hundred microseconds: to hand it over takes longer.
const INLINE_BYTES_MAX: usize = 16 << 10;
/// Bytes of the longest text that is compressed at all. What is longer would be waited for too long.
const BYTES_MAX: usize = 4 << 20;
/// How long the compute threads may take for a text, and for each of its MiB. They run when nothing else does, and a shard
/// that is busy would wait for ever: the text is sent as it is then.
const PATIENCE: Duration = Duration::from_millis(50);
const PATIENCE_PER_MIB: Duration = Duration::from_millis(100);
/// As small as 6 at a few KiB, and as fast as 2.
const GZIP_LEVEL: i32 = 4;
/// zlib's way to say that a window of 2^15 bytes comes with gzip's head and checksum (RFC 1952).
const GZIP_WINDOW_BITS: i32 = 15 + 16;
/// The best that takes about as long as gzip.
const BROTLI_QUALITY: i32 = 4;
/// The window as a power of two: what is shorter is not searched with more memory than it has bytes.
const BROTLI_WINDOW_BITS_MIN: u32 = 16;
const BROTLI_WINDOW_BITS_MAX: u32 = 20;

/// A weight in thousandths (RFC 9110 section 12.4.2).
type Weight = u16;
const WEIGHT_MAX: Weight = 1000;

/// Compresses a shard's answers.
pub struct Compression {
    codings: Vec<Coding>,
    bytes_min: usize,
    meters: Meters,
}

struct Meters {
    brotli: Arc<Counter>,
    gzip: Arc<Counter>,
    skipped: Arc<Counter>,
    saved: Arc<Counter>,
}

impl Compression {
    /// As the file says.
    pub fn new(shard: &Shard, settings: &model::Compression) -> Compression {
        let metrics = shard.metrics();
        let coding = |coding: Coding| {
            let (name, help) = ("annulus_gateway_compressed_total", "Answers that were compressed for their clients.");
            metrics.counter_with(name, help, &[("coding", coding.name())])
        };
        let meters = Meters {
            brotli: coding(Coding::Brotli),
            gzip: coding(Coding::Gzip),
            skipped: metrics.counter(
                "annulus_gateway_compression_skipped_total",
                "Answers that were sent as they are because nobody had time to compress them.",
            ),
            saved: metrics
                .counter("annulus_gateway_compression_saved_bytes_total", "Bytes that compression has saved."),
        };
        Compression { codings: settings.codings.clone(), bytes_min: settings.bytes_min, meters }
    }

    /// Compresses an answer, if its client takes it so and somebody has the time.
    pub async fn apply(&self, shard: &Shard, level: Level, request: &Request, mut reply: Reply) -> Reply {
        let ReplyBody::Whole(body) = &reply.body else { return reply };
        let len = body.len();
        if len < self.bytes_min || len > BYTES_MAX || !is_suitable(&reply) {
            return reply;
        }
        let accepted = request.fields.iter().filter(|(name, _)| *name == "accept-encoding");
        let accepted = accepted.map(|(_, value)| std::str::from_utf8(value).unwrap_or_default());
        let coding = chosen(&self.codings, accepted);
        let compressed = match coding {
            None => None,
            Some(coding) if level == Level::Calm => self.compress(shard, coding, body).await,
            Some(_) => {
                self.meters.skipped.add(1);
                None
            }
        };
        reply.fields.push("vary", b"Accept-Encoding");
        if let (Some(coding), Some(bytes)) = (coding, compressed) {
            self.meters.saved.add((len - bytes.len()) as u64);
            reply.fields.push("content-encoding", coding.name().as_bytes());
            reply.body = ReplyBody::Whole(bytes.into());
        }
        reply
    }

    /// The text, if it becomes shorter and there was time for it.
    async fn compress(&self, shard: &Shard, coding: Coding, body: &Pieces) -> Option<Vec<u8>> {
        let mut text = Vec::new();
        body.copy_to(&mut text);
        let len = text.len();
        let compressed = if len <= INLINE_BYTES_MAX {
            encode(coding, &text)
        } else {
            let patience = PATIENCE + PATIENCE_PER_MIB.mul_f64(len as f64 / f64::from(1 << 20));
            let job = shard.compute(move || encode(coding, &text));
            let done = match job {
                Ok(job) => shard.timeout(patience, job).await.ok().and_then(Result::ok),
                Err(_busy) => None,
            };
            let Some(compressed) = done else {
                self.meters.skipped.add(1);
                return None;
            };
            compressed
        };
        match coding {
            Coding::Brotli => &self.meters.brotli,
            Coding::Gzip => &self.meters.gzip,
        }
        .add(u64::from(compressed.is_some()));
        compressed
    }
}

/// Whether an answer is a text that nobody has encoded yet, and that may be.
fn is_suitable(reply: &Reply) -> bool {
    let kind = reply.fields.text("content-type").unwrap_or_default().split(';').next().unwrap_or_default();
    let kind = kind.trim().to_ascii_lowercase();
    let is_text = kind.starts_with("text/")
        || kind.ends_with("+json")
        || kind.ends_with("+xml")
        || matches!(&kind[..], "application/json" | "application/xml" | "application/yaml");
    // RFC 9110 section 7.7: `no-transform` is for proxies, and what a backend says of caching may have become ours.
    let is_fixed = reply.fields.text("cache-control").is_some_and(|value| value.contains("no-transform"));
    is_text && !is_fixed && reply.fields.get("content-encoding").is_none()
}

/// The coding that a client likes best, of those that it likes equally the first; `None` if it takes none of them, or likes
/// the text as it is better. A client that says nothing may not know what a coding is, and gets the text as it is.
fn chosen<'a>(offered: &[Coding], accepted: impl Iterator<Item = &'a str>) -> Option<Coding> {
    let (mut named, mut identity, mut others) = (Vec::new(), None, None);
    for item in accepted.flat_map(|list| list.split(',')) {
        let (name, parameters) = item.split_once(';').unwrap_or((item, ""));
        let Some(weight) = weight_of(parameters) else { continue };
        match name.trim().to_ascii_lowercase().as_str() {
            "br" => named.push((Coding::Brotli, weight)),
            // RFC 9110 section 8.4.1.3: an old name for the same.
            "gzip" | "x-gzip" => named.push((Coding::Gzip, weight)),
            "identity" => identity = Some(weight),
            "*" => others = Some(weight),
            _ => {}
        }
    }
    let weight = |coding: Coding| {
        let own = named.iter().find(|(other, _)| *other == coding).map(|(_, weight)| *weight);
        own.or(others).unwrap_or(0)
    };
    let mut best: Option<(Coding, Weight)> = None;
    for &coding in offered {
        let weight = weight(coding);
        if weight > best.map_or(0, |(_, best)| best) {
            best = Some((coding, weight));
        }
    }
    best.filter(|(_, weight)| identity.is_none_or(|identity| identity <= *weight)).map(|(coding, _)| coding)
}

/// The weight among a list item's parameters; `None` if it is none.
fn weight_of(parameters: &str) -> Option<Weight> {
    let named = |parameter: &'_ str| -> Option<String> {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("q").then(|| value.trim().to_owned())
    };
    let Some(text) = parameters.split(';').find_map(named) else { return Some(WEIGHT_MAX) };
    let (whole, part) = text.split_once('.').unwrap_or((&text, ""));
    if part.len() > 3 || !part.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let thousandths: Weight = format!("{part:0<3}").parse().ok()?;
    match (whole, thousandths) {
        ("0", thousandths) => Some(thousandths),
        ("1", 0) => Some(WEIGHT_MAX),
        _ => None,
    }
}

/// A text in a coding; `None` if that is not shorter.
fn encode(coding: Coding, text: &[u8]) -> Option<Vec<u8>> {
    match coding {
        Coding::Brotli => brotli(text),
        Coding::Gzip => gzip(text),
    }
}

fn gzip(text: &[u8]) -> Option<Vec<u8>> {
    let config = DeflateConfig { level: GZIP_LEVEL, window_bits: GZIP_WINDOW_BITS, ..DeflateConfig::default() };
    // What does not fit is not shorter.
    let mut out = vec![0; text.len()];
    let (written, code) = compress_slice(&mut out, text, config);
    let len = written.len();
    out.truncate(len);
    (code == ReturnCode::Ok && len < text.len()).then_some(out)
}

fn brotli(text: &[u8]) -> Option<Vec<u8>> {
    let bits = usize::BITS - text.len().leading_zeros();
    let params = BrotliEncoderParams {
        quality: BROTLI_QUALITY,
        lgwin: bits.clamp(BROTLI_WINDOW_BITS_MIN, BROTLI_WINDOW_BITS_MAX) as i32,
        size_hint: text.len(),
        ..BrotliEncoderParams::default()
    };
    let (mut from, mut out) = (text, Vec::with_capacity(text.len() / 2));
    let written = brotli::BrotliCompress(&mut from, &mut out, &params);
    // Neither memory that is read nor memory that is written has errors of its own.
    (written.is_ok() && out.len() < text.len()).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use Coding::{Brotli, Gzip};

    #[test]
    fn clients_choose_by_weight_and_we_among_equals() {
        let both = [Brotli, Gzip];
        for (accepted, expected) in [
            (&["gzip, br"][..], Some(Brotli)),
            (&["gzip"], Some(Gzip)),
            (&["X-GZIP"], Some(Gzip)),
            (&["gzip", "br;q=0.9"], Some(Gzip)),
            (&["gzip;q=0.5, br;q=0.4, deflate"], Some(Gzip)),
            (&["br ; Q=0.001"], Some(Brotli)),
            (&["br;q=0, *"], Some(Gzip)),
            (&["*;q=0.5"], Some(Brotli)),
            (&["gzip;q=1.000"], Some(Gzip)),
            (&["identity, gzip"], Some(Gzip)),
            (&["identity;q=0, br;q=0.1"], Some(Brotli)),
            (&["identity, gzip;q=0.5"], None),
            (&["*;q=0"], None),
            (&["gzip;q=0"], None),
            (&["deflate, zstd"], None),
            (&["gzip;q=2", "br;q=0.1234", "br;q=a"], None),
            (&["", ",;,"], None),
            (&[], None),
        ] {
            assert_eq!(chosen(&both, accepted.iter().copied()), expected, "{accepted:?}");
        }
        assert_eq!(chosen(&[Gzip, Brotli], ["br, gzip"].into_iter()), Some(Gzip));
        assert_eq!(chosen(&[Gzip], ["br"].into_iter()), None);
    }

    #[test]
    fn texts_come_back_as_they_were_and_noise_is_left_alone() {
        let long: String = (0..20_000).map(|number| format!("{{\"number\":{number}}},")).collect();
        for text in [&long[..2000], &long] {
            let packed = gzip(text.as_bytes()).unwrap();
            let mut out = vec![0; text.len()];
            let config = zlib_rs::InflateConfig { window_bits: GZIP_WINDOW_BITS };
            let (read, code) = zlib_rs::decompress_slice(&mut out, &packed, config);
            assert!(code == ReturnCode::Ok && read == text.as_bytes());
            let packed = brotli(text.as_bytes()).unwrap();
            let mut out = Vec::new();
            brotli::BrotliDecompress(&mut &packed[..], &mut out).unwrap();
            assert!(out == text.as_bytes());
        }
        let mut seed = 1_u64;
        let noise: Vec<u8> = (0..4000)
            .map(|_| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (seed >> 56) as u8
            })
            .collect();
        assert!(gzip(&noise).is_none() && brotli(&noise).is_none());
    }

    #[test]
    fn only_texts_that_nobody_has_encoded_are_compressed() {
        let reply = |kind: &str| Reply::new(200, kind, Vec::new());
        for kind in ["application/json", "text/plain; charset=utf-8", "Application/Problem+JSON", "image/svg+xml"] {
            assert!(is_suitable(&reply(kind)), "{kind}");
        }
        for kind in ["image/png", "application/octet-stream", "application/gzip", ""] {
            assert!(!is_suitable(&reply(kind)), "{kind}");
        }
        assert!(!is_suitable(&reply("text/plain").with("content-encoding", "br")));
        assert!(!is_suitable(&reply("text/plain").with("cache-control", "max-age=1, no-transform")));
        assert!(!is_suitable(&Reply::empty(200)));
    }
}
