//! Where a PostgreSQL server is and who we are there: `postgres://user:password@host:port/database?sslmode=require`.
//!
//! The grammar is libpq's connection URI (PostgreSQL's manual, "Connection URIs") with one host. What of its parameters is
//! not offered is an error, not ignored: somebody meant something by it.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::nearest::nearest;

/// Whether the connection is encrypted, and whom it believes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SslMode {
    /// Never encrypted.
    Disable,
    /// Encrypted if the server offers it. Whoever sits between can take the offer away.
    #[default]
    Prefer,
    /// Encrypted, with whoever answers.
    Require,
    /// Encrypted, with the server that a certificate proves to be of this name.
    VerifyFull,
}

/// A server, a database, and a user. `Debug` and `Display` show no password.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    /// A host's name or address, or the folder of a Unix socket.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Whom to log in as.
    pub user: String,
    /// The password; `None`: servers that ask for one are refused.
    pub password: Option<String>,
    /// The database.
    pub database: String,
    /// Whether it is encrypted.
    pub ssl_mode: SslMode,
    /// Authorities to believe besides the system's, for [`SslMode::VerifyFull`].
    pub ssl_root_cert: Option<PathBuf>,
    /// What the server calls us in `pg_stat_activity`.
    pub application_name: String,
    /// Settings for the session, as on the server's command line: `-c search_path=chat`.
    pub options: Option<String>,
    /// How long connecting and logging in may take.
    pub connect_timeout: Duration,
}

/// The parameters that are offered.
const PARAMETERS: [&str; 8] =
    ["sslmode", "sslrootcert", "application_name", "options", "connect_timeout", "user", "password", "host"];
/// How long connecting may take unless the URL says otherwise.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

impl Target {
    /// Reads a URL.
    ///
    /// # Errors
    /// A sentence that shows nothing of the password.
    pub fn parse(url: &str) -> Result<Target, String> {
        let rest = url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://"));
        let rest = rest.ok_or("a database URL begins with postgres:// or postgresql://")?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, place) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = match login.split_once(':') {
            Some((user, password)) => (user, Some(decode(password)?)),
            None => (login, None),
        };
        let (host, port) = split_port(place)?;
        let mut target = Target {
            host: decode(host)?,
            port,
            user: decode(user)?,
            password,
            database: decode(database)?,
            ssl_mode: SslMode::default(),
            ssl_root_cert: None,
            application_name: "annulus".to_owned(),
            options: None,
            connect_timeout: CONNECT_TIMEOUT,
        };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').ok_or("every parameter of a database URL has a value")?;
            target.set(name, decode(value)?)?;
        }
        target.complete()
    }

    fn set(&mut self, name: &str, value: String) -> Result<(), String> {
        match name {
            "sslmode" => self.ssl_mode = ssl_mode(&value)?,
            "sslrootcert" => self.ssl_root_cert = Some(value.into()),
            "application_name" => self.application_name = value,
            "options" => self.options = Some(value),
            "connect_timeout" => {
                let seconds = value.parse::<u32>().ok().filter(|seconds| *seconds > 0);
                let seconds = seconds.ok_or_else(|| format!("connect_timeout is whole seconds, not {value:?}"))?;
                self.connect_timeout = Duration::from_secs(seconds.into());
            }
            "user" => self.user = value,
            "password" => self.password = Some(value),
            "host" => self.host = value,
            unknown => {
                let hint =
                    nearest(unknown, &PARAMETERS).map(|near| format!(" Did you mean {near}?")).unwrap_or_default();
                return Err(format!(
                    "the database URL's parameter {unknown:?} is not offered; {} are.{hint}",
                    PARAMETERS.join(", ")
                ));
            }
        }
        Ok(())
    }

    /// What is missing follows from what is there, as libpq has it.
    fn complete(mut self) -> Result<Target, String> {
        if self.user.is_empty() {
            return Err("the database URL names no user: postgres://USER@host/database".to_owned());
        }
        if self.host.is_empty() {
            self.host = "localhost".to_owned();
        }
        if self.database.is_empty() {
            self.database = self.user.clone();
        }
        let texts = [&self.user, &self.database, &self.application_name].into_iter().chain(&self.options);
        if texts.chain(&self.password).any(|text| text.contains('\0')) {
            return Err("the database URL has a zero byte in it".to_owned());
        }
        Ok(self)
    }

    /// What rows that are stored are stored in: another user or other options may see another table of that name.
    pub(crate) fn place(&self) -> String {
        format!("{self} {:?}", self.options.as_deref().unwrap_or_default())
    }

    /// Whether the host is the folder of a Unix socket.
    pub(crate) fn is_local(&self) -> bool {
        self.host.starts_with('/')
    }
}

/// `postgres://user@host:port/database`, without what is secret.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Target { host, port, user, database, .. } = self;
        let (open, close) = if host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "postgres://{user}@{open}{host}{close}:{port}/{database}")
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}?sslmode={:?}", self.ssl_mode)
    }
}

fn split_port(place: &str) -> Result<(&str, u16), String> {
    let (host, port) = match place.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or("the database URL's address lacks its ]")?;
            (host, rest.strip_prefix(':'))
        }
        None => place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
    };
    match port.filter(|port| !port.is_empty()) {
        None => Ok((host, 5432)),
        Some(port) => match port.parse() {
            Ok(port) if port != 0 => Ok((host, port)),
            _ if port.contains(',') => Err("the database URL names several hosts; one is offered".to_owned()),
            _ => Err(format!("the database URL's port is 1 to 65535, not {port:?}")),
        },
    }
}

fn ssl_mode(value: &str) -> Result<SslMode, String> {
    match value {
        "disable" => Ok(SslMode::Disable),
        "prefer" => Ok(SslMode::Prefer),
        "require" => Ok(SslMode::Require),
        "verify-full" => Ok(SslMode::VerifyFull),
        other => Err(format!("sslmode is disable, prefer, require or verify-full, not {other:?}")),
    }
}

/// Undoes percent encoding (RFC 3986 section 2.1).
fn decode(text: &str) -> Result<String, String> {
    let wrong = || "the database URL has a % that is not followed by two hexadecimal digits of UTF-8".to_owned();
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
        match byte {
            b'%' => match (digit(rest.next()), digit(rest.next())) {
                (Some(high), Some(low)) => bytes.push((high << 4 | low) as u8),
                _ => return Err(wrong()),
            },
            byte => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_where_and_who() {
        let full = "postgresql://chat%40home:p%3Aw%2F@db.example:6543/pub?sslmode=require&connect_timeout=3\
                    &application_name=chat%201&options=-c%20search_path%3Dchat";
        let target = Target::parse(full).unwrap();
        assert_eq!((&*target.user, target.password.as_deref()), ("chat@home", Some("p:w/")));
        assert_eq!((&*target.host, target.port, &*target.database), ("db.example", 6543, "pub"));
        assert_eq!((target.ssl_mode, target.connect_timeout), (SslMode::Require, Duration::from_secs(3)));
        assert_eq!((&*target.application_name, target.options.as_deref()), ("chat 1", Some("-c search_path=chat")));
        assert!(!format!("{target} {target:?}").contains("p:w"), "{target:?}");
    }

    #[test]
    fn what_is_missing_is_filled_in() {
        let target = Target::parse("postgres://chat@").unwrap();
        assert_eq!((&*target.host, target.port, &*target.database), ("localhost", 5432, "chat"));
        assert_eq!((target.ssl_mode, target.password), (SslMode::Prefer, None));
        let target = Target::parse("postgres://chat@[::1]:1/x").unwrap();
        assert_eq!(
            (&*target.host, target.port, target.to_string()),
            ("::1", 1, "postgres://chat@[::1]:1/x".to_owned())
        );
        for url in ["postgres://chat@%2Fvar%2Frun/x", "postgres://chat@/x?host=/var/run"] {
            let target = Target::parse(url).unwrap();
            assert!(target.is_local() && target.host == "/var/run", "{url}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (url, says) in [
            ("mysql://a@b", "postgres://"),
            ("postgres://host/db", "no user"),
            ("postgres://a@b:x/", "port"),
            ("postgres://a@b:0/", "port"),
            ("postgres://a@b:1,c:2/", "several hosts"),
            ("postgres://a@[::1/", "]"),
            ("postgres://a%zz@b", "%"),
            ("postgres://a%ff@b", "%"),
            ("postgres://a%00@b", "zero byte"),
            ("postgres://a@b?sslmode=verify-ca", "verify-full"),
            ("postgres://a@b?sslmod=x", "Did you mean sslmode?"),
            ("postgres://a@b?connect_timeout=0", "connect_timeout"),
            ("postgres://a@b?x", "value"),
        ] {
            let error = Target::parse(url).unwrap_err();
            assert!(error.contains(says), "{url}: {error}");
        }
    }
}
