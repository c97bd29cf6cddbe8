//! One shard's way to the bucket: signs, calls, and calls again what failed in passing.
//!
//! Every call of this store may be made twice: reads and removals change nothing the second time, a conditional put finds
//! its own object, and a multipart upload that was begun twice is swept. So whatever probably passes is repeated, with
//! waits that double and are spread at random, and never longer than [`WAIT_MAX`].

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use annulus_engine::Shard;
use jiff::Timestamp;
use rusty_s3::signing::sign;
use rusty_s3::{Bucket, Method};
use url::{Position, Url};

use super::settings::S3Settings;
use super::trouble::Trouble;
use crate::gateway::config::model::{ClientTls, TlsVersion};
use crate::gateway::fetching::{
    Answer, Call, Cause, Dialer, Failure, FieldList, Origin, Phase, Protocol, Settings, Upstream, client_config,
    system_resolver,
};
use crate::hex;
use crate::image::job::random;
use crate::image::store::{Key, StoreError};

/// Calls for one thing, the first included.
pub(super) const ATTEMPTS_MAX: u32 = 5;
/// The first wait, and the longest.
const WAIT_FIRST: Duration = Duration::from_millis(100);
const WAIT_MAX: Duration = Duration::from_secs(5);
/// How long connecting may take.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// How long a signature holds: longer than any call may take, and no longer than need be.
const SIGNED: Duration = Duration::from_secs(900);
/// Idle connections that a shard keeps, and for how long: S3 closes its own after some 20 s.
const IDLE_MAX: usize = 64;
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);
/// How often they are looked at.
const TEND_EVERY: Duration = Duration::from_secs(5);
/// Longest document that an answer may be: a page of a listing has some 300 KiB.
const DOCUMENT_BYTES_MAX: usize = 8 << 20;
/// Longest believed `Retry-After`.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(10);
/// What addresses are believed for, so that a store behind a name that moves is followed.
const NAMES_TTL_MAX: Duration = Duration::from_secs(60);

/// The bucket and whose key is used, for all shards.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) settings: S3Settings,
    bucket: Bucket,
    /// As clients reach it.
    public: Bucket,
}

impl Site {
    /// # Errors
    /// A sentence.
    pub(super) fn new(settings: S3Settings) -> Result<Site, String> {
        let bucket = settings.bucket_at(None)?;
        let public = settings.bucket_at(settings.public_endpoint.as_ref())?;
        Ok(Site { settings, bucket, public })
    }

    /// The name of an object in the bucket.
    pub(super) fn object(&self, key: &Key) -> String {
        format!("{}objects/{key}", self.settings.prefix)
    }

    /// The name of something that has no key: in this folder.
    pub(super) fn nameless(&self, folder: &str) -> Result<String, StoreError> {
        let mut name = [0; 16];
        random(&mut name).map_err(|error| StoreError::Io(error.to_string()))?;
        Ok(format!("{}{folder}/{}", self.settings.prefix, hex::encode(&name)))
    }

    /// What a copy names as its source.
    pub(super) fn source(&self, name: &str) -> String {
        format!("/{}/{name}", self.settings.bucket)
    }

    /// A thing in the bucket, for sentences.
    pub(super) fn place(&self, name: &str) -> String {
        let of = if name.is_empty() { String::new() } else { format!("{name} in ") };
        format!("{of}bucket {} at {}", self.settings.bucket, self.bucket.base_url().origin().ascii_serialization())
    }

    fn sign(&self, bucket: &Bucket, ask: &Ask<'_>, holds: Duration) -> Url {
        let settings = &self.settings;
        // An empty name is the bucket itself.
        let url = if ask.name.is_empty() { bucket.base_url().clone() } else { bucket.object_url(ask.name) };
        sign(
            &Timestamp::now(),
            ask.method,
            url,
            settings.access_key.as_deref().unwrap_or_default(),
            settings.secret_key.as_ref().map_or("", |secret| secret.reveal()),
            settings.session_token.as_ref().map(|token| token.reveal()),
            bucket.region(),
            holds.as_secs(),
            ask.query.iter().copied(),
            ask.fields.iter().copied(),
        )
    }

    /// An address that lets whoever has it make this call.
    pub(super) fn presigned(&self, ask: &Ask<'_>) -> String {
        self.sign(&self.public, ask, self.settings.presigned).into()
    }
}

/// A call of the store.
#[derive(Clone, Copy)]
pub(super) struct Ask<'a> {
    pub(super) method: Method,
    /// The name in the bucket; empty is the bucket itself.
    pub(super) name: &'a str,
    /// Sorted by name.
    pub(super) query: &'a [(&'a str, &'a str)],
    /// In lower case and sorted; signed.
    pub(super) fields: &'a [(&'a str, &'a str)],
    pub(super) body: Option<&'a [u8]>,
}

impl<'a> Ask<'a> {
    pub(super) fn new(method: Method, name: &'a str) -> Ask<'a> {
        Ask { method, name, query: &[], fields: &[], body: None }
    }
}

/// An answer that is here in whole.
pub(super) struct Heard {
    pub(super) fields: FieldList,
    pub(super) body: Vec<u8>,
}

impl Heard {
    /// The body as text.
    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap_or_default()
    }
}

/// See the module's description.
pub(super) struct Client {
    pub(super) shard: Shard,
    pub(super) site: Arc<Site>,
    upstream: Rc<Upstream>,
}

impl Client {
    /// A client without connections.
    ///
    /// # Errors
    /// A sentence: the certificates cannot be used.
    pub(super) fn new(shard: &Shard, site: &Arc<Site>) -> Result<Rc<Client>, String> {
        let tls = ClientTls {
            allow_insecure_connections: false,
            ca_certs: site.settings.ca_certificate.iter().cloned().collect(),
            system_ca_pool: true,
            min_version: TlsVersion::Tls12,
            max_version: TlsVersion::Tls13,
            client_certs: Vec::new(),
        };
        let tls = client_config(&tls).map_err(|error| format!("image.s3.ca_certificate: {error}"))?;
        let resolver = system_resolver(shard, &[], NAMES_TTL_MAX);
        let dialer = Rc::new(Dialer::new(shard, resolver, &tls, CONNECT_MAX));
        let mut settings = Settings { idle_max: IDLE_MAX, idle_timeout: IDLE_TIMEOUT, ..Settings::default() };
        // Objects are pieces that are passed on, whatever their length.
        settings.http1.body_bytes_max = u64::MAX;
        let upstream = Upstream::new(shard, dialer, origin(site.bucket.base_url()), Rc::new(settings));
        let client = Rc::new(Client { shard: shard.clone(), site: site.clone(), upstream });
        let (tended, shard) = (Rc::downgrade(&client), shard.clone());
        drop(client.shard.spawn_background(async move {
            loop {
                shard.sleep(TEND_EVERY).await;
                let Some(client) = tended.upgrade() else { return };
                client.upstream.sweep();
            }
        }));
        Ok(client)
    }

    /// Makes a call, until it is answered with success or with a failure that stays. The whole answer.
    pub(super) async fn ask(&self, ask: &Ask<'_>) -> Result<Heard, Trouble> {
        let mut attempt = 1;
        loop {
            let trouble = match self.once(ask).await {
                Ok(heard) => return Ok(heard),
                Err(trouble) => trouble,
            };
            self.pause(&mut attempt, trouble).await?;
        }
    }

    /// Waits before the next attempt, if there is one.
    ///
    /// # Errors
    /// The trouble: it does not pass, or there were attempts enough.
    pub(super) async fn pause(&self, attempt: &mut u32, trouble: (Trouble, Option<Duration>)) -> Result<(), Trouble> {
        let (trouble, after) = trouble;
        if !trouble.is_passing() || *attempt >= ATTEMPTS_MAX {
            return Err(trouble);
        }
        let bound = WAIT_FIRST.saturating_mul(1 << *attempt).min(WAIT_MAX);
        let mut number = [0; 4];
        // Without randomness the whole wait is as good.
        let part = random(&mut number).map_or(1.0, |()| f64::from(u32::from_le_bytes(number)) / f64::from(u32::MAX));
        self.shard.sleep(after.unwrap_or_default() + bound.mul_f64(part)).await;
        *attempt += 1;
        Ok(())
    }

    /// One attempt.
    async fn once(&self, ask: &Ask<'_>) -> Result<Heard, (Trouble, Option<Duration>)> {
        let mut answer = self.begin(ask).await?;
        let fields = answer.fields.clone();
        // Piece by piece: the length that an answer to HEAD declares is not that of its own body.
        let collecting = async {
            let mut body = Vec::new();
            while answer.next(&mut body).await? {
                if body.len() > DOCUMENT_BYTES_MAX {
                    let cause = Cause::TooLarge(DOCUMENT_BYTES_MAX);
                    return Err(Failure { phase: Phase::Body, cause, unprocessed: false });
                }
            }
            Ok(body)
        };
        let body = self.shard.timeout(self.site.settings.answer_max, collecting).await;
        let body = body.unwrap_or_else(|_elapsed| Err(Failure::timeout(Phase::Body)));
        Ok(Heard { fields, body: body.map_err(|failure| (Trouble::of_failure(&failure), None))? })
    }

    /// One attempt, until the head of an answer of success is here; what it is said to wait otherwise.
    pub(super) async fn begin(&self, ask: &Ask<'_>) -> Result<Answer, (Trouble, Option<Duration>)> {
        let url = self.site.sign(&self.site.bucket, ask, SIGNED);
        let mut fields = FieldList::new();
        for (name, value) in ask.fields {
            fields.push(name, value.as_bytes());
        }
        fields.push("user-agent", concat!("annulus/", env!("CARGO_PKG_VERSION")).as_bytes());
        let authority = &url[Position::BeforeHost..Position::AfterPort];
        let progress = Cell::new(Phase::Admission);
        let call = Call {
            method: ask.method.to_str(),
            target: &url[Position::BeforePath..Position::AfterQuery],
            authority,
            fields: &fields,
            // A PUT or POST without a body says so: its length is 0.
            body: ask.body.or_else(|| matches!(ask.method, Method::Put | Method::Post).then_some(&[][..])),
            inflow: None,
            progress: &progress,
        };
        let patience = self.site.settings.answer_max;
        let called = self.shard.timeout(patience, self.upstream.call(&call)).await;
        let answer = called.unwrap_or_else(|_elapsed| Err(Failure::timeout(progress.get())));
        let answer = answer.map_err(|failure| (Trouble::of_failure(&failure), None))?;
        if (200..300).contains(&answer.status) {
            return Ok(answer);
        }
        let status = answer.status;
        let after = answer.fields.text("retry-after").and_then(|value| value.parse().ok()).map(Duration::from_secs);
        // What an error says is worth having, but not worth waiting for.
        let said = self.shard.timeout(CONNECT_MAX, answer.collect(DOCUMENT_BYTES_MAX)).await;
        let said = said.ok().and_then(Result::ok).unwrap_or_default();
        Err((Trouble::of_answer(status, &said), after.map(|after| after.min(RETRY_AFTER_MAX))))
    }

    /// The sentence of a trouble with this name.
    pub(super) fn told(&self, trouble: &Trouble, doing: &str, name: &str) -> StoreError {
        trouble.told(doing, &self.site.place(name))
    }
}

fn origin(url: &Url) -> Origin {
    let tls = url.scheme() == "https";
    Origin {
        tls,
        host: url.host_str().unwrap_or_default().to_ascii_lowercase(),
        port: url.port().unwrap_or(if tls { 443 } else { 80 }),
        protocol: Protocol::Http1,
    }
}
