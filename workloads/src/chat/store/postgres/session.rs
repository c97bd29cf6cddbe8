//! A session that can insert: logged in, the table checked, the statement prepared.

use postgres_protocol::message::backend::{CommandCompleteBody, Message};

use super::{insert, schema};
use crate::postgres::{self, Dialer, Trouble};

/// See the module's description.
pub(super) struct Session {
    inner: postgres::Session,
}

impl Session {
    /// Opens one: logging in, and looking at the table, within the time that the URL gives for each.
    pub(super) async fn open(dialer: &Dialer) -> Result<Session, Trouble> {
        let (target, shard) = (dialer.target(), dialer.shard());
        let mut session = Session { inner: postgres::Session::open(dialer).await? };
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
        schema::ensure(&mut self.inner.link).await?;
        self.inner.link.send(insert::prepare()?).await?;
        self.answer().await.map(|_no_rows| ())
    }

    /// Sends what [`insert::insert`] made; how many rows were not there yet.
    ///
    /// # Errors
    /// No row of it is stored, or, if the session is no longer alive, that is unknown: sending all again is right.
    pub(super) async fn insert(&mut self, messages: Vec<u8>) -> Result<u64, Trouble> {
        self.inner.link.send(messages).await?;
        self.answer().await
    }

    /// Everything up to the server's being ready.
    async fn answer(&mut self) -> Result<u64, Trouble> {
        let (mut rows, mut trouble) = (0, None);
        loop {
            match self.inner.link.recv().await {
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

    /// See [`postgres::Session::ended`].
    pub(super) async fn ended(&mut self) -> Trouble {
        self.inner.ended().await
    }

    /// See [`postgres::Session::cancel`].
    pub(super) async fn cancel(self, dialer: &Dialer) {
        self.inner.cancel(dialer).await;
    }

    /// See [`postgres::Session::close`].
    pub(super) async fn close(self, dialer: &Dialer) {
        self.inner.close(dialer).await;
    }
}

/// The number at the end of `INSERT 0 12`.
fn inserted(body: &CommandCompleteBody) -> Result<u64, Trouble> {
    let tag = body.tag().map_err(|error| Trouble::protocol(&error.to_string()))?;
    let count = tag.strip_prefix("INSERT 0 ").and_then(|count| count.parse().ok());
    count.ok_or_else(|| Trouble::protocol("an INSERT that counts no rows"))
}
