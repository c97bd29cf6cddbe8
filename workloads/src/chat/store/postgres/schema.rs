//! The chat's tables in PostgreSQL, see [`crate::postgres::migrate`].

use crate::postgres::migrate::{Schema, Step};

/// See the module's description.
pub static SCHEMA: Schema = Schema { name: "chat", table: "annulus_publications", steps: &STEPS };

static STEPS: [Step; 1] = [Step { words: PUBLICATIONS, least: 1 }];

const PUBLICATIONS: &str = r#"
CREATE TABLE annulus_publications (
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
