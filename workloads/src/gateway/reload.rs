//! Reloading: on SIGHUP, or when the configuration's file changes or a certificate that it names, all is read again. What is
//! wrong changes nothing.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use annulus_engine::compute::{Ticket, ticket};

use super::config::model::Gateway;
use super::config::{self, LoadOptions};
use super::service::Edition;
use super::tls;
use crate::backoff::{Backoff, seed};

/// The files' dates are looked at after half of this to one and a half: a fleet whose files change together does not begin
/// anew in the same moment.
const LOOK: Duration = Duration::from_secs(1);
/// How long nothing may change before what has changed is read.
const SETTLE: Duration = Duration::from_millis(100);

/// The edition in force, for all shards, and who waits for the next.
pub struct Editions {
    inner: Mutex<(u64, Edition, Vec<Ticket<()>>)>,
}

impl Editions {
    /// The first one.
    pub fn new(edition: Edition) -> Arc<Editions> {
        Arc::new(Editions { inner: Mutex::new((1, edition, Vec::new())) })
    }

    /// The one in force.
    pub fn in_force(&self) -> Edition {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).1.clone()
    }

    /// Puts another one in force.
    pub fn publish(&self, edition: Edition) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        (inner.0, inner.1) = (inner.0 + 1, edition);
        inner.2.drain(..).for_each(|waiting| waiting.answer(()));
    }

    /// The first edition newer than the one numbered `seen`, which becomes its number.
    pub async fn newer(&self, seen: &mut u64) -> Edition {
        loop {
            let reply = {
                let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
                if inner.0 > *seen {
                    *seen = inner.0;
                    return inner.1.clone();
                }
                let (waiting, reply) = ticket();
                inner.2.retain(|other| !other.is_abandoned());
                inner.2.push(waiting);
                reply
            };
            // Answered or dropped: either way it is time to look again.
            let _answered = reply.await;
        }
    }
}

/// Where a configuration came from, to read it again.
#[derive(Clone, Debug)]
pub struct Source {
    /// The file.
    pub path: PathBuf,
    /// How it is read.
    pub options: LoadOptions,
}

/// What a configuration says, before the files that it names are read: what of the machine it needs can be told by then.
pub struct Loaded {
    gateway: Gateway,
    notes: Vec<config::Finding>,
    /// Of the configuration's own file, from before it was read.
    own: Option<(PathBuf, Option<Date>)>,
}

impl Loaded {
    /// One that is in no file.
    pub fn without_file(gateway: Gateway) -> Loaded {
        Loaded { gateway, notes: Vec::new(), own: None }
    }

    /// What it says.
    pub fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    /// Reads the files that it names, tells what is worth a note, and gives the dates of all files.
    ///
    /// # Errors
    /// A sentence that names the file.
    pub fn open(self) -> Result<(Edition, Dates), String> {
        for note in &self.notes {
            crate::say!("gateway: note: {note}");
        }
        let dates = self.own.into_iter().chain(tls::files(&self.gateway).into_iter().map(dated)).collect();
        Ok((Edition::load(self.gateway)?, dates))
    }
}

impl Source {
    /// Reads it, and not yet the files that it names.
    ///
    /// # Errors
    /// Everything that is wrong, a line each.
    pub fn load(&self) -> Result<Loaded, String> {
        let own = dated(self.path.clone());
        let lines =
            |findings: Vec<config::Finding>| findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        let (gateway, notes) = config::load(&self.path, &self.options).map_err(lines)?;
        Ok(Loaded { gateway, notes, own: Some(own) })
    }

    /// Reads it, and the files that it names; with it their dates from before: what changes meanwhile is not missed.
    ///
    /// # Errors
    /// As [`Source::load`] and [`Loaded::open`].
    pub fn read(&self) -> Result<(Edition, Dates), String> {
        self.load()?.open()
    }

    /// Reads it again and puts it in force on all shards, and gives the dates of what it has read; or says why not, and
    /// everything stays as it is.
    pub fn reload(&self, editions: &Editions) -> Option<Dates> {
        match self.read() {
            Ok((edition, dates)) => {
                let before = editions.in_force();
                let (wanted, had) = (&edition.gateway.listen, &before.gateway.listen);
                if (wanted.ip, wanted.port) != (had.ip, had.port) {
                    let (ip, port) = (had.ip, had.port);
                    crate::say!("gateway: it goes on listening at {ip} port {port}: another address needs a restart");
                }
                if edition.gateway.tls.is_some() != before.gateway.tls.is_some() {
                    crate::say!("gateway: connections made before this speak as they did: TLS was switched");
                }
                crate::say!("gateway: {} was read again and is in force", self.path.display());
                editions.publish(edition.after(&before));
                Some(dates)
            }
            Err(why) => {
                crate::warn!("gateway: the configuration stays as it is, because the new one is wrong:\n{why}");
                None
            }
        }
    }

    /// Watches the files, which had the dates `seen` when they were read, from a thread of its own for as long as the process lives.
    ///
    /// # Errors
    /// The thread cannot start.
    pub fn watch(self, editions: Arc<Editions>, mut seen: Dates) -> std::io::Result<()> {
        let mut jitter = Backoff::new(LOOK, LOOK, seed());
        std::thread::Builder::new().name("gateway-file".into()).spawn(move || {
            loop {
                std::thread::sleep(LOOK / 2 + jitter.next());
                let now = self.dates(&editions);
                // Gone for a moment, as when an editor writes it anew: looked at again when it is back. Two files that
                // belong together change one after the other: looked at again when both have.
                if now != seen
                    && now.iter().all(|(_, date)| date.is_some())
                    && now == self.dates_after(SETTLE, &editions)
                {
                    // The new one may name other files. A wrong one is told once.
                    seen = self.reload(&editions).unwrap_or(now);
                }
            }
        })?;
        Ok(())
    }

    fn dates_after(&self, pause: Duration, editions: &Editions) -> Dates {
        std::thread::sleep(pause);
        self.dates(editions)
    }

    /// When the configuration's file and those that it names were written.
    fn dates(&self, editions: &Editions) -> Dates {
        let named = tls::files(&editions.in_force().gateway);
        std::iter::once(self.path.clone()).chain(named).map(dated).collect()
    }
}

/// Files, and when they were written; none for one that is not there.
pub type Dates = Vec<(PathBuf, Option<Date>)>;

/// When a file was written, and how long it is: clocks are coarse.
pub type Date = (SystemTime, u64);

fn dated(path: PathBuf) -> (PathBuf, Option<Date>) {
    let about = std::fs::metadata(&path).ok();
    let date = about.and_then(|about| Some((about.modified().ok()?, about.len())));
    (path, date)
}
