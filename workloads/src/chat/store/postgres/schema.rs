//! The table in PostgreSQL: made when it is absent, checked when it is there.
//!
//! Its version is in its comment, which everybody may read. So a user with INSERT and SELECT is enough where somebody else
//! has made the table.

use bytes::BytesMut;
use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::{DataRowBody, Message};
use postgres_protocol::message::frontend;

use crate::postgres::{Link, Trouble};

/// The beginning of the table's comment.
const MARK: &str = "annulus schema 1";

/// Whether the table is there, and its comment.
const LOOK: &str = "SELECT to_regclass('annulus_publications') IS NOT NULL, \
                    obj_description(to_regclass('annulus_publications'), 'pg_class')";

/// One transaction, since it is one query. The lock lets many who start together make one table; its number is `annulus`
/// in ASCII.
const CREATE: &str = r#"
SELECT pg_advisory_xact_lock(x'616e6e756c7573'::bigint);
CREATE TABLE IF NOT EXISTS annulus_publications (
    channel text NOT NULL,
    epoch text NOT NULL,
    "offset" bigint NOT NULL,
    time_ms bigint NOT NULL,
    "user" text NOT NULL,
    client uuid,
    conn_info bytea,
    chan_info bytea,
    tags json,
    data bytea NOT NULL,
    sealed boolean NOT NULL,
    binary_data boolean NOT NULL,
    PRIMARY KEY (channel, epoch, "offset")
);
COMMENT ON TABLE annulus_publications IS
    'annulus schema 1: publications of the chat, one row each, never changed; annulus_messages shows data as JSON';
COMMENT ON COLUMN annulus_publications.epoch IS 'another epoch is another history of the channel';
COMMENT ON COLUMN annulus_publications.time_ms IS 'published at, milliseconds since 1970';
COMMENT ON COLUMN annulus_publications."user" IS 'who published it; empty: the server';
COMMENT ON COLUMN annulus_publications.client IS 'the connection that published it; null: the server';
COMMENT ON COLUMN annulus_publications.sealed IS 'data is encrypted';
COMMENT ON COLUMN annulus_publications.binary_data IS 'data, once opened, is bytes and no JSON text';
CREATE OR REPLACE VIEW annulus_messages AS
    SELECT channel, epoch, "offset", to_timestamp(time_ms / 1000.0) AS time, "user", client, tags,
        CASE WHEN sealed OR binary_data THEN NULL ELSE convert_from(data, 'UTF8')::json END AS data
    FROM annulus_publications;
"#;

/// Makes sure that the table is there and of this version.
pub(super) async fn ensure(link: &mut Link) -> Result<(), Trouble> {
    let found = match look(link).await? {
        Some(found) => found,
        None => {
            query(link, CREATE).await?;
            crate::say!("chat: made the table annulus_publications");
            look(link).await?.unwrap_or_default()
        }
    };
    match found.starts_with(MARK) {
        true => Ok(()),
        false => Err(Trouble::setup(format!(
            "the table annulus_publications has the comment {found:?}, and this annulus needs one that begins with {MARK:?}. \
             Fix: run the version that made it, or give this one another schema (options=-c search_path=...)"
        ))),
    }
}

/// The table's comment, if there is a table.
async fn look(link: &mut Link) -> Result<Option<String>, Trouble> {
    let Some(row) = query(link, LOOK).await? else { return Err(Trouble::protocol("no answer to a question")) };
    let broken = |error: std::io::Error| Trouble::protocol(&error.to_string());
    let fields: Vec<_> = row.ranges().collect().map_err(broken)?;
    let field = |index: usize| fields.get(index).and_then(|range| row.buffer().get(range.clone()?));
    let is_there = field(0) == Some(b"t");
    Ok(is_there.then(|| field(1).map(|text| String::from_utf8_lossy(text).into_owned()).unwrap_or_default()))
}

/// Asks, in the simple protocol; the last row of the answer.
async fn query(link: &mut Link, words: &str) -> Result<Option<DataRowBody>, Trouble> {
    let mut out = BytesMut::new();
    frontend::query(words, &mut out).map_err(|error| Trouble::protocol(&error.to_string()))?;
    link.send(out).await?;
    let (mut row, mut trouble) = (None, None);
    loop {
        match link.recv().await {
            Ok(Message::ErrorResponse(body)) => trouble = Some(Trouble::of_server(&body)),
            Ok(Message::DataRow(body)) => row = Some(body),
            Ok(Message::ReadyForQuery(_)) => return trouble.map_or(Ok(row), Err),
            Ok(Message::RowDescription(_) | Message::CommandComplete(_) | Message::EmptyQueryResponse) => {}
            Ok(_) => return Err(Trouble::protocol("an unexpected answer to a question")),
            Err(broken) => return Err(trouble.unwrap_or(broken)),
        }
    }
}
