//! A session: logged in to one of the servers, with nothing prepared, and questions in it.

use bytes::BytesMut;
use postgres_protocol::IsNull;
use postgres_protocol::message::backend::{CommandCompleteBody, Message};
use postgres_protocol::message::frontend;

use super::FAREWELL_MAX;
use super::dial::Dialer;
use super::login::{CancelKey, LoggedIn, log_in};
use super::row::Row;
use super::trouble::Trouble;
use super::url::SessionAttrs;
use super::wire::Link;

/// Whether a session could not write: a standby, or a server told to take nothing.
const IS_READ_ONLY: &str =
    "SELECT pg_catalog.pg_is_in_recovery() OR pg_catalog.current_setting('default_transaction_read_only')::boolean";

/// An attempt at one server. Where it comes to nothing the next session begins with the next server, also when it is given
/// up: whoever waits may have less patience than it takes to try all of them.
struct Attempt<'d> {
    dialer: &'d Dialer,
    host: usize,
    has_succeeded: bool,
}

impl Attempt<'_> {
    fn succeeded(mut self, session: Session) -> Session {
        self.has_succeeded = true;
        self.dialer.set_favourite(self.host);
        session
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if !self.has_succeeded {
            self.dialer.pass_over(self.host);
        }
    }
}

/// See the module's description.
pub struct Session {
    pub(crate) link: Link,
    cancel: Option<CancelKey>,
    host: usize,
}

impl Session {
    /// Opens one on the first server that lets us in and is what the URL wants, within the time that the URL gives for
    /// each. Where sessions were opened last is tried first.
    pub(crate) async fn open(dialer: &Dialer) -> Result<Session, Trouble> {
        let mut troubles = Vec::new();
        for host in dialer.order() {
            let attempt = Attempt { dialer, host, has_succeeded: false };
            match Session::open_at(dialer, host).await {
                Ok(session) => return Ok(attempt.succeeded(session)),
                Err(trouble) => troubles.push((dialer.shown(host), trouble)),
            }
        }
        match troubles.len() {
            1 => Err(troubles.remove(0).1),
            _ => Err(Trouble::of_all(troubles)),
        }
    }

    async fn open_at(dialer: &Dialer, host: usize) -> Result<Session, Trouble> {
        let target = dialer.target();
        let opening = async {
            let LoggedIn { link, cancel } = log_in(dialer, host).await?;
            let mut session = Session { link, cancel, host };
            if target.session_attrs == SessionAttrs::ReadWrite && session.is_read_only().await? {
                let words = "it takes no writes (a standby, or default_transaction_read_only = on)";
                return Err(Trouble::passing(format!("{}: {words}", dialer.shown(host))));
            }
            Ok(session)
        };
        let opened = dialer.shard().timeout(target.connect_timeout, opening).await;
        let late = || {
            let (shown, most) = (dialer.shown(host), target.connect_timeout);
            Trouble::passing(format!("{shown} did not let us in within {most:?}"))
        };
        opened.map_err(|_elapsed| late())?
    }

    async fn is_read_only(&mut self) -> Result<bool, Trouble> {
        let rows = self.query(IS_READ_ONLY).await?;
        let row = rows.first().ok_or_else(|| Trouble::protocol("no answer to a question"))?;
        Ok(row.text(0)? == "t")
    }

    /// Asks in the simple protocol: several statements are one transaction, unless they say otherwise. All rows, their
    /// fields as texts.
    ///
    /// # Errors
    /// What the server says, or why the connection broke. Without [`Trouble::session_lives`] it is unknown what was done.
    pub async fn query(&mut self, words: &str) -> Result<Vec<Row>, Trouble> {
        let mut out = BytesMut::new();
        frontend::query(words, &mut out).map_err(|error| Trouble::protocol(&error.to_string()))?;
        self.link.send(out).await?;
        let mut rows = Vec::new();
        self.answers(|row| {
            rows.push(row);
            Ok(())
        })
        .await?;
        Ok(rows)
    }

    /// Asks one statement with parameters, which are texts, in one round trip; `each` gets the rows, their fields in
    /// binary. How many rows were brought or changed. Nothing is left prepared, so a pooler between is no hindrance.
    ///
    /// # Errors
    /// As [`Session::query`], and what `each` says.
    pub async fn ask(
        &mut self,
        words: &str,
        parameters: &[Option<&str>],
        each: impl FnMut(Row) -> Result<(), Trouble>,
    ) -> Result<u64, Trouble> {
        let mut out = BytesMut::new();
        let broken = |error: std::io::Error| Trouble::protocol(&error.to_string());
        frontend::parse("", words, [], &mut out).map_err(broken)?;
        let put = |parameter: &Option<&str>, out: &mut BytesMut| match parameter {
            None => Ok(IsNull::Yes),
            Some(text) => {
                out.extend_from_slice(text.as_bytes());
                Ok(IsNull::No)
            }
        };
        // Parameters as texts (0), columns in binary (1).
        let bound = frontend::bind("", "", [0], parameters, put, [1], &mut out);
        bound.map_err(|_| Trouble::row("a question is too long to be sent".to_owned()))?;
        frontend::execute("", 0, &mut out).map_err(broken)?;
        frontend::sync(&mut out);
        self.link.send(out).await?;
        self.answers(each).await
    }

    /// Everything up to the server's being ready. A trouble of `each` is told after that, so that the session goes on.
    async fn answers(&mut self, mut each: impl FnMut(Row) -> Result<(), Trouble>) -> Result<u64, Trouble> {
        let (mut rows, mut trouble) = (0, None);
        loop {
            match self.link.recv().await {
                Ok(Message::ErrorResponse(body)) => trouble = Some(Trouble::of_server(&body)),
                Ok(Message::DataRow(body)) if trouble.is_none() => {
                    trouble = Row::new(body).and_then(&mut each).err();
                }
                Ok(Message::CommandComplete(body)) => rows = counted(&body)?,
                Ok(Message::ReadyForQuery(_)) => return trouble.map_or(Ok(rows), Err),
                Ok(
                    Message::DataRow(_)
                    | Message::RowDescription(_)
                    | Message::BindComplete
                    | Message::ParseComplete
                    | Message::EmptyQueryResponse,
                ) => {}
                Ok(_) => return Err(Trouble::protocol("an unexpected answer to a question")),
                // A fatal error says why the connection ends.
                Err(broken) => return Err(trouble.unwrap_or(broken)),
            }
        }
    }

    /// Resolves when the server ends an idle session. Dropping the future loses nothing.
    pub(crate) async fn ended(&mut self) -> Trouble {
        match self.link.recv().await {
            Ok(Message::ErrorResponse(body)) => Trouble::of_server(&body),
            Ok(_) => Trouble::protocol("a message that nobody asked for"),
            Err(broken) => broken,
        }
    }

    /// Lets the server give up what it does for us, and ends the session. If that fails, the server's own time-outs have
    /// to do.
    pub(crate) async fn cancel(self, dialer: &Dialer) {
        if let Some(key) = self.cancel {
            let _tried = dialer.shard().timeout(FAREWELL_MAX, key.cancel(dialer, self.host)).await;
        }
    }

    /// Says farewell.
    pub(crate) async fn close(self, dialer: &Dialer) {
        self.link.terminate(dialer.shard()).await;
    }
}

/// The number at the end of `INSERT 0 12` or `SELECT 3`; 0 where there is none.
fn counted(body: &CommandCompleteBody) -> Result<u64, Trouble> {
    let tag = body.tag().map_err(|error| Trouble::protocol(&error.to_string()))?;
    Ok(tag.rsplit(' ').next().and_then(|count| count.parse().ok()).unwrap_or(0))
}
