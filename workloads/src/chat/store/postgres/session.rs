//! A session that can insert: logged in, the table checked, the statement prepared.

use std::time::Duration;

use postgres_protocol::message::backend::{CommandCompleteBody, Message};

use super::insert;
use super::schema::SCHEMA;
use crate::postgres::{self, Dialer, Trouble};

/// How long making tables, or bringing them up to date, may take; another node that does it is waited for.
const MIGRATION_MAX: Duration = Duration::from_secs(600);

/// See the module's description.
pub(super) struct Session {
    inner: postgres::Session,
}

impl Session {
    /// Opens one: logging in, looking at the tables and preparing, within the time that the URL gives for each. Only making
    /// tables, or bringing them up to date, may take longer.
    pub(super) async fn open(dialer: &Dialer) -> Result<Session, Trouble> {
        let session = Session { inner: postgres::Session::open(dialer).await? };
        let most = dialer.target().connect_timeout;
        let standing = session.within(dialer, most, async |session| SCHEMA.look(&mut session.inner).await).await;
        let (mut session, standing) = standing?;
        if !SCHEMA.is_fit(standing)? {
            let migrated =
                session.within(dialer, MIGRATION_MAX, async |session| SCHEMA.migrate(&mut session.inner).await);
            (session, ()) = migrated.await?;
        }
        let prepared = session.within(dialer, most, async |session| {
            session.inner.link.send(insert::prepare()?).await?;
            session.answer().await
        });
        prepared.await.map(|(session, _no_rows)| session)
    }

    /// Does work within a time. The table may be locked: then the server waits, and is told not to when the time is up.
    async fn within<T>(
        mut self,
        dialer: &Dialer,
        most: Duration,
        work: impl AsyncFnOnce(&mut Session) -> Result<T, Trouble>,
    ) -> Result<(Session, T), Trouble> {
        match dialer.shard().timeout(most, work(&mut self)).await {
            Ok(done) => done.map(|done| (self, done)),
            Err(_elapsed) => {
                self.cancel(dialer).await;
                let target = dialer.target();
                Err(Trouble::passing(format!("{target}: annulus_publications is locked, or the server is very slow")))
            }
        }
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
