//! Values that requests of the API and answers of hooks have in common: payloads, positions, overrides, closes.

use std::borrow::Cow;

use annulus_protocols::centrifuge::Disconnect;
use annulus_protocols::json::{Kind, validate};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::fields::{Field, Misfit};

/// Longest reason of a close, in bytes: what a close frame has room for beside the code (RFC 6455 section 5.5). Beyond:
/// the request is refused.
pub const REASON_BYTES_MAX: usize = 123;

/// What is published or told: JSON, or bytes that are none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload<'a> {
    /// As it came: a span of the request, or decoded from base64.
    pub bytes: Cow<'a, [u8]>,
    /// What it is as JSON, checked; `None` for bytes that are no JSON, which clients of the JSON form cannot be sent.
    pub kind: Option<Kind>,
}

impl<'a> Payload<'a> {
    /// A value of a checked text.
    pub fn json(field: &Field<'a>) -> Payload<'a> {
        Payload { bytes: Cow::Borrowed(field.value().raw()), kind: Some(field.value().kind()) }
    }

    /// Bytes in base64. `None` if it is none. What they say may be JSON as well.
    pub fn base64(text: &str) -> Option<Payload<'static>> {
        let bytes = BASE64_STANDARD.decode(text).ok()?;
        let kind = validate(&bytes).ok();
        Some(Payload { bytes: Cow::Owned(bytes), kind })
    }
}

/// A payload that may be given as JSON or in base64, in two fields; base64 counts if it is not empty.
#[derive(Clone, Debug, Default)]
pub struct Either<'a> {
    json: Option<Payload<'a>>,
    base64: Cow<'a, str>,
}

/// Base64 that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotBase64;

impl<'a> Either<'a> {
    /// The field with JSON.
    pub fn set_json(&mut self, field: &Field<'a>) {
        self.json = Some(Payload::json(field));
    }

    /// The field with base64.
    ///
    /// # Errors
    /// It is no string.
    pub fn set_base64(&mut self, field: &Field<'a>) -> Result<(), Misfit> {
        self.base64 = field.text()?;
        Ok(())
    }

    /// What was given, if anything was.
    ///
    /// # Errors
    /// The base64 is none.
    pub fn get(self) -> Result<Option<Payload<'a>>, NotBase64> {
        match &*self.base64 {
            "" => Ok(self.json),
            text => Payload::base64(text).map(Some).ok_or(NotBase64),
        }
    }
}

/// A place in a channel's stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Position<'a> {
    /// The last publication seen.
    pub offset: u64,
    /// The stream's life; empty matches any.
    pub epoch: Cow<'a, str>,
}

impl<'a> Position<'a> {
    /// Reads `{"offset":..,"epoch":".."}`.
    ///
    /// # Errors
    /// A field that does not fit.
    pub fn read(field: &Field<'a>) -> Result<Position<'a>, Misfit> {
        let mut position = Position::default();
        for field in field.fields()? {
            match field.name() {
                "offset" => position.offset = field.number()?,
                "epoch" => position.epoch = field.text()?,
                _ => {}
            }
        }
        Ok(position)
    }
}

/// Options of a channel that are different for one subscription; `None`: as the namespace has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Whether the subscriber is in the channel's presence.
    pub presence: Option<bool>,
    /// Whether others are told that the subscriber came and left.
    pub join_leave: Option<bool>,
    /// Whether the subscriber is told who comes and leaves without having asked for it.
    pub force_push_join_leave: Option<bool>,
    /// Whether the subscription is recoverable without having asked for it.
    pub force_recovery: Option<bool>,
    /// Whether its position is kept without having asked for it.
    pub force_positioning: Option<bool>,
}

impl Overrides {
    /// Reads `{"presence":{"value":true},..}`.
    ///
    /// # Errors
    /// A field that does not fit.
    pub fn read(field: &Field<'_>) -> Result<Overrides, Misfit> {
        let mut overrides = Overrides::default();
        for field in field.fields()? {
            let option = match field.name() {
                "presence" => &mut overrides.presence,
                "join_leave" => &mut overrides.join_leave,
                "force_push_join_leave" => &mut overrides.force_push_join_leave,
                "force_recovery" => &mut overrides.force_recovery,
                "force_positioning" => &mut overrides.force_positioning,
                _ => continue,
            };
            // An object without a value says false, as a message of Protobuf would.
            let mut value = false;
            for inner in field.fields()?.filter(|inner| inner.name() == "value") {
                value = inner.boolean()?;
            }
            *option = Some(value);
        }
        Ok(overrides)
    }
}

impl From<crate::chat::tokens::Overrides> for Overrides {
    fn from(of_token: crate::chat::tokens::Overrides) -> Overrides {
        Overrides {
            presence: of_token.presence,
            join_leave: of_token.join_leave,
            force_push_join_leave: of_token.force_push_join_leave,
            force_recovery: of_token.force_recovery,
            force_positioning: of_token.force_positioning,
        }
    }
}

impl From<Close<'_>> for Disconnect {
    fn from(close: Close<'_>) -> Disconnect {
        Disconnect { code: close.code, reason: close.reason.into_owned().into() }
    }
}

/// How a client is sent away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Close<'a> {
    /// 3000 to 4999. Clients reconnect unless it is 3500 to 3999 or 4500 to 4999.
    pub code: u16,
    /// Up to [`REASON_BYTES_MAX`] bytes.
    pub reason: Cow<'a, str>,
}

impl Default for Close<'_> {
    /// Sent away by somebody, for good.
    fn default() -> Self {
        Close { code: 3503, reason: Cow::Borrowed("force disconnect") }
    }
}

impl<'a> Close<'a> {
    /// Reads `{"code":..,"reason":".."}`.
    ///
    /// # Errors
    /// A field that does not fit.
    pub fn read(field: &Field<'a>) -> Result<Close<'a>, Misfit> {
        let mut close = Close { code: 0, reason: Cow::Borrowed("") };
        for field in field.fields()? {
            match field.name() {
                "code" => close.code = field.number()?,
                "reason" => close.reason = field.text()?,
                _ => {}
            }
        }
        Ok(close)
    }

    /// Whether a client can be sent it and understands it. Stricter than the model, which sends what no close frame may
    /// carry, and reasons that are objects: those were once commands to the client's SDK.
    pub fn is_sendable(&self) -> bool {
        let is_object = self.reason.trim_start().starts_with('{');
        (3000..=4999).contains(&self.code) && self.reason.len() <= REASON_BYTES_MAX && !is_object
    }
}
