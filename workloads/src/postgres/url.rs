//! Where PostgreSQL servers are and who we are there: `postgres://user:password@host:port/database?sslmode=require`, or,
//! where one of several is the primary, `postgres://user:password@one:5432,two:5432/database`.
//!
//! The grammar is libpq's connection URI (PostgreSQL's manual, "Connection URIs"). What of its parameters is not offered is
//! an error, not ignored: somebody meant something by it.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::nearest::nearest;
use crate::percent;

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

/// Which of the servers a session is wanted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionAttrs {
    /// The first that lets us in.
    Any,
    /// The first that lets us in and takes what is written: no standby, and not `default_transaction_read_only`.
    ReadWrite,
}

/// One server.
#[derive(Clone, PartialEq, Eq)]
pub struct Host {
    /// Its name or address, or the folder of its Unix socket.
    pub name: String,
    /// Its port.
    pub port: u16,
}

impl Host {
    /// Whether it is the folder of a Unix socket.
    pub(crate) fn is_local(&self) -> bool {
        self.name.starts_with('/')
    }
}

/// As a URL has it.
impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (open, close) = if self.name.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "{open}{}{close}:{}", self.name, self.port)
    }
}

/// Servers, a database, and a user. `Debug` and `Display` show no password.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    /// The servers, in the order in which they are tried: one at least, [`HOSTS_MAX`] at most.
    pub hosts: Vec<Host>,
    /// Which of them is wanted. Unless it is said: the one that takes writes where there are several, any where there is one.
    pub session_attrs: SessionAttrs,
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
    /// Our certificate chain and its key, for servers that ask for one.
    pub ssl_cert: Option<PathBuf>,
    /// See [`Target::ssl_cert`].
    pub ssl_key: Option<PathBuf>,
    /// What the server calls us in `pg_stat_activity`.
    pub application_name: String,
    /// Settings for the session, as on the server's command line: `-c search_path=chat`.
    pub options: Option<String>,
    /// How long connecting and logging in to one server may take.
    pub connect_timeout: Duration,
}

/// The parameters that are offered.
const PARAMETERS: [&str; 11] = [
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "application_name",
    "options",
    "connect_timeout",
    "target_session_attrs",
    "user",
    "password",
    "host",
];
/// How long connecting to one server may take unless the URL says otherwise.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Servers that one URL may name: all of them are tried before anybody waits.
pub const HOSTS_MAX: usize = 16;
/// Where a server listens unless the URL says otherwise.
const PORT: u16 = 5432;

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
        let hosts = place.split(',').map(host).collect::<Result<Vec<_>, String>>()?;
        let mut target = Target {
            hosts,
            session_attrs: SessionAttrs::Any,
            user: decode(user)?,
            password,
            database: decode(database)?,
            ssl_mode: SslMode::default(),
            ssl_root_cert: None,
            ssl_cert: None,
            ssl_key: None,
            application_name: "annulus".to_owned(),
            options: None,
            connect_timeout: CONNECT_TIMEOUT,
        };
        let mut attrs = None;
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').ok_or("every parameter of a database URL has a value")?;
            match (name, decode(value)?) {
                ("target_session_attrs", value) => attrs = Some(session_attrs(&value)?),
                (name, value) => target.set(name, value)?,
            }
        }
        target.complete(attrs)
    }

    fn set(&mut self, name: &str, value: String) -> Result<(), String> {
        match name {
            "sslmode" => self.ssl_mode = ssl_mode(&value)?,
            "sslrootcert" => self.ssl_root_cert = Some(value.into()),
            "sslcert" => self.ssl_cert = Some(value.into()),
            "sslkey" => self.ssl_key = Some(value.into()),
            "application_name" => self.application_name = value,
            "options" => self.options = Some(value),
            "connect_timeout" => {
                let seconds = value.parse::<u32>().ok().filter(|seconds| *seconds > 0);
                let seconds = seconds.ok_or_else(|| format!("connect_timeout is whole seconds, not {value:?}"))?;
                self.connect_timeout = Duration::from_secs(seconds.into());
            }
            "user" => self.user = value,
            "password" => self.password = Some(value),
            "host" => {
                let known: Vec<u16> = self.hosts.iter().map(|host| host.port).collect();
                let port = |index: usize| known.get(index).or(known.last()).copied().unwrap_or(PORT);
                let hosts = value.split(',').enumerate();
                self.hosts = hosts.map(|(at, name)| Host { name: name.to_owned(), port: port(at) }).collect();
            }
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
    fn complete(mut self, attrs: Option<SessionAttrs>) -> Result<Target, String> {
        if self.user.is_empty() {
            return Err("the database URL names no user: postgres://USER@host/database".to_owned());
        }
        if self.ssl_cert.is_some() != self.ssl_key.is_some() {
            return Err("the database URL's sslcert and sslkey belong together: give both".to_owned());
        }
        if self.hosts.len() > HOSTS_MAX {
            return Err(format!("the database URL names {} hosts; {HOSTS_MAX} are the most", self.hosts.len()));
        }
        for host in self.hosts.iter_mut().filter(|host| host.name.is_empty()) {
            host.name = "localhost".to_owned();
        }
        self.session_attrs = attrs.unwrap_or(match self.hosts.len() {
            1 => SessionAttrs::Any,
            _ => SessionAttrs::ReadWrite,
        });
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

    /// One of its servers, as it is shown.
    pub(crate) fn shown(&self, host: &Host) -> String {
        format!("postgres://{}@{host}/{}", self.user, self.database)
    }
}

/// `postgres://user@host:port/database`, without what is secret.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts = self.hosts.iter().map(Host::to_string).collect::<Vec<_>>().join(",");
        write!(f, "postgres://{}@{hosts}/{}", self.user, self.database)
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}?sslmode={:?}", self.ssl_mode)
    }
}

/// `name:port`, as it stands in a URL.
fn host(place: &str) -> Result<Host, String> {
    let (name, port) = match place.strip_prefix('[') {
        Some(rest) => {
            let (name, rest) = rest.split_once(']').ok_or("the database URL's address lacks its ]")?;
            (name, rest.strip_prefix(':'))
        }
        None => place.split_once(':').map_or((place, None), |(name, port)| (name, Some(port))),
    };
    let port = match port.filter(|port| !port.is_empty()) {
        None => PORT,
        Some(port) => match port.parse() {
            Ok(port) if port != 0 => port,
            // Not shown: with a / in a password that is not encoded, it is a part of that.
            _ => return Err("the database URL's port is 1 to 65535; a / in a password is written %2F".to_owned()),
        },
    };
    Ok(Host { name: decode(name)?, port })
}

fn session_attrs(value: &str) -> Result<SessionAttrs, String> {
    match value {
        "any" => Ok(SessionAttrs::Any),
        // libpq's `primary` is a server that is no standby; one that takes no writes is of no use to us either.
        "read-write" | "primary" => Ok(SessionAttrs::ReadWrite),
        other => Err(format!("target_session_attrs is any, read-write or primary, not {other:?}")),
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

/// Undoes percent-encoding.
fn decode(text: &str) -> Result<String, String> {
    let wrong = || "the database URL has a % that is not followed by two hexadecimal digits of UTF-8".to_owned();
    percent::decode(text).ok_or_else(wrong)
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
        assert_eq!((target.hosts[0].to_string(), &*target.database), ("db.example:6543".to_owned(), "pub"));
        assert_eq!((target.ssl_mode, target.connect_timeout), (SslMode::Require, Duration::from_secs(3)));
        assert_eq!((&*target.application_name, target.options.as_deref()), ("chat 1", Some("-c search_path=chat")));
        assert!(!format!("{target} {target:?}").contains("p:w"), "{target:?}");
    }

    #[test]
    fn what_is_missing_is_filled_in() {
        let target = Target::parse("postgres://chat@").unwrap();
        assert_eq!((target.hosts[0].to_string(), &*target.database), ("localhost:5432".to_owned(), "chat"));
        assert_eq!((target.ssl_mode, target.password), (SslMode::Prefer, None));
        let target = Target::parse("postgres://chat@[::1]:1/x").unwrap();
        assert_eq!((&*target.hosts[0].name, target.hosts[0].port), ("::1", 1));
        assert_eq!(target.to_string(), "postgres://chat@[::1]:1/x");
        for url in ["postgres://chat@%2Fvar%2Frun/x", "postgres://chat@/x?host=/var/run"] {
            let target = Target::parse(url).unwrap();
            assert!(target.hosts[0].is_local() && target.hosts[0].name == "/var/run", "{url}");
        }
    }

    #[test]
    fn several_hosts_are_tried_for_the_one_that_takes_writes() {
        let target = Target::parse("postgres://chat:x@one,two:6000,[::1]:7/pub").unwrap();
        assert_eq!(target.to_string(), "postgres://chat@one:5432,two:6000,[::1]:7/pub");
        assert_eq!(target.session_attrs, SessionAttrs::ReadWrite);
        let target = Target::parse("postgres://chat@one,two/pub?target_session_attrs=any").unwrap();
        assert_eq!(target.session_attrs, SessionAttrs::Any);
        assert_eq!(Target::parse("postgres://chat@one/pub").unwrap().session_attrs, SessionAttrs::Any);
        let target = Target::parse("postgres://chat@one:1,two:2/pub?host=a,/b,c").unwrap();
        assert_eq!(target.to_string(), "postgres://chat@a:1,/b:2,c:2/pub");
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (url, says) in [
            ("mysql://a@b", "postgres://"),
            ("postgres://host/db", "no user"),
            ("postgres://a@b:x/", "port"),
            ("postgres://a@b:0/", "port"),
            ("postgres://a@b:1,c:x/", "port"),
            ("postgres://a@b?target_session_attrs=standby", "read-write"),
            ("postgres://a@0,1,2,3,4,5,6,7,8,9,a,b,c,d,e,f,g/", "16"),
            ("postgres://a@[::1/", "]"),
            ("postgres://a%zz@b", "%"),
            ("postgres://a%ff@b", "%"),
            ("postgres://a%00@b", "zero byte"),
            ("postgres://a@b?sslmode=verify-ca", "verify-full"),
            ("postgres://a@b?sslcert=x", "sslkey"),
            ("postgres://a@b?sslmod=x", "Did you mean sslmode?"),
            ("postgres://a@b?connect_timeout=0", "connect_timeout"),
            ("postgres://a@b?x", "value"),
        ] {
            let error = Target::parse(url).unwrap_err();
            assert!(error.contains(says), "{url}: {error}");
        }
    }
}
