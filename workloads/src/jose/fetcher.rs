//! One shard's side of [`Signatures`]: verifies where an algorithm belongs, and fetches key sets.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use annulus_engine::Shard;

use super::{Flight, SET_BYTES_MAX, Signatures, Skipped, TokenError, Weight};
use crate::outbound::{self, Outbound};

/// How long fetching a key set may take.
const FETCH_MAX: Duration = Duration::from_secs(5);
/// How often somebody who waits for a fetch looks whether it has ended.
const FETCH_LOOK: Duration = Duration::from_millis(20);

/// See the module's description.
pub struct Fetcher {
    shard: Shard,
    outbound: Rc<Outbound>,
    /// Whose log it is.
    service: &'static str,
    /// Keys of the last set that are not used, as far as that was said.
    skipped: Cell<Skipped>,
}

impl Fetcher {
    /// Over those connections. Lines in the log begin with the service's name.
    pub fn new(shard: &Shard, outbound: &Rc<Outbound>, service: &'static str) -> Rc<Fetcher> {
        Rc::new(Fetcher { shard: shard.clone(), outbound: outbound.clone(), service, skipped: Cell::default() })
    }

    /// Verifies a token where its algorithm belongs, with its key fetched first if need be, from `url`. `verify` also says
    /// what its claims are worth.
    ///
    /// # Errors
    /// Why the token does not count; [`TokenError::KeysUnavailable`]: nobody can say now.
    pub async fn verified<C: Send + 'static>(
        self: &Rc<Fetcher>,
        signatures: &Arc<Signatures>,
        url: Option<&str>,
        token: &str,
        verify: impl Fn(&str, u64) -> Result<C, TokenError> + Clone + Send + 'static,
    ) -> Result<C, TokenError> {
        let until = self.shard.now() + FETCH_MAX;
        let mut has_waited = false;
        while self.shard.now() < until {
            let now = unix_now();
            let claims = match signatures.weight(token, now) {
                Weight::Inline => verify(token, now),
                Weight::Compute => {
                    let (verify, token) = (verify.clone(), token.to_owned());
                    let Ok(job) = self.shard.compute(move || verify(&token, now)) else {
                        return Err(TokenError::KeysUnavailable);
                    };
                    job.await.unwrap_or(Err(TokenError::KeysUnavailable))
                }
            };
            match claims {
                Err(TokenError::KeyPending) => {
                    self.begin(signatures, url);
                    self.shard.sleep(FETCH_LOOK).await;
                }
                // A fetch that this token waited for did not bring its key: that is final.
                claims if has_waited => return claims,
                claims => return signatures.tentatively(claims),
            }
            has_waited = true;
        }
        Err(TokenError::KeysUnavailable)
    }

    /// Whether a key set has become old, and nobody fetches it yet.
    pub fn is_due(&self, signatures: &Signatures) -> bool {
        signatures.jwks().is_some_and(|cache| cache.is_due(unix_now()))
    }

    /// Begins to fetch the key set, unless somebody does already or did a moment ago. In a task of its own: whoever asked for
    /// it may leave, and others wait for it.
    pub fn begin(self: &Rc<Fetcher>, signatures: &Arc<Signatures>, url: Option<&str>) {
        let Some(url) = url else { return };
        let Some(flight) = signatures.jwks().and_then(|cache| cache.begin_fetch(unix_now())) else { return };
        let (fetcher, signatures, url) = (self.clone(), signatures.clone(), url.to_owned());
        drop(self.shard.spawn(async move { fetcher.fetch(flight, signatures, &url).await }));
    }

    async fn fetch(&self, flight: Flight, signatures: Arc<Signatures>, url: &str) {
        let service = self.service;
        let fetched = outbound::get(&self.outbound, url, SET_BYTES_MAX, FETCH_MAX).await;
        if let Err(sentence) = &fetched {
            crate::warn!("{service}: the key set cannot be fetched: {sentence}");
        }
        // Reading a hundred keys is no work for a shard.
        let land = move || {
            let cache = signatures.jwks().expect("a flight is of an endpoint");
            cache.on_fetched(flight, unix_now(), fetched.as_deref().map_err(|_| ()))
        };
        let landed = match self.shard.compute(land) {
            Ok(job) => job.await.map_err(|error| error.to_string()).and_then(|landed| landed),
            Err(busy) => Err(busy.to_string()),
        };
        match landed {
            Ok(landed) if landed.skipped == self.skipped.replace(landed.skipped) => {}
            Ok(landed) => crate::say!(
                "{service}: {} keys of the set can verify tokens; passed over: {}",
                landed.keys,
                landed.skipped
            ),
            Err(sentence) => crate::warn!("{service}: the key set cannot be used: {sentence}"),
        }
    }
}

/// Seconds of the Unix clock: what tokens are measured by.
fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
