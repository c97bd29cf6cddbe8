//! Logging in: start-up, authentication (clear text, MD5, SCRAM-SHA-256 of RFC 7677), and the way to the first query.

use annulus_engine::compute::ticket;
use bytes::BytesMut;
use fallible_iterator::FallibleIterator;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use postgres_protocol::message::backend::{AuthenticationSaslBody, Message};
use postgres_protocol::message::frontend;

use super::dial::Dialer;
use super::trouble::Trouble;
use super::url::Target;
use super::wire::Link;

/// What cancels a statement of a session: the server's process and its secret.
#[derive(Clone, Copy)]
pub(crate) struct CancelKey {
    process: i32,
    secret: i32,
}

/// A conversation that the server has accepted.
pub(crate) struct LoggedIn {
    pub(crate) link: Link,
    pub(crate) cancel: Option<CancelKey>,
}

/// How far authentication is. A server proves with SCRAM that it knows the password, too: one that cuts that short is
/// not believed.
enum Proof {
    Nothing,
    Scram(Box<ScramSha256>),
    Done,
}

/// Connects to one of the servers and logs in.
pub(crate) async fn log_in(dialer: &Dialer, host: usize) -> Result<LoggedIn, Trouble> {
    let target = dialer.target();
    let mut link = Link::new(dialer.dial(host).await?);
    link.send(start_up(target)?).await?;
    let (mut proof, mut cancel) = (Proof::Nothing, None);
    loop {
        let message = link.recv().await?;
        match (message, &proof) {
            (Message::ErrorResponse(body), _) => return Err(Trouble::of_server(&body)),
            (Message::AuthenticationOk, Proof::Nothing) => proof = Proof::Done,
            (Message::AuthenticationCleartextPassword, Proof::Nothing) => {
                link.send(password(target, |password| password.to_vec())?).await?;
            }
            (Message::AuthenticationMd5Password(body), Proof::Nothing) => {
                let hash = |password: &[u8]| md5_hash(target.user.as_bytes(), password, body.salt()).into_bytes();
                link.send(password(target, hash)?).await?;
            }
            (Message::AuthenticationSasl(body), Proof::Nothing) => {
                let scram = scram(target, &body)?;
                let mut out = BytesMut::new();
                let written = frontend::sasl_initial_response(SCRAM_SHA_256, scram.message(), &mut out);
                written.map_err(|error| Trouble::protocol(&error.to_string()))?;
                link.send(out).await?;
                proof = Proof::Scram(Box::new(scram));
            }
            (Message::AuthenticationSaslContinue(body), Proof::Scram(_)) => {
                let Proof::Scram(scram) = std::mem::replace(&mut proof, Proof::Nothing) else { continue };
                let scram = answer_challenge(scram, body.data().to_vec()).await?;
                let mut out = BytesMut::new();
                let written = frontend::sasl_response(scram.message(), &mut out);
                written.map_err(|error| Trouble::protocol(&error.to_string()))?;
                link.send(out).await?;
                proof = Proof::Scram(scram);
            }
            (Message::AuthenticationSaslFinal(body), Proof::Scram(_)) => {
                let Proof::Scram(mut scram) = std::mem::replace(&mut proof, Proof::Nothing) else { continue };
                let proven = scram.finish(body.data());
                proven.map_err(|error| Trouble::setup(format!("{target} does not know the password: {error}")))?;
            }
            (Message::BackendKeyData(body), Proof::Done) => {
                cancel = Some(CancelKey { process: body.process_id(), secret: body.secret_key() });
            }
            (Message::ReadyForQuery(_), Proof::Done) => return Ok(LoggedIn { link, cancel }),
            (
                Message::AuthenticationGss
                | Message::AuthenticationSspi
                | Message::AuthenticationKerberosV5
                | Message::AuthenticationScmCredential,
                _,
            ) => {
                return Err(Trouble::setup(format!(
                    "{target} wants a way to log in that is not offered. Fix: scram-sha-256, md5 or password in its pg_hba.conf"
                )));
            }
            _ => return Err(Trouble::protocol("an unexpected message while logging in")),
        }
    }
}

fn start_up(target: &Target) -> Result<BytesMut, Trouble> {
    let mut out = BytesMut::new();
    let always = [
        ("user", &*target.user),
        ("database", &target.database),
        ("client_encoding", "UTF8"),
        ("application_name", &target.application_name),
    ];
    let options = target.options.iter().map(|options| ("options", options.as_str()));
    let written = frontend::startup_message(always.into_iter().chain(options), &mut out);
    written.map_err(|error| Trouble::setup(format!("the database URL: {error}")))?;
    Ok(out)
}

fn password(target: &Target, encode: impl FnOnce(&[u8]) -> Vec<u8>) -> Result<BytesMut, Trouble> {
    let mut out = BytesMut::new();
    let written = frontend::password_message(&encode(known(target)?), &mut out);
    written.map_err(|error| Trouble::setup(format!("the database URL's password: {error}")))?;
    Ok(out)
}

fn known(target: &Target) -> Result<&[u8], Trouble> {
    target.password.as_ref().map(String::as_bytes).ok_or_else(|| {
        Trouble::setup(format!(
            "{target} asks for a password, and the database URL has none. Fix: postgres://user:PASSWORD@..."
        ))
    })
}

fn scram(target: &Target, body: &AuthenticationSaslBody) -> Result<ScramSha256, Trouble> {
    let offered = body.mechanisms().any(|mechanism| Ok(mechanism == SCRAM_SHA_256));
    if !offered.map_err(|error| Trouble::protocol(&error.to_string()))? {
        return Err(Trouble::setup(format!("{target} offers no SCRAM-SHA-256, the only SASL mechanism here")));
    }
    Ok(ScramSha256::new(known(target)?, ChannelBinding::unsupported()))
}

/// Thousands of hashes, milliseconds: not on a shard. Nor on the compute threads, whose queue may be long just when the
/// database is needed; logins are few, and a thread for each is cheap.
async fn answer_challenge(mut scram: Box<ScramSha256>, challenge: Vec<u8>) -> Result<Box<ScramSha256>, Trouble> {
    let (ticket, reply) = ticket();
    let body = move || ticket.answer(scram.update(&challenge).map(|()| scram));
    let thread = std::thread::Builder::new().name("postgres-login".to_owned()).spawn(body);
    thread.map_err(|error| Trouble::transport("starting a thread to log in to the database", &error))?;
    match reply.await {
        Some(answered) => answered.map_err(|error| Trouble::protocol(&error.to_string())),
        None => Err(Trouble::passing("the thread that logs in to the database has ended".to_owned())),
    }
}

impl CancelKey {
    /// Asks the server to give up what this session does, on a connection of its own (PostgreSQL's manual, "Canceling
    /// Requests in Progress"). Otherwise a statement that waits for a lock would stay there, and each retry beside it.
    pub(crate) async fn cancel(self, dialer: &Dialer, host: usize) -> Result<(), Trouble> {
        let mut out = BytesMut::new();
        frontend::cancel_request(self.process, self.secret, &mut out);
        let mut link = Link::new(dialer.dial(host).await?);
        link.send(out).await?;
        // The server closes once it has passed the word on.
        match link.recv().await {
            Ok(_) => Err(Trouble::protocol("an answer to a cancel request")),
            Err(_closed) => Ok(()),
        }
    }
}
