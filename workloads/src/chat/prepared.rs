//! What a chat is made of before it has its log: all that a configuration names, read and found usable. No other process is in
//! the way of that, so a successor does it while the one before still serves.

use std::sync::Arc;

use annulus_engine::tls::rustls::{ClientConfig, ServerConfig};

use super::admin::Console;
use super::config::{self, Config, Tokens};
use super::hub::Verifiers;
use super::seal::Sealer;
use super::secure;
use super::store::{PostgresSettings, SqliteSettings};
use super::tokens::{Jwks, Settings, Times, Verifier};
use crate::postgres::Target;
use crate::schema::Schema;

/// Where publications go from the log.
pub enum Database {
    /// Nowhere.
    None,
    /// Into SQLite.
    Sqlite(SqliteSettings),
    /// Into PostgreSQL.
    Postgres(Box<PostgresSettings>),
}

/// See the module's description.
pub(super) struct Prepared {
    /// What proves tokens.
    pub(super) verifiers: Verifiers,
    /// Seals what is kept, where a key is configured.
    pub(super) sealer: Option<Arc<Sealer>>,
    /// Of each namespace, in the configuration's order.
    pub(super) schemas: Vec<Option<Schema>>,
    /// Towards clients.
    pub(super) tls: Option<Arc<ServerConfig>>,
    /// Towards hooks and key sets.
    pub(super) client_tls: Arc<ClientConfig>,
    /// The console.
    pub(super) admin: Console,
    /// Where publications go.
    pub(super) database: Database,
}

impl Prepared {
    /// Reads all of it. Changes nothing.
    ///
    /// # Errors
    /// A sentence for people: what is wrong, with what, and what to do.
    pub(super) fn read(config: &Config) -> Result<Prepared, String> {
        config.check()?;
        let verifiers = verifiers(config)?;
        let sealer = match config.encryption.load()? {
            None => None,
            Some(ring) => Some(Arc::new(Sealer::new(&ring.keys[ring.current].0, &ring.keys)?)),
        };
        let schemas = config.channels.all().map(|namespace| namespace.schema.as_deref().map(Schema::read).transpose());
        Ok(Prepared {
            verifiers,
            sealer,
            schemas: schemas.collect::<Result<Vec<_>, String>>().map_err(|error| format!("chat: {error}"))?,
            tls: config.tls.as_ref().map(secure::server_config).transpose()?,
            client_tls: secure::client_config()?,
            admin: Console::open(config)?,
            database: database(config)?,
        })
    }
}

/// What proves tokens, read anew.
///
/// # Errors
/// A sentence: which key is wrong, and where it is from.
pub(super) fn verifiers(config: &Config) -> Result<Verifiers, String> {
    let skip = config.client.insecure_skip_signature;
    Ok(Verifiers {
        connection: verifier(&config.tokens, skip, "tokens")?,
        subscription: verifier(config.subscription_tokens(), skip, "subscription_tokens")?,
    })
}

fn verifier(tokens: &Tokens, skip_signature: bool, section: &str) -> Result<Verifier, String> {
    let named = |error: String| format!("chat.{section}: {error}");
    let secret = |secret: &Option<config::Secret>| secret.as_ref().map(|s| s.reveal().to_owned()).unwrap_or_default();
    let pem = |pem: &Option<config::Pem>| pem.as_ref().map_or(Ok(String::new()), config::Pem::load).map_err(named);
    let jwks = match (&tokens.jwks_file, &tokens.jwks_url) {
        (Some(path), _) => {
            let text = std::fs::read(path).map_err(|error| named(format!("{}: {error}", path.display())))?;
            Jwks::Set(text)
        }
        (None, Some(_)) => Jwks::Endpoint(Times::default().spread(crate::backoff::seed())),
        (None, None) => Jwks::None,
    };
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let settings = Settings {
        hmac_secret_key: secret(&tokens.hmac_secret),
        hmac_previous_secret_key: secret(&tokens.hmac_previous_secret),
        hmac_previous_secret_key_valid_until: tokens.hmac_previous_valid_until.unwrap_or(0),
        rsa_public_key: pem(&tokens.rsa_public_key)?,
        ecdsa_public_key: pem(&tokens.ecdsa_public_key)?,
        ed25519_public_key: pem(&tokens.ed25519_public_key)?,
        jwks,
        audience: text(&tokens.audience),
        issuer: text(&tokens.issuer),
        user_id_claim: text(&tokens.user_id_claim),
        skip_signature,
        ..Settings::default()
    };
    let verifier = Verifier::new(settings).map_err(named)?;
    for warning in verifier.warnings() {
        crate::warn!("chat: note: chat.{section}: {warning}");
    }
    Ok(verifier)
}

fn database(config: &Config) -> Result<Database, String> {
    Ok(match &config.database {
        config::Database::None => Database::None,
        config::Database::Sqlite { directory } => Database::Sqlite(SqliteSettings::new(directory)),
        config::Database::Postgres { url, connections, batch_rows_max } => {
            let target = Target::parse(url.reveal()).map_err(|error| format!("chat.database.postgres: {error}"))?;
            let directory = config.log.directory.clone().unwrap_or_default();
            let settings = PostgresSettings {
                connections: *connections,
                batch_rows: *batch_rows_max,
                ..PostgresSettings::new(&directory, target)
            };
            Database::Postgres(Box::new(settings))
        }
    })
}
