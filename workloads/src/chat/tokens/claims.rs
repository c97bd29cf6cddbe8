//! What tokens say: claims of a connection and of a subscription.
//!
//! Nothing here knows of signatures; a payload comes here once its signature was found good, and what it says is still
//! checked to the letter: a claim of the wrong type makes the token invalid instead of being passed over.

use std::collections::BTreeSet;

use annulus_protocols::json::{Value, validate, write_without_line_ends};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::jose::object::{self, Member, Refused};
use crate::jose::{Registered, TokenError};

/// Bytes of an application in a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// One JSON value without raw line ends, so that it can stand in any frame.
    Json(Vec<u8>),
    /// Anything else, from a `b64...` claim: for the Protobuf form only. Within JSON it would break the frame.
    Binary(Vec<u8>),
}

impl Payload {
    /// The bytes, whatever they are.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Payload::Json(bytes) | Payload::Binary(bytes) => bytes,
        }
    }

    /// The bytes if they may stand in JSON.
    pub fn json(&self) -> Option<&[u8]> {
        match self {
            Payload::Json(bytes) => Some(bytes),
            Payload::Binary(_) => None,
        }
    }
}

/// What a token changes of a channel's options. `None` leaves what is configured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Takes part in presence.
    pub presence: Option<bool>,
    /// Joining and leaving are told to others.
    pub join_leave: Option<bool>,
    /// Is told of others who join and leave.
    pub force_push_join_leave: Option<bool>,
    /// The position is recovered after a reconnect.
    pub force_recovery: Option<bool>,
    /// The position is followed.
    pub force_positioning: Option<bool>,
}

/// What a token says of one subscription.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubOptions {
    /// Shown to others in the channel (`info`, `b64info`).
    pub info: Option<Payload>,
    /// Given to the client with the subscription (`data`, `b64data`).
    pub data: Option<Payload>,
    /// `override`.
    pub overrides: Overrides,
}

/// What a connection token says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectionClaims {
    /// `sub`, or the configured claim; empty: anonymous.
    pub user: String,
    /// `exp`: when the token ends, in Unix seconds. It lies ahead, or the token would have been refused.
    pub exp: Option<u64>,
    /// When the connection ends: `expire_at` where the token has it (0: never), else `exp`. `None`: never. May lie
    /// behind.
    pub expires_at: Option<u64>,
    /// Shown to others (`info`, `b64info`).
    pub info: Option<Payload>,
    /// JSON for the backend only.
    pub meta: Option<Vec<u8>>,
    /// Server-side subscriptions by name, each once. Empty if there are [`ConnectionClaims::subs`], which then count.
    pub channels: Vec<String>,
    /// Server-side subscriptions with their options, in the token's order, each channel once.
    pub subs: Vec<(String, SubOptions)>,
    /// `namespaces`: the only ones in which the client may do anything, the empty name being the default one. `None`: all.
    pub namespaces: Option<Vec<String>>,
    /// `jti`.
    pub jti: Option<String>,
}

/// What a subscription token says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubscriptionClaims {
    /// `sub`, or the configured claim; empty: anonymous. Must be the connection's user.
    pub user: String,
    /// The channel it is for; never empty.
    pub channel: String,
    /// The client it is for; `None`: any.
    pub client: Option<String>,
    /// As of [`ConnectionClaims`].
    pub exp: Option<u64>,
    /// When the subscription ends; as of [`ConnectionClaims`].
    pub expires_at: Option<u64>,
    /// `info`, `data`, `override`.
    pub options: SubOptions,
    /// `jti`.
    pub jti: Option<String>,
}

impl SubscriptionClaims {
    /// Whether it was made for this user's subscription to this channel in this client. If not, the client uses
    /// somebody else's token, and is disconnected with code 3500.
    #[must_use]
    pub fn is_for(&self, user: &str, client: &str, channel: &str) -> bool {
        self.user == user && self.channel == channel && self.client.as_ref().is_none_or(|own| own == client)
    }
}

/// What a deployment asks of claims.
#[derive(Clone, Debug, Default)]
pub(super) struct Policy {
    pub(super) audience: Option<String>,
    pub(super) issuer: Option<String>,
    pub(super) user_id_claim: Option<String>,
}

impl Policy {
    pub(super) fn connection(&self, payload: &[u8], now: u64) -> Result<ConnectionClaims, TokenError> {
        let mut claims = ConnectionClaims::default();
        let mut info = Parts::default();
        let common = self.read(payload, now, |name, value| {
            match name {
                "info" => info.json = Some(value),
                "b64info" => info.base64 = Some(text(value, "its b64info is no string")?),
                "meta" => claims.meta = Some(without_line_ends(value)),
                "channels" => claims.channels = channels(value)?,
                "namespaces" => claims.namespaces = Some(namespaces(value)?),
                "subs" => claims.subs = subs(value)?,
                // Whoever may subscribe to one channel must not thereby be let in as its user.
                "channel" if !text(value, "its channel is no string")?.is_empty() => {
                    return Err(TokenError::Invalid("it is a subscription token: it has a channel"));
                }
                _ => {}
            }
            Ok(())
        })?;
        if !claims.subs.is_empty() {
            claims.channels.clear();
        }
        let Common { user, exp, expires_at, jti } = common;
        Ok(ConnectionClaims { user, exp, expires_at, jti, info: info.payload("its b64info is no base64")?, ..claims })
    }

    pub(super) fn subscription(&self, payload: &[u8], now: u64) -> Result<SubscriptionClaims, TokenError> {
        let (mut channel, mut client) = (String::new(), None);
        let mut options = Options::default();
        let common = self.read(payload, now, |name, value| {
            match name {
                "channel" => channel = text(value, "its channel is no string")?,
                "client" => client = Some(text(value, "its client is no string")?).filter(|id| !id.is_empty()),
                _ => options.take(name, value)?,
            }
            Ok(())
        })?;
        if channel.is_empty() {
            return Err(TokenError::Invalid("it is no subscription token: it has no channel"));
        }
        let Common { user, exp, expires_at, jti } = common;
        Ok(SubscriptionClaims { user, channel, client, exp, expires_at, options: options.finish()?, jti })
    }

    /// Reads the claims that both have, and hands out the others.
    fn read<'p>(
        &self,
        payload: &'p [u8],
        now: u64,
        mut other: impl FnMut(&str, Value<'p>) -> Result<(), TokenError>,
    ) -> Result<Common, TokenError> {
        let mut registered = Registered::default();
        let (mut user, mut expire_at) = (String::new(), None);
        for (name, value) in object::claims(payload)? {
            if self.user_id_claim.as_deref() == Some(&name) {
                user = user_id(value)?;
            }
            match &name[..] {
                _ if registered.take(&name, value)? => {}
                "expire_at" => {
                    // Below zero nothing is meant, and never to expire least of all.
                    let at = u64::try_from(time(value, "its expire_at is no time")?);
                    expire_at = Some(at.map_err(|_| TokenError::Invalid("its expire_at is below zero"))?);
                }
                _ => other(&name, value)?,
            }
        }
        registered.check(now, 0, self.audience.as_slice(), self.issuer.as_deref())?;
        if self.user_id_claim.is_none() {
            user = registered.subject.unwrap_or_default();
        }
        let exp = registered.exp.and_then(|exp| u64::try_from(exp).ok());
        let expires_at = match expire_at {
            Some(at) => Some(at).filter(|at| *at > 0),
            None => exp,
        };
        Ok(Common { user, exp, expires_at, jti: registered.jti })
    }
}

/// What both kinds of token have, decided.
struct Common {
    user: String,
    exp: Option<u64>,
    expires_at: Option<u64>,
    jti: Option<String>,
}

/// The two ways to write the same: `info` and `b64info`. What is in Base64 counts where both are given.
#[derive(Default)]
struct Parts<'p> {
    json: Option<Value<'p>>,
    base64: Option<String>,
}

impl Parts<'_> {
    fn payload(self, says: &'static str) -> Result<Option<Payload>, TokenError> {
        if let Some(text) = self.base64.filter(|text| !text.is_empty()) {
            let bytes = BASE64_STANDARD.decode(text).map_err(|_| TokenError::Invalid(says))?;
            return Ok(Some(match validate(&bytes) {
                Ok(_) => Payload::Json(without_line_ends(Value::of(&bytes))),
                Err(_) => Payload::Binary(bytes),
            }));
        }
        Ok(self.json.map(|value| Payload::Json(without_line_ends(value))))
    }
}

/// [`SubOptions`] while they are read.
#[derive(Default)]
struct Options<'p> {
    info: Parts<'p>,
    data: Parts<'p>,
    overrides: Overrides,
}

impl<'p> Options<'p> {
    fn take(&mut self, name: &str, value: Value<'p>) -> Result<(), TokenError> {
        match name {
            "info" => self.info.json = Some(value),
            "b64info" => self.info.base64 = Some(text(value, "a b64info is no string")?),
            "data" => self.data.json = Some(value),
            "b64data" => self.data.base64 = Some(text(value, "a b64data is no string")?),
            "override" => self.overrides = overrides(value)?,
            _ => {}
        }
        Ok(())
    }

    fn finish(self) -> Result<SubOptions, TokenError> {
        Ok(SubOptions {
            info: self.info.payload("a b64info is no base64")?,
            data: self.data.payload("a b64data is no base64")?,
            overrides: self.overrides,
        })
    }
}

fn text(value: Value<'_>, says: &'static str) -> Result<String, TokenError> {
    value.string().map(|text| text.into_owned()).ok_or(TokenError::Invalid(says))
}

fn time(value: Value<'_>, says: &'static str) -> Result<i64, TokenError> {
    object::time(value).ok_or(TokenError::Invalid(says))
}

fn without_line_ends(value: Value<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.raw().len());
    write_without_line_ends(&mut out, value.raw());
    out
}

/// A user's id in a claim of the deployment's choice: a string, or an integer as it stands.
fn user_id(value: Value<'_>) -> Result<String, TokenError> {
    match (value.string(), value.integer()) {
        (Some(text), _) => Ok(text.into_owned()),
        (None, Some(number)) => Ok(number.to_string()),
        (None, None) => Err(TokenError::Invalid("its user id is neither string nor integer")),
    }
}

fn namespaces(value: Value<'_>) -> Result<Vec<String>, TokenError> {
    let elements = value.elements().ok_or(TokenError::Invalid("its namespaces are no list"))?;
    elements.map(|element| text(element, "one of its namespaces is no string")).collect()
}

fn channels(value: Value<'_>) -> Result<Vec<String>, TokenError> {
    let elements = value.elements().ok_or(TokenError::Invalid("its channels are no list"))?;
    let mut seen = BTreeSet::new();
    let mut channels = Vec::new();
    for element in elements {
        let channel = text(element, "one of its channels is no string")?;
        if channel.is_empty() {
            return Err(TokenError::Invalid("one of its channels is empty"));
        }
        if seen.insert(channel.clone()) {
            channels.push(channel);
        }
    }
    Ok(channels)
}

fn subs(value: Value<'_>) -> Result<Vec<(String, SubOptions)>, TokenError> {
    let subs = nested(value, "its subs are no object", "its subs have a channel twice")?;
    subs.into_iter().map(|(channel, value)| sub(channel.into_owned(), value)).collect()
}

fn sub(channel: String, value: Value<'_>) -> Result<(String, SubOptions), TokenError> {
    if channel.is_empty() {
        return Err(TokenError::Invalid("one of its subs is of an empty channel"));
    }
    let mut options = Options::default();
    for (name, value) in nested(value, "one of its subs is no object", "one of its subs has a member twice")? {
        options.take(&name, value)?;
    }
    Ok((channel, options.finish()?))
}

fn overrides(value: Value<'_>) -> Result<Overrides, TokenError> {
    const SAYS: [&str; 2] = ["an override is no object", "an override has a member twice"];
    let mut overrides = Overrides::default();
    for (name, value) in nested(value, SAYS[0], SAYS[1])? {
        let place = match name.as_ref() {
            "presence" => &mut overrides.presence,
            "join_leave" => &mut overrides.join_leave,
            "force_push_join_leave" => &mut overrides.force_push_join_leave,
            "force_recovery" => &mut overrides.force_recovery,
            "force_positioning" => &mut overrides.force_positioning,
            _ => continue,
        };
        // `{"value":true}`; an object without it is false, as where Go reads it.
        let mut is_on = false;
        for (name, value) in nested(value, SAYS[0], SAYS[1])? {
            if name == "value" {
                is_on = value.boolean().ok_or(TokenError::Invalid("an override's value is neither true nor false"))?;
            }
        }
        *place = Some(is_on);
    }
    Ok(overrides)
}

fn nested<'p>(value: Value<'p>, no_object: &'static str, twice: &'static str) -> Result<Vec<Member<'p>>, TokenError> {
    object::members(value).map_err(|refused| match refused {
        Refused::NoObject => TokenError::Invalid(no_object),
        Refused::Twice => TokenError::Invalid(twice),
    })
}
