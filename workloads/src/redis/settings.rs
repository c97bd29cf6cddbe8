//! Where Redis is and who we are there: `redis://user:password@host:port/database`.
//!
//! | scheme | what |
//! |---|---|
//! | `redis://` | one server, or a name that always leads to the one that takes writes |
//! | `redis+cluster://` | a Redis Cluster: one or more of its nodes, separated by commas; the others are asked for |
//! | `rediss://`, `rediss+cluster://` | the same, through TLS |
//!
//! | parameter | what |
//! |---|---|
//! | `ca=FILE` | with TLS, an authority (PEM) to believe besides the system's |
//! | `insecure=1` | with TLS, believe any certificate: whoever sits between can read and change everything |
//! | `connect_ms=N` | how long connecting and logging in may take; 5,000 |
//! | `answer_ms=N` | how long an answer may take, before the connection counts as dead; 5,000 |
//!
//! User and password are percent-encoded (RFC 3986 section 2.1). What is not offered is an error, not ignored: somebody meant
//! something by it. Certificates are read once, here, so that a wrong path is told at start.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use annulus_engine::tls::rustls::ClientConfig;

use crate::gateway::config::model::{ClientTls, TlsVersion};
use crate::gateway::fetching::client_config;
use crate::nearest::nearest;
use crate::percent;

/// Where Redis listens unless the URL says otherwise.
const PORT: u16 = 6379;
/// How long connecting and logging in may take unless the URL says otherwise.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// How long an answer may take unless the URL says otherwise.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// The longest of either.
const LONGEST_MS: u32 = 600_000;
/// Nodes of a cluster that a URL may name.
const SEEDS_MAX: usize = 64;
/// Databases that a URL may ask for: servers have sixteen unless configured.
const DATABASE_MAX: u32 = 65_535;
const PARAMETERS: [&str; 4] = ["ca", "insecure", "connect_ms", "answer_ms"];

/// A server's host and port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// A name or an address, without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "{open}{}{close}:{}", self.host, self.port)
    }
}

/// How Redis is reached. `Debug` and `Display` show no password.
#[derive(Clone)]
pub struct Settings {
    pub(super) places: Vec<Place>,
    pub(super) is_cluster: bool,
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
    pub(super) database: u32,
    pub(super) tls: Option<Arc<ClientConfig>>,
    pub(super) connect_max: Duration,
    pub(super) answer_max: Duration,
    ca: Option<PathBuf>,
    parameters: String,
}

impl Settings {
    /// Reads a URL, and the certificates that it names.
    ///
    /// # Errors
    /// A sentence that shows nothing of the password.
    pub fn parse(url: &str) -> Result<Settings, String> {
        let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
        let (is_tls, is_cluster) = match scheme {
            "redis" => (false, false),
            "rediss" => (true, false),
            "redis+cluster" => (false, true),
            "rediss+cluster" => (true, true),
            _ => {
                return Err("a Redis URL begins with redis://, rediss:// (TLS), redis+cluster:// or rediss+cluster://"
                    .to_owned());
            }
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        // What stands before the last @ is secret, whatever else it looks like: no message may show a part of it.
        let (login, place) = rest.rsplit_once('@').unwrap_or(("", rest));
        if query.split('=').next().is_some_and(|name| !PARAMETERS.contains(&name) && query.contains('@')) {
            return Err("a ? in a Redis URL's password is written %3F".to_owned());
        }
        let (hosts, database) = place.split_once('/').unwrap_or((place, ""));
        let (user, password) = match login.split_once(':') {
            Some((user, password)) => (decode(user)?, Some(decode(password)?)),
            None if login.is_empty() => (String::new(), None),
            None => return Err("a Redis URL with a user has a password, too: redis://USER:PASSWORD@host".to_owned()),
        };
        let mut settings = Settings {
            places: places(hosts, is_cluster)?,
            is_cluster,
            user: Some(user).filter(|user| !user.is_empty()),
            password: password.filter(|password| !password.is_empty()),
            database: database_number(database, is_cluster)?,
            tls: None,
            connect_max: CONNECT_MAX,
            answer_max: ANSWER_MAX,
            ca: None,
            parameters: query.to_owned(),
        };
        if settings.user.is_some() && settings.password.is_none() {
            return Err("a Redis URL with a user has a password, too: redis://USER:PASSWORD@host".to_owned());
        }
        let trust = settings.read_parameters(query)?;
        settings.ca.clone_from(&trust.ca);
        match (is_tls, trust) {
            (true, trust) => settings.tls = Some(tls(trust)?),
            (false, Trust { ca: None, insecure: false }) => {}
            (false, _) => {
                return Err("ca and insecure belong to TLS: write rediss:// or rediss+cluster://".to_owned());
            }
        }
        Ok(settings)
    }

    /// The file that it names, of authorities.
    pub fn file(&self) -> Option<&Path> {
        self.ca.as_deref()
    }

    fn read_parameters(&mut self, query: &str) -> Result<Trust, String> {
        let mut trust = Trust::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').ok_or("every parameter of a Redis URL has a value")?;
            let value = decode(value)?;
            match name {
                "ca" => trust.ca = Some(value.into()),
                "insecure" => {
                    trust.insecure = match &*value {
                        "1" => true,
                        "0" => false,
                        other => return Err(format!("insecure is 0 or 1, not {other:?}")),
                    }
                }
                "connect_ms" => self.connect_max = milliseconds(name, &value)?,
                "answer_ms" => self.answer_max = milliseconds(name, &value)?,
                unknown => {
                    let near = nearest(unknown, &PARAMETERS);
                    let hint = near.map(|near| format!(" Did you mean {near}?")).unwrap_or_default();
                    let offered = PARAMETERS.join(", ");
                    return Err(format!("the Redis URL's parameter {unknown:?} is not offered; {offered} are.{hint}"));
                }
            }
        }
        Ok(trust)
    }

    /// Where it is and as whom, without what is secret: for people.
    pub fn shown(&self) -> String {
        self.to_string()
    }

    /// The URL without user and password, which does the same for who needs none.
    pub fn without_login(&self) -> String {
        let settings = Settings { user: None, password: None, ..self.clone() };
        let query = if self.parameters.is_empty() { String::new() } else { format!("?{}", self.parameters) };
        format!("{settings}{query}")
    }

    /// Whether it is a Redis Cluster.
    pub fn is_cluster(&self) -> bool {
        self.is_cluster
    }

    /// The same with another longest wait for an answer: for calls that wait at the server (`BLOCK`), which need a handle of
    /// their own and less time than this.
    #[must_use]
    pub fn with_answer_max(mut self, answer_max: Duration) -> Settings {
        self.answer_max = answer_max;
        self
    }
}

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secure = if self.tls.is_some() { "s" } else { "" };
        let cluster = if self.is_cluster { "+cluster" } else { "" };
        write!(f, "redis{secure}{cluster}://")?;
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        for (at, place) in self.places.iter().enumerate() {
            write!(f, "{}{place}", if at == 0 { "" } else { "," })?;
        }
        if self.database != 0 { write!(f, "/{}", self.database) } else { Ok(()) }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}?{}", self.parameters)
    }
}

impl PartialEq for Settings {
    fn eq(&self, other: &Settings) -> bool {
        let who = |settings: &Settings| (settings.user.clone(), settings.password.clone());
        self.to_string() == other.to_string() && self.parameters == other.parameters && who(self) == who(other)
    }
}

impl Eq for Settings {}

/// Whom TLS believes.
#[derive(Default)]
struct Trust {
    ca: Option<PathBuf>,
    insecure: bool,
}

fn tls(trust: Trust) -> Result<Arc<ClientConfig>, String> {
    let config = client_config(&ClientTls {
        allow_insecure_connections: trust.insecure,
        ca_certs: trust.ca.into_iter().collect(),
        system_ca_pool: !trust.insecure,
        min_version: TlsVersion::Tls12,
        max_version: TlsVersion::Tls13,
        client_certs: Vec::new(),
    });
    config.map_err(|error| format!("the Redis URL's certificates: {error}"))
}

fn places(hosts: &str, is_cluster: bool) -> Result<Vec<Place>, String> {
    let places: Vec<Place> = hosts.split(',').map(place).collect::<Result<_, _>>()?;
    match places.len() {
        1 => Ok(places),
        _ if !is_cluster => {
            Err("a Redis URL names one host. Several nodes of a cluster: redis+cluster://host1:port1,host2:port2"
                .to_owned())
        }
        2..=SEEDS_MAX => Ok(places),
        many => Err(format!("a Redis URL names {SEEDS_MAX} nodes of a cluster at most, not {many}")),
    }
}

/// `host`, `host:port`, `[address]:port`.
pub(super) fn place(text: &str) -> Result<Place, String> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or("the Redis URL's address lacks its ]")?;
            (host, rest.strip_prefix(':'))
        }
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    if host.is_empty() {
        return Err("the Redis URL names no host: redis://HOST:6379".to_owned());
    }
    let port = match port.filter(|port| !port.is_empty()) {
        None => PORT,
        Some(port) => match port.parse() {
            Ok(port) if port != 0 => port,
            _ => return Err("the Redis URL's port is 1 to 65535".to_owned()),
        },
    };
    Ok(Place { host: decode(host)?, port })
}

fn database_number(text: &str, is_cluster: bool) -> Result<u32, String> {
    let number = match text {
        "" => Some(0),
        digits => digits.parse().ok().filter(|number| *number <= DATABASE_MAX),
    };
    match number {
        None => Err(format!("the Redis URL's database is a number from 0 to {DATABASE_MAX}, not {text:?}")),
        Some(1..) if is_cluster => Err("a Redis Cluster has the database 0 only".to_owned()),
        Some(number) => Ok(number),
    }
}

fn milliseconds(name: &str, value: &str) -> Result<Duration, String> {
    match value.parse::<u32>() {
        Ok(value @ 1..=LONGEST_MS) => Ok(Duration::from_millis(value.into())),
        _ => Err(format!("{name} is 1 to {LONGEST_MS} milliseconds, not {value:?}")),
    }
}

/// Undoes percent-encoding.
fn decode(text: &str) -> Result<String, String> {
    let wrong = || "the Redis URL has a % that is not followed by two hexadecimal digits of UTF-8".to_owned();
    percent::decode(text).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_where_and_who() {
        let settings = Settings::parse("redis://chat:p%40ss%2F@db.example:7000/3?answer_ms=250&connect_ms=40").unwrap();
        assert_eq!(settings.places, [Place { host: "db.example".to_owned(), port: 7000 }]);
        assert_eq!((settings.user.as_deref(), settings.password.as_deref()), (Some("chat"), Some("p@ss/")));
        assert_eq!((settings.database, settings.is_cluster, settings.tls.is_some()), (3, false, false));
        assert_eq!((settings.connect_max.as_millis(), settings.answer_max.as_millis()), (40, 250));
        assert_eq!(settings.shown(), "redis://chat@db.example:7000/3");
        assert!(!format!("{settings:?}{settings}").contains("p@ss") && !format!("{settings:?}").contains("p%40"));

        let settings = Settings::parse("redis+cluster://:secret@a,[::1]:7001,b:7002").unwrap();
        assert_eq!(settings.shown(), "redis+cluster://a:6379,[::1]:7001,b:7002");
        assert_eq!((settings.user.as_deref(), settings.password.as_deref()), (None, Some("secret")));
        assert!(settings.is_cluster());
        assert!(Settings::parse("rediss://a?insecure=1").unwrap().tls.is_some());
    }

    #[test]
    fn what_is_wrong_is_said_without_the_password() {
        let cases = [
            ("localhost:6379", "begins with redis://"),
            ("http://a", "begins with redis://"),
            ("redis://", "names no host"),
            ("redis://user@a", "has a password"),
            ("redis://user:@a", "has a password"),
            ("redis://a,b", "names one host"),
            ("redis://a:0", "1 to 65535"),
            ("redis://a:b", "1 to 65535"),
            ("redis://[::1", "lacks its ]"),
            ("redis://:secret@a/x", "database is a number"),
            ("redis+cluster://a/1", "database 0 only"),
            ("redis://:secret@a?x=1", "not offered"),
            ("redis://a?answer_mss=1", "Did you mean answer_ms?"),
            ("redis://a?answer_ms=0", "1 to 600000 milliseconds"),
            ("redis://a?ca=/x", "write rediss://"),
            ("rediss://a?insecure=yes", "0 or 1"),
            ("rediss://a?ca=/not/there.pem", "/not/there.pem"),
            ("redis://:secr/et@a:0", "1 to 65535"),
            ("redis://:secr?et=x@a", "%3F"),
            ("redis://:secr%zzet@a", "two hexadecimal digits"),
            ("redis://a?insecure", "has a value"),
        ];
        for (url, what) in cases {
            let error = Settings::parse(url).unwrap_err();
            assert!(error.contains(what) && !error.contains("secr"), "{url}: {error}");
        }
    }
}
