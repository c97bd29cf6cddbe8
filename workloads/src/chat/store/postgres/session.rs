//! A session that can insert: logged in, the table checked, the statement prepared.

use postgres_protocol::message::backend::{CommandCompleteBody, Message};

use super::dial::Dialer;
use super::login::{CancelKey, LoggedIn, log_in};
use super::trouble::Trouble;
use super::wire::Link;
use super::{FAREWELL_MAX, insert, schema};

/// See the module's description.
pub(super) struct Session {
    link: Link,
    cancel: Option<CancelKey>,
}

impl Session {
    /// Opens one: logging in, and looking at the table, within the time that the URL gives for each.
    pub(super) async fn open(dialer: &Dialer) -> Result<Session, Trouble> {
        let (target, shard) = (dialer.target(), dialer.shard());
        let late = || Trouble::passing(format!("{target} did not let us in within {:?}", target.connect_timeout));
        let logged_in = shard.timeout(target.connect_timeout, log_in(dialer)).await;
        let LoggedIn { link, cancel } = logged_in.map_err(|_elapsed| late())??;
        let mut session = Session { link, cancel };
        // The table may be locked: then this waits at the server, too.
        match shard.timeout(target.connect_timeout, session.prepare()).await {
            Ok(prepared) => prepared.map(|()| session),
            Err(_elapsed) => {
                session.cancel(dialer).await;
                Err(Trouble::passing(format!("{target}: annulus_publications is locked, or the server is very slow")))
            }
        }
    }

    async fn prepare(&mut self) -> Result<(), Trouble> {
        schema::ensure(&mut self.link).await?;
        self.link.send(insert::prepare()?).await?;
        self.answer().await.map(|_no_rows| ())
    }

    /// Sends what [`insert::insert`] made; how many rows were not there yet.
    ///
    /// # Errors
    /// No row of it is stored, or, if the session is no longer alive, that is unknown: sending all again is right.
    pub(super) async fn insert(&mut self, messages: Vec<u8>) -> Result<u64, Trouble> {
        self.link.send(messages).await?;
        self.answer().await
    }

    /// Everything up to the server's being ready.
    async fn answer(&mut self) -> Result<u64, Trouble> {
        let (mut rows, mut trouble) = (0, None);
        loop {
            match self.link.recv().await {
                Ok(Message::ErrorResponse(body)) => trouble = Some(Trouble::of_server(&body)),
                Ok(Message::CommandComplete(body)) => rows = inserted(&body)?,
                Ok(Message::ReadyForQuery(_)) => return trouble.map_or(Ok(rows), Err),
                Ok(Message::BindComplete | Message::ParseComplete) => {}
                Ok(_) => return Err(Trouble::protocol("an unexpected answer to an INSERT")),
                // A fatal error says why the connection ends.
                Err(broken) => return Err(trouble.unwrap_or(broken)),
            }
        }
    }

    /// Resolves when the server ends an idle session. Dropping the future loses nothing.
    pub(super) async fn ended(&mut self) -> Trouble {
        match self.link.recv().await {
            Ok(Message::ErrorResponse(body)) => Trouble::of_server(&body),
            Ok(_) => Trouble::protocol("a message that nobody asked for"),
            Err(broken) => broken,
        }
    }

    /// Lets the server give up what it does for us, and ends the session. If that fails, the server's own time-outs have
    /// to do.
    pub(super) async fn cancel(self, dialer: &Dialer) {
        if let Some(key) = self.cancel {
            let _tried = dialer.shard().timeout(FAREWELL_MAX, key.cancel(dialer)).await;
        }
    }

    /// Says farewell.
    pub(super) async fn close(self, dialer: &Dialer) {
        self.link.terminate(dialer.shard()).await;
    }
}

/// The number at the end of `INSERT 0 12`.
fn inserted(body: &CommandCompleteBody) -> Result<u64, Trouble> {
    let tag = body.tag().map_err(|error| Trouble::protocol(&error.to_string()))?;
    let count = tag.strip_prefix("INSERT 0 ").and_then(|count| count.parse().ok());
    count.ok_or_else(|| Trouble::protocol("an INSERT that counts no rows"))
}
