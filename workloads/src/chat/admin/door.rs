//! Who may come into the console.
//!
//! ```text
//!   password ─► same? ─► token: "<expiry>.<HMAC-SHA256 of it>" ─► Authorization: Bearer, until it expires
//! ```
//!
//! Nothing is remembered of tokens, so every shard, and every node with the same `admin.secret` and password, knows
//! them. Their key is made of both: a changed password ends all of them. Without a secret it is random, and a restart
//! ends them.
//!
//! Where the chat is open to everybody on the loopback interface, the console is there without a password, for this
//! machine: not for what a proxy passes on, and not under a name that somebody else may have pointed here.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use annulus_protocols::http1::RequestHead;
use ring::hmac::{self, HMAC_SHA256};
use ring::rand::SystemRandom;
use serde::Deserialize;

use crate::chat::config::Config;
use crate::chat::http;
use crate::hex;
use crate::serve::visitor::is_local_name;

/// How long a token is good: 12 hours.
pub const TOKEN_SECONDS: u64 = 12 * 3600;
/// Bytes of a login's body. Beyond: 413.
pub const LOGIN_BYTES_MAX: usize = 4096;
/// Wrong passwords from one address within [`WRONG_MS`]. Beyond: 429, for the right one too.
const WRONG_MAX: u32 = 10;
/// How long wrong passwords are counted, in milliseconds, from the first one on.
const WRONG_MS: u64 = 60_000;
/// Addresses whose wrong passwords are counted. Beyond: 429 for those that are not among them.
const ADDRESSES_MAX: usize = 4096;
/// What tokens' signatures are about, beside their expiry: none of them can be mistaken for something else.
const PURPOSE: &str = "annulus chat admin until ";
/// Fields that say that somebody else is asking.
const PASSED_ON: [&str; 3] = ["x-forwarded-for", "forwarded", "via"];

/// What is answered to those who may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The status.
    pub status: u16,
    /// What is wrong, and what to do.
    pub title: &'static str,
    /// Fields that belong to the status.
    pub fields: &'static [(&'static str, &'static str)],
}

const NO_TOKEN: Refusal = Refusal {
    status: 401,
    title: "the token is missing, wrong or over: log in again",
    fields: &[("www-authenticate", "Bearer"), ("cache-control", "no-store")],
};
const WRONG_PASSWORD: Refusal = Refusal { status: 403, title: "the password is not the right one", fields: &[] };
const TOO_MANY: Refusal = Refusal {
    status: 429,
    title: "too many wrong passwords from this address: try again in a minute",
    fields: &[("retry-after", "60")],
};
const NO_LOGIN: Refusal = Refusal { status: 404, title: "nobody has to log in here", fields: &[] };
const UNREADABLE: Refusal = Refusal { status: 400, title: "expected {\"password\": \"...\"}", fields: &[] };
const FOREIGN: Refusal = Refusal { status: 403, title: "pages from elsewhere may not use the console", fields: &[] };
const NOT_LOCAL: Refusal = Refusal {
    status: 403,
    title: "without a password the console is for this machine only, as localhost: set chat.admin.enabled and password",
    fields: &[],
};

/// Who may come in.
enum Access {
    /// Nobody: there is no console.
    Off,
    /// This machine.
    Local,
    /// Everybody.
    Open,
    /// Whoever has the password; this is its tag under the key of comparisons.
    Password(hmac::Tag),
}

/// Wrong passwords from one address.
struct Wrong {
    since_ms: u64,
    count: u32,
}

/// See the module's description.
pub struct Door {
    access: Access,
    /// Signs tokens.
    signs: hmac::Key,
    /// Passwords are compared by their tags under this: time tells nothing of them.
    compares: hmac::Key,
    wrong: Mutex<HashMap<IpAddr, Wrong>>,
}

#[derive(Deserialize)]
struct Login {
    password: String,
}

fn random_key() -> Result<hmac::Key, String> {
    hmac::Key::generate(HMAC_SHA256, &SystemRandom::new())
        .map_err(|_| "chat.admin: the system gives no random bytes".to_owned())
}

/// The key of tokens: of the secret and the password.
fn signing_key(secret: &str, password: &str) -> hmac::Key {
    let of_secret = hmac::Key::new(HMAC_SHA256, secret.as_bytes());
    hmac::Key::new(HMAC_SHA256, hmac::sign(&of_secret, password.as_bytes()).as_ref())
}

impl Door {
    /// As the configuration has it.
    ///
    /// # Errors
    /// A sentence: the system has no randomness.
    pub fn open(config: &Config) -> Result<Door, String> {
        let admin = &config.admin;
        let compares = random_key()?;
        let password = admin.password.as_ref().map_or("", |password| password.reveal());
        let signs = match &admin.secret {
            Some(secret) => signing_key(secret.reveal(), password),
            None => random_key()?,
        };
        // Centrifugo's dialect has it where the file says so only.
        let is_development = config.is_insecure() && config.listen.ip().is_loopback() && !config.channels.strict;
        let access = match admin.enabled {
            Some(true) if admin.insecure => Access::Open,
            Some(false) => Access::Off,
            None if !is_development => Access::Off,
            _ if !password.is_empty() => Access::Password(hmac::sign(&compares, password.as_bytes())),
            None => Access::Local,
            Some(true) => Access::Off,
        };
        Ok(Door { access, signs, compares, wrong: Mutex::default() })
    }

    /// Whether there is no console.
    pub fn is_off(&self) -> bool {
        matches!(self.access, Access::Off)
    }

    /// Whether the request may see figures and publish, at this second of the Unix clock.
    ///
    /// # Errors
    /// What to answer instead.
    pub fn admit(&self, head: &RequestHead<'_>, now_s: u64) -> Result<(), Refusal> {
        self.check_origin(head)?;
        match &self.access {
            Access::Open => Ok(()),
            Access::Local if is_local(head) => Ok(()),
            Access::Local => Err(NOT_LOCAL),
            Access::Off => Err(NO_TOKEN),
            Access::Password(_) => {
                let shown = head.fields().get("authorization").and_then(after_scheme).unwrap_or_default();
                if self.is_token(shown, now_s) { Ok(()) } else { Err(NO_TOKEN) }
            }
        }
    }

    /// Browsers tell where a page that asks for something is from: it has to be from here.
    ///
    /// # Errors
    /// What to answer to others.
    pub fn check_origin(&self, head: &RequestHead<'_>) -> Result<(), Refusal> {
        let Some(origin) = head.fields().get("origin") else { return Ok(()) };
        let is_ours = std::str::from_utf8(origin).is_ok_and(|origin| http::is_own_origin(origin, head));
        if is_ours { Ok(()) } else { Err(FOREIGN) }
    }

    /// A token for a login's body, with the password in it.
    ///
    /// # Errors
    /// What to answer instead.
    pub fn login(&self, body: &[u8], from: Option<IpAddr>, now_ms: u64) -> Result<String, Refusal> {
        let Access::Password(expected) = &self.access else { return Err(NO_LOGIN) };
        let Ok(login) = serde_json::from_slice::<Login>(body) else { return Err(UNREADABLE) };
        let mut wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        wrong.retain(|_, wrong| now_ms.saturating_sub(wrong.since_ms) < WRONG_MS);
        // Those whose address is not known count as one.
        let from = from.map_or(IpAddr::from([0; 4]), network);
        let is_crowded = wrong.len() >= ADDRESSES_MAX;
        match wrong.get(&from) {
            Some(wrong) if wrong.count >= WRONG_MAX => return Err(TOO_MANY),
            None if is_crowded => return Err(TOO_MANY),
            _ => {}
        }
        if hmac::verify(&self.compares, login.password.as_bytes(), expected.as_ref()).is_err() {
            wrong.entry(from).or_insert(Wrong { since_ms: now_ms, count: 0 }).count += 1;
            return Err(WRONG_PASSWORD);
        }
        Ok(self.token(now_ms / 1000 + TOKEN_SECONDS))
    }

    fn token(&self, until_s: u64) -> String {
        let tag = hmac::sign(&self.signs, format!("{PURPOSE}{until_s}").as_bytes());
        format!("{until_s}.{}", hex::encode(tag.as_ref()))
    }

    fn is_token(&self, shown: &[u8], now_s: u64) -> bool {
        let parts = std::str::from_utf8(shown).ok().and_then(|shown| shown.split_once('.'));
        let Some((until, tag)) = parts.and_then(|(until, tag)| Some((until, bytes(tag)?))) else { return false };
        let is_ours = hmac::verify(&self.signs, format!("{PURPOSE}{until}").as_bytes(), &tag).is_ok();
        is_ours && until.parse::<u64>().is_ok_and(|until| now_s < until)
    }
}

/// The bytes of hexadecimal digits.
fn bytes(hex: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = hex.chars().map(|digit| digit.to_digit(16).map(|digit| digit as u8)).collect();
    let (pairs, rest) = digits.as_ref()?.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

/// What follows the scheme `Bearer`, which is of no case (RFC 9110 section 11.1).
fn after_scheme(value: &[u8]) -> Option<&[u8]> {
    let (scheme, shown) = value.split_at_checked("bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| shown.trim_ascii())
}

/// Whom an address stands for: of IPv6, a household has 2^64.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => IpAddr::from((u128::from(address) >> 64 << 64).to_be_bytes()),
    }
}

/// Whether this machine asks for itself, under a name that is always its own: any other could be pointed here by a page
/// that wants to read what we answer.
fn is_local(head: &RequestHead<'_>) -> bool {
    let host = head.fields().get("host").and_then(|host| std::str::from_utf8(host).ok()).unwrap_or_default();
    let is_passed_on = PASSED_ON.iter().any(|name| head.fields().get(name).is_some());
    is_local_name(host) && !is_passed_on
}

#[cfg(test)]
mod tests {
    use annulus_protocols::Input;
    use annulus_protocols::http1::{Event, Limits, Server};

    use super::*;
    use crate::chat::config::Secret;

    const NOW: u64 = 1_700_000_000;

    fn config(edit: impl FnOnce(&mut Config)) -> Config {
        let mut config = Config::default();
        edit(&mut config);
        config
    }

    fn with_password(secret: Option<&str>, password: &str) -> Door {
        Door::open(&config(|config| {
            config.admin.enabled = Some(true);
            config.admin.password = Some(Secret::new(password));
            config.admin.secret = secret.map(Secret::new);
        }))
        .unwrap()
    }

    /// What the door says to a request with these fields.
    fn admit(door: &Door, fields: &str, now_s: u64) -> Result<(), u16> {
        let mut bytes = format!("GET /admin/state HTTP/1.1\r\n{fields}\r\n").into_bytes();
        let mut input = Input::new(&mut bytes);
        match Server::new().next_event(&Limits::DEFAULT, 0, &mut input).unwrap() {
            Event::Head(head) => door.admit(&head, now_s).map_err(|refusal| refusal.status),
            other => panic!("{other:?}"),
        }
    }

    fn login(door: &Door, password: &str, from: [u8; 4], now_ms: u64) -> Result<String, u16> {
        let body = format!("{{\"password\":\"{password}\"}}");
        door.login(body.as_bytes(), Some(from.into()), now_ms).map_err(|refusal| refusal.status)
    }

    #[test]
    fn a_token_is_good_until_it_expires_and_only_as_it_was_given() {
        let door = with_password(None, "päss");
        let token = login(&door, "päss", [1; 4], NOW * 1000).unwrap();
        let shows = |token: &str, now| admit(&door, &format!("host: a\r\nauthorization: bearer {token}\r\n"), now);
        assert_eq!(shows(&token, NOW), Ok(()));
        assert_eq!(shows(&token, NOW + TOKEN_SECONDS - 1), Ok(()));
        assert_eq!(shows(&token, NOW + TOKEN_SECONDS), Err(401));
        let (until, tag) = token.split_once('.').unwrap();
        let later = until.parse::<u64>().unwrap() + 1;
        for wrong in [
            format!("{later}.{tag}"),
            format!("{until}.{}", &tag[..62]),
            format!("{until}.{}", tag.replace(|c: char| c == tag.chars().next().unwrap(), "g")),
            format!("{until}.{tag}0"),
            format!("{until}."),
            format!("0{token}"),
            "ä".into(),
            String::new(),
        ] {
            assert_eq!(shows(&wrong, NOW), Err(401), "{wrong}");
        }
        for other in ["apikey ", "Bearer", ""] {
            assert_eq!(
                admit(&door, &format!("host: a\r\nauthorization: {other}{token}\r\n"), NOW),
                Err(401),
                "{other}"
            );
        }
    }

    #[test]
    fn a_token_outlives_a_restart_with_its_secret_and_password_only() {
        let token = login(&with_password(Some("s"), "p"), "p", [1; 4], NOW * 1000).unwrap();
        let shows = |door: &Door| admit(door, &format!("host: a\r\nauthorization: Bearer {token}\r\n"), NOW);
        assert_eq!(shows(&with_password(Some("s"), "p")), Ok(()));
        assert_eq!(shows(&with_password(Some("s"), "q")), Err(401));
        assert_eq!(shows(&with_password(Some("t"), "p")), Err(401));
        assert_eq!(shows(&with_password(None, "p")), Err(401));
    }

    #[test]
    fn wrong_passwords_are_counted_by_address_for_a_while() {
        let door = with_password(None, "p");
        for at in 0..u64::from(WRONG_MAX) {
            assert_eq!(login(&door, if at == 0 { "" } else { "q" }, [1; 4], at), Err(403));
        }
        assert_eq!(login(&door, "p", [1; 4], 10), Err(429), "the right one neither: nobody learns that it is");
        assert!(login(&door, "p", [2; 4], 10).is_ok());
        assert!(login(&door, "p", [1; 4], WRONG_MS).is_ok());
        assert_eq!(door.login(b"p", None, 0), Err(UNREADABLE));
    }

    #[test]
    fn no_more_addresses_are_counted_than_there_is_room_for() {
        let door = with_password(None, "p");
        for at in 0..ADDRESSES_MAX as u32 {
            assert_eq!(login(&door, "q", at.to_be_bytes(), 0), Err(403));
        }
        assert_eq!(login(&door, "p", [255; 4], 0), Err(429));
        assert!(login(&door, "p", [0; 4], 0).is_ok());
        assert!(login(&door, "p", [255; 4], WRONG_MS).is_ok());
    }

    #[test]
    fn addresses_of_one_household_are_one() {
        let network = |text: &str| network(text.parse().unwrap());
        assert_eq!(network("2001:db8::1"), network("2001:db8::ffff:1"));
        assert_ne!(network("2001:db8::1"), network("2001:db8:0:1::1"));
        assert_eq!(network("::ffff:1.2.3.4"), network("1.2.3.4"));
    }

    #[test]
    fn without_a_password_it_is_for_this_machine() {
        let door = Door::open(&Config::default()).unwrap();
        for host in ["localhost:8000", "127.0.0.1:8000", "[::1]:8000", "Chat.localhost", "127.0.0.9"] {
            assert_eq!(admit(&door, &format!("host: {host}\r\n"), NOW), Ok(()), "{host}");
        }
        for fields in [
            "host: rebound.example:8000\r\n",
            "host: localhost.example\r\n",
            "host: 192.0.2.1:8000\r\n",
            "host: localhost\r\nx-forwarded-for: 192.0.2.1\r\n",
            "host: localhost\r\norigin: https://elsewhere.example\r\n",
            "host: localhost\r\norigin: null\r\n",
        ] {
            assert_eq!(admit(&door, fields, NOW), Err(403), "{fields}");
        }
        assert_eq!(admit(&door, "host: localhost:8000\r\norigin: http://localhost:8000\r\n", NOW), Ok(()));
        assert_eq!(login(&door, "", [1; 4], 0), Err(404));
    }

    #[test]
    fn it_is_there_where_it_was_switched_on_or_where_everybody_may_do_everything_anyway() {
        let is_off = |config: &Config| Door::open(config).unwrap().is_off();
        assert!(!is_off(&Config::default()));
        assert!(is_off(&config(|config| config.listen = ([0, 0, 0, 0], 8000).into())));
        assert!(is_off(&config(|config| config.client.insecure = Some(false))));
        let exposed = config(|config| {
            config.listen = ([0, 0, 0, 0], 8000).into();
            config.client.insecure = Some(true);
        });
        assert!(is_off(&exposed), "the network is told figures only where somebody said so");
        let mut centrifugo = Config::centrifugo();
        centrifugo.listen = ([127, 0, 0, 1], 8000).into();
        centrifugo.client.insecure = Some(true);
        assert!(is_off(&centrifugo));
        centrifugo.admin.enabled = Some(true);
        centrifugo.admin.insecure = true;
        let door = Door::open(&centrifugo).unwrap();
        assert_eq!(admit(&door, "host: chat.example\r\n", NOW), Ok(()));
        let local = config(|config| config.admin.password = Some(Secret::new("p")));
        assert_eq!(
            admit(&Door::open(&local).unwrap(), "host: localhost\r\n", NOW),
            Err(401),
            "a password is asked for"
        );
    }
}
