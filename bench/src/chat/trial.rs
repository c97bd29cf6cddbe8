//! Members and backends that publish while something is done to what they publish to, and the account afterwards: shared by
//! the kills (`crash.rs`) and by all other faults (`crate::faults`).

use super::ledger::Counts;
use super::member::{Field, Member, backend, size};
use super::talk::{PAGE, Seen, Talk};
use super::wire::{self, CONNECT_ID, Credentials, Position};
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Channels.
pub const CHANNELS: usize = 8;
/// Clients over WebSocket: two in each channel.
pub const MEMBERS: usize = 16;
/// Publishers over HTTP.
const BACKENDS: usize = 2;
/// How long members have in the end to come back and to hear everything.
const QUIET: Duration = Duration::from_secs(2);
/// How long nodes may take to find again what they share.
const HEAL_MAX: Duration = Duration::from_secs(30);
/// Of commands for history; below are those of joining.
const HISTORY_ID: u32 = 100;

/// Reads history, further each time.
pub struct Reader<'a> {
    /// Who publishes, and the account.
    pub field: &'a Field,
    /// Whom it asks.
    pub at: SocketAddr,
    /// Where history has been read to, by channel.
    read: Vec<Position>,
}

impl Reader<'_> {
    /// Reads what history has beyond what was read before.
    ///
    /// # Errors
    /// A sentence: the server is not there, or does not tell its history.
    pub fn read_on(&mut self) -> Result<(), String> {
        let mut talk = Talk::open(self.at, MEMBERS)?;
        talk.say(&wire::join(Credentials::Claim("reader"), &[], false))?;
        talk.reply(CONNECT_ID)?;
        for channel in 0..CHANNELS {
            let (name, asked) = (self.field.channel(channel), Instant::now());
            loop {
                // With the epoch, a server whose stream lives anew would refuse; what it has then is looked at.
                let since = Position { epoch: String::new(), offset: self.read[channel].offset };
                talk.say(&wire::history(HISTORY_ID, &name, &since, PAGE))?;
                let reply = talk.reply_or_error(HISTORY_ID)?;
                if self.field.is_for_now(&reply["error"]) && asked.elapsed() < HEAL_MAX {
                    std::thread::sleep(Duration::from_millis(10));
                    continue;
                }
                if let Some(error) = reply.get("error") {
                    return Err(format!("history of {name}: {error}"));
                }
                let page = &reply["history"];
                let epoch = page["epoch"].as_str().unwrap_or_default().to_owned();
                let publications = page["publications"].as_array().map(Vec::as_slice).unwrap_or_default();
                let mut ledger = self.field.ledger.lock().map_err(|error| error.to_string())?;
                for publication in publications {
                    let seen = Seen::read(publication, size)?;
                    self.read[channel].offset = seen.offset;
                    ledger.in_history(channel, &epoch, &seen);
                }
                if publications.is_empty() {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Nothing new is published; members come to the end, and all of history is read once more from the start.
    fn end(&mut self) -> Result<(), String> {
        self.field.quiet.store(true, Ordering::Relaxed);
        // The last bursts end, and whoever was cut off by the last fault comes back.
        std::thread::sleep(QUIET);
        self.read = vec![Position::default(); CHANNELS];
        {
            let mut ledger = self.field.ledger.lock().map_err(|error| error.to_string())?;
            (0..CHANNELS).for_each(|channel| ledger.begin_history(channel));
        }
        self.read_on()
    }
}

/// The account of a trial.
#[derive(Clone, Copy, Debug)]
pub struct Account {
    /// What was published and what is in history.
    pub counts: Counts,
    /// Subscribers that lack something in the end.
    pub behind: usize,
}

/// Members and backends publish while `during` runs; then nobody publishes any more, all of history is read, and members say
/// how far they came.
///
/// # Errors
/// A sentence: what `during` says, or there is no history in the end.
pub fn run<T>(field: &Field, during: impl FnOnce(&mut Reader) -> Result<T, String>) -> Result<(T, Account), String> {
    let at = *field.addresses.first().ok_or("no server")?;
    let mut reader = Reader { field, at, read: vec![Position::default(); CHANNELS] };
    let (value, tops) = std::thread::scope(|scope| {
        let members: Vec<_> = (0..MEMBERS).map(|index| scope.spawn(move || Member::new(field, index).live())).collect();
        for index in 0..BACKENDS {
            scope.spawn(move || backend(field, MEMBERS + index));
        }
        let ended = during(&mut reader).and_then(|value| reader.end().map(|()| value));
        field.stop.store(true, Ordering::Relaxed);
        let tops = members.into_iter().map(|member| member.join().map_err(|_| "a member panicked".to_owned()));
        let tops = tops.collect::<Result<Vec<_>, _>>();
        Ok::<_, String>((ended?, tops?))
    })?;
    let behind = tops.iter().filter(|(channel, offset)| *offset != reader.read[*channel].offset).count();
    let counts = field.ledger.lock().map_err(|error| error.to_string())?.counts();
    Ok((value, Account { counts, behind }))
}
