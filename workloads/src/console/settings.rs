//! What the console is told: section `[console]` of the configuration.
//!
//! | key | default | |
//! |---|---|---|
//! | `listen` | `annulus run`: 127.0.0.1:9900; otherwise none | where it listens |
//! | `token` | none | opens `/debug/`, by `Authorization: Bearer TOKEN` or `?token=TOKEN`; without one, `/debug/` is there on loopback addresses only |
//! | `sample_hz` | 97 | how often each thread's stack is looked at, per second of its processor time, for a second out of twenty; 0: never |
//! | `sample_minutes` | 10 | how long that is kept |
//! | `others` | none | addresses of other processes' consoles: the page shows their services, too |

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::config::{Value, address, list, number, string, unknown};
use crate::outbound::Endpoint;

/// Where the console of `annulus run` is unless something else is said.
const AT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9900);
/// Bytes of a token at least: it must not be guessed.
const TOKEN_BYTES_MIN: usize = 16;
/// Times per second that a stack is looked at, at most.
const SAMPLE_HZ_MAX: u64 = 999;
/// Minutes at most: what is kept of them has a limit of its own besides.
const SAMPLE_MINUTES_MAX: u64 = 60;
/// Other consoles at most: each is asked once a second.
const OTHERS_MAX: usize = 16;

/// See the module's description.
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where it listens.
    pub listen: Option<SocketAddr>,
    /// What opens `/debug/`.
    pub token: Option<String>,
    /// Looks at each thread's stack, per second of its processor time, while it is looked at.
    pub sample_hz: u32,
    /// How long they are kept, in minutes.
    pub sample_minutes: u32,
    /// Where other processes' consoles are: a name or an address, and a port.
    pub others: Vec<String>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { listen: None, token: None, sample_hz: 97, sample_minutes: 10, others: Vec::new() }
    }
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The token is nobody's business.
        f.debug_struct("Settings").field("listen", &self.listen).finish_non_exhaustive()
    }
}

impl Settings {
    /// The settings of a console, if there is one: where none is named, there is one by default or not.
    pub fn or_default(mut self, is_default: bool) -> Option<Settings> {
        self.listen = self.listen.or(is_default.then_some(AT));
        self.listen.is_some().then_some(self)
    }

    /// Sets a key.
    ///
    /// # Errors
    /// What was expected.
    pub(crate) fn set(&mut self, key: &str, value: &Value<'_>) -> Result<(), String> {
        match key {
            "listen" => self.listen = Some(address(value)?),
            "token" => {
                let token = string(value, "a text")?;
                if token.len() < TOKEN_BYTES_MIN {
                    return Err(format!("expected at least {TOKEN_BYTES_MIN} bytes, so that it cannot be guessed"));
                }
                self.token = Some(token.to_owned());
            }
            "sample_hz" => self.sample_hz = number(value, 0, SAMPLE_HZ_MAX)? as u32,
            "sample_minutes" => self.sample_minutes = number(value, 1, SAMPLE_MINUTES_MAX)? as u32,
            "others" => {
                let others = list(value, "a list of addresses")?;
                self.others = others.map(other).collect::<Result<_, _>>()?;
                if self.others.len() > OTHERS_MAX {
                    return Err(format!("expected at most {OTHERS_MAX} of them"));
                }
            }
            _ => return Err(unknown("key", key, &["listen", "token", "sample_hz", "sample_minutes", "others"])),
        }
        Ok(())
    }
}

/// Where another console is.
fn other(value: &Value<'_>) -> Result<String, String> {
    let at = string(value, "an address such as \"127.0.0.1:9901\"")?;
    Endpoint::read(&format!("http://{at}/"))
        .map_err(|_| format!("{at:?}: expected an address such as \"127.0.0.1:9901\""))?;
    Ok(at.to_owned())
}
