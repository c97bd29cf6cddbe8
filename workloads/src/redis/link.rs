//! A connection to one server: making it, logging in, and what is said on it.
//!
//! ```text
//!   name ─► address ─► TCP ─► TLS ─► HELLO 3 AUTH (or AUTH) ─► SELECT, CLIENT SETNAME, INFO, CONFIG GET ─► in use
//! ```

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use annulus_engine::tls::TlsStream;
use annulus_engine::tls::rustls::pki_types::ServerName;
use annulus_engine::{Address, Shard, SocketOptions};

use super::facts::{ServerFacts, Told};
use super::resp::{Inbound, Reply, Version, write_command};
use super::settings::{Place, Settings};
use super::value::Value;
use crate::gateway::dns::Resolver;
use crate::gateway::fetching::system_resolver;
use crate::serve::wire::Wire;

/// How long data may stay unacknowledged before a connection counts as dead.
const USER_TIMEOUT: Duration = Duration::from_secs(20);
/// A silent connection is probed after this long.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// Longest time that an address of the server is believed: servers fail over by name.
const ADDRESS_TTL_MAX: Duration = Duration::from_secs(5);

/// Why there is no connection.
#[derive(Debug)]
pub(super) struct Unreachable {
    /// A sentence.
    pub(super) why: String,
    /// Whether a person has to change something: trying again soon only fills logs.
    pub(super) is_setup: bool,
}

impl Unreachable {
    fn passing(why: String) -> Unreachable {
        Unreachable { why, is_setup: false }
    }

    fn setup(why: String) -> Unreachable {
        Unreachable { why, is_setup: true }
    }
}

/// Makes a shard's connections.
pub(super) struct Dialer {
    shard: Shard,
    settings: Settings,
    /// What connections are called at the server (`CLIENT LIST`).
    name: String,
    resolver: Rc<Resolver>,
}

impl Dialer {
    /// Connections for `purpose`.
    pub(super) fn new(shard: &Shard, settings: &Settings, purpose: &str) -> Dialer {
        // Redis takes no blanks and no line ends in a name.
        let purpose = purpose.chars().map(|letter| if letter.is_ascii_graphic() { letter } else { '-' });
        let name = format!("annulus-{}", purpose.collect::<String>());
        let resolver = system_resolver(shard, &[], ADDRESS_TTL_MAX);
        Dialer { shard: shard.clone(), settings: settings.clone(), name, resolver }
    }

    pub(super) fn shard(&self) -> &Shard {
        &self.shard
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// A connection that is ready for commands, within the time that the URL gives, and what the server says of itself.
    pub(super) async fn open(&self, place: &Place) -> Result<(Link, ServerFacts), Unreachable> {
        let (link, told) = self.open_any(place).await?;
        match told.trouble() {
            Some(why) => Err(Rude::from(why).at(place)),
            None => Ok((link, told.facts())),
        }
    }

    /// As [`Dialer::open`], with a server that takes no writes, too.
    pub(super) async fn open_any(&self, place: &Place) -> Result<(Link, Told), Unreachable> {
        let within = self.settings.connect_max;
        match self.shard.timeout(within, self.greet(place)).await {
            Ok(opened) => opened,
            Err(_elapsed) => Err(Unreachable::passing(format!("{place} did not let us in within {within:?}"))),
        }
    }

    async fn greet(&self, place: &Place) -> Result<(Link, Told), Unreachable> {
        let mut link = Link { wire: self.dial(place).await?, inbound: Inbound::new() };
        link.log_in(&self.settings).await.map_err(|trouble| trouble.at(place))?;
        let told = link.look(&self.settings, &self.name).await.map_err(|trouble| trouble.at(place))?;
        Ok((link, told))
    }

    /// To the first of the server's addresses that answers.
    async fn dial(&self, place: &Place) -> Result<Wire, Unreachable> {
        let addresses = self.resolver.addresses(&place.host).await;
        let addresses = addresses.map_err(|error| Unreachable::passing(format!("{}: {error}", place.host)))?;
        let mut last = Unreachable::setup(format!("{} has no address", place.host));
        for ip in addresses.iter() {
            match self.connect(place, SocketAddr::new(*ip, place.port)).await {
                Ok(wire) => return Ok(wire),
                Err(unreachable) => last = unreachable,
            }
        }
        Err(last)
    }

    async fn connect(&self, place: &Place, address: SocketAddr) -> Result<Wire, Unreachable> {
        let options = SocketOptions {
            user_timeout: Some(USER_TIMEOUT),
            keep_alive: Some(KEEP_ALIVE),
            ..SocketOptions::default()
        };
        let failed = |error: io::Error| Unreachable::passing(format!("connecting to {place}: {error}"));
        let stream = self.shard.connect(&Address::Ip(address), &options).await.map_err(failed)?;
        let Some(config) = &self.settings.tls else { return Ok(Wire::Plain(stream)) };
        let name = ServerName::try_from(place.host.clone())
            .map_err(|_| Unreachable::setup(format!("{:?} cannot be in a certificate", place.host)))?;
        let stream = TlsStream::connect(stream, config.clone(), name).await.map_err(failed)?;
        Ok(Wire::Tls(Box::new(stream)))
    }
}

/// A connection and what of replies has come on it.
pub(super) struct Link {
    wire: Wire,
    inbound: Inbound,
}

/// What went wrong while greeting; the server's name is added once.
struct Rude(Unreachable);

impl Rude {
    fn at(self, place: &Place) -> Unreachable {
        Unreachable { why: format!("{place}: {}", self.0.why), ..self.0 }
    }

    fn refused(code: &str, message: &str) -> Rude {
        let words = format!("{code} {}", message.trim_end_matches('.'));
        Rude(match code {
            "WRONGPASS" | "NOAUTH" => {
                Unreachable::setup(format!("{words}. Fix: put the right user and password into the Redis URL"))
            }
            "NOPERM" => Unreachable::setup(format!("{words}. Fix: let this user do that (ACL SETUSER)")),
            "LOADING" | "MASTERDOWN" | "BUSY" | "CLUSTERDOWN" => Unreachable::passing(words),
            "ERR" if message.contains("max number of clients") => {
                Unreachable::passing(format!("{words}. Fix: raise the server's maxclients"))
            }
            _ => Unreachable::setup(words),
        })
    }
}

impl From<String> for Rude {
    fn from(why: String) -> Rude {
        Rude(Unreachable::passing(why))
    }
}

impl Link {
    /// Agrees on a version of the protocol, and says who we are.
    async fn log_in(&mut self, settings: &Settings) -> Result<(), Rude> {
        let user = settings.user.as_deref().unwrap_or("default");
        let mut hello = vec!["HELLO", "3"];
        if let Some(password) = &settings.password {
            hello.extend(["AUTH", user, password]);
        }
        // A refusal looks the same in both versions; an agreement is in the new one.
        self.inbound.set_version(Version::Resp3);
        match self.call(&hello).await? {
            Value::Error { code, message } => {
                self.inbound.set_version(Version::Resp2);
                // Servers before 6, and proxies, do not know it, or do not like the 3.
                let is_unknown =
                    code == "NOPROTO" || (code == "ERR" && message.to_ascii_lowercase().contains("unknown command"));
                if !is_unknown {
                    return Err(Rude::refused(&code, &message));
                }
            }
            _agreed => return Ok(()),
        }
        let Some(password) = &settings.password else { return Ok(()) };
        let auth = match &settings.user {
            Some(user) => vec!["AUTH", user, password],
            // Before 6 there were no users.
            None => vec!["AUTH", password],
        };
        match self.call(&auth).await? {
            Value::Error { code, message } => Err(Rude::refused(&code, &message)),
            _ok => Ok(()),
        }
    }

    /// Chooses the database, and asks the server what it is: all at once.
    async fn look(&mut self, settings: &Settings, name: &str) -> Result<Told, Rude> {
        let database = settings.database.to_string();
        let commands: [&[&str]; 8] = [
            &["SELECT", &database],
            &["CLIENT", "SETNAME", name],
            &["INFO", "server"],
            &["INFO", "replication"],
            &["INFO", "persistence"],
            &["CONFIG", "GET", "appendonly"],
            &["CONFIG", "GET", "appendfsync"],
            &["CONFIG", "GET", "maxmemory-policy"],
        ];
        let skipped = usize::from(settings.database == 0);
        let mut bytes = Vec::new();
        commands.iter().skip(skipped).for_each(|parts| write_command(&mut bytes, parts));
        self.send(&mut bytes).await?;
        let mut told = Told::default();
        for parts in commands.iter().skip(skipped) {
            let answer = self.answer().await?;
            match (parts[0], answer) {
                ("SELECT", Value::Error { code, message }) => return Err(Rude::refused(&code, &message)),
                ("INFO", Value::Error { code, message }) if code != "NOPERM" => {
                    // NOAUTH comes here where RESP2 was agreed on without a password.
                    return Err(Rude::refused(&code, &message));
                }
                ("INFO", answer) => told.take_info(&answer),
                ("CONFIG", answer) => told.take_config(answer),
                _ => {}
            }
        }
        Ok(told)
    }

    /// Asks the one thing that a connection was made for.
    ///
    /// # Errors
    /// Why the connection broke.
    pub(super) async fn call(&mut self, parts: &[&str]) -> Result<Value, String> {
        let mut bytes = Vec::new();
        write_command(&mut bytes, parts);
        self.send(&mut bytes).await?;
        self.answer().await
    }

    async fn answer(&mut self) -> Result<Value, String> {
        loop {
            if let Reply::Answer(value) = self.recv().await? {
                return Ok(value);
            }
        }
    }

    /// The version of the protocol that was agreed on.
    pub(super) fn version(&self) -> Version {
        self.inbound.version()
    }

    /// Sends commands, and leaves `bytes` empty. Waits while much is queued.
    ///
    /// # Errors
    /// Why the connection broke.
    pub(super) async fn send(&mut self, bytes: &mut Vec<u8>) -> Result<(), String> {
        self.wire.send(bytes).await.map_err(|error| error.to_string())
    }

    /// The next reply that is here already.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn next_reply(&mut self) -> Result<Option<Reply>, String> {
        self.inbound.next_reply().map_err(|wrong| format!("the server breaks the protocol: {wrong}"))
    }

    /// Receives what comes next; how many bytes that are. Dropping the future loses nothing.
    ///
    /// # Errors
    /// Why the connection broke.
    pub(super) async fn feed(&mut self) -> Result<usize, String> {
        match self.wire.recv().await {
            Ok(Some(chunk)) => {
                self.inbound.recv_bytes(&chunk);
                Ok(chunk.len())
            }
            Ok(None) => Err("the server closed the connection".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// The next reply. Dropping the future loses nothing.
    async fn recv(&mut self) -> Result<Reply, String> {
        loop {
            match self.next_reply()? {
                Some(reply) => return Ok(reply),
                None => self.feed().await?,
            };
        }
    }

    /// Closes at once.
    pub(super) fn abort(self) {
        self.wire.abort();
    }
}
