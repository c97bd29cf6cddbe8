//! A session: logged in, with nothing prepared. What is said in it is its owner's.

use postgres_protocol::message::backend::Message;

use super::FAREWELL_MAX;
use super::dial::Dialer;
use super::login::{CancelKey, LoggedIn, log_in};
use super::trouble::Trouble;
use super::wire::Link;

/// See the module's description.
pub(crate) struct Session {
    pub(crate) link: Link,
    cancel: Option<CancelKey>,
}

impl Session {
    /// Opens one, within the time that the URL gives.
    pub(crate) async fn open(dialer: &Dialer) -> Result<Session, Trouble> {
        let target = dialer.target();
        let logged_in = dialer.shard().timeout(target.connect_timeout, log_in(dialer)).await;
        let late = || Trouble::passing(format!("{target} did not let us in within {:?}", target.connect_timeout));
        let LoggedIn { link, cancel } = logged_in.map_err(|_elapsed| late())??;
        Ok(Session { link, cancel })
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
            let _tried = dialer.shard().timeout(FAREWELL_MAX, key.cancel(dialer)).await;
        }
    }

    /// Says farewell.
    pub(crate) async fn close(self, dialer: &Dialer) {
        self.link.terminate(dialer.shard()).await;
    }
}
