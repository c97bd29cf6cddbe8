//! The one statement: any number of rows as one array per column, so that it is prepared once and planned once, whatever
//! the size of a batch.

use std::error::Error;
use std::ops::Range;

use bytes::BytesMut;
use postgres_protocol::IsNull;
use postgres_protocol::message::frontend::{self, BindError};
use postgres_protocol::types::{
    ArrayDimension, array_to_sql, bool_to_sql, bytea_to_sql, int8_to_sql, text_to_sql, uuid_to_sql,
};

use crate::chat::store::row::{Rows, Stored};
use crate::postgres::Trouble;

/// What the statement is called in its session.
const NAME: &str = "annulus_insert";

/// Rows come in the order of the arrays. The key is named, so that a row that is there already is passed over and any
/// other conflict is an error, not silence.
const STATEMENT: &str = r#"INSERT INTO annulus_publications
    (channel, epoch, "offset", time_ms, "user", client, conn_info, chan_info, tags, data, sealed, binary_data)
    SELECT * FROM unnest($1::text[], $2::text[], $3::int8[], $4::int8[], $5::text[], $6::uuid[], $7::bytea[], $8::bytea[],
        $9::json[], $10::bytea[], $11::bool[], $12::bool[])
    ON CONFLICT (channel, epoch, "offset") DO NOTHING"#;

/// Element types, as `pg_type` numbers them.
const BOOL: u32 = 16;
const BYTEA: u32 = 17;
const INT8: u32 = 20;
const TEXT: u32 = 25;
const JSON: u32 = 114;
const UUID: u32 = 2950;

/// The statement's columns with their element types, in its order.
const COLUMNS: [(Column, u32); 12] = [
    (Column::Channel, TEXT),
    (Column::Epoch, TEXT),
    (Column::Offset, INT8),
    (Column::TimeMs, INT8),
    (Column::User, TEXT),
    (Column::Client, UUID),
    (Column::ConnInfo, BYTEA),
    (Column::ChanInfo, BYTEA),
    (Column::Tags, JSON),
    (Column::Data, BYTEA),
    (Column::Sealed, BOOL),
    (Column::BinaryData, BOOL),
];

#[derive(Clone, Copy)]
enum Column {
    Channel,
    Epoch,
    Offset,
    TimeMs,
    User,
    Client,
    ConnInfo,
    ChanInfo,
    Tags,
    Data,
    Sealed,
    BinaryData,
}

type Put = Result<IsNull, Box<dyn Error + Send + Sync>>;

impl Column {
    /// Writes this column of a row. Texts and JSON are their bytes.
    fn put(self, row: &Stored<'_>, out: &mut BytesMut) -> Put {
        match self {
            Column::Channel => text_to_sql(row.channel, out),
            Column::Epoch => bytea_to_sql(&row.epoch, out),
            Column::Offset => int8_to_sql(i64::try_from(row.offset)?, out),
            Column::TimeMs => int8_to_sql(i64::try_from(row.time_ms)?, out),
            Column::User => text_to_sql(row.user, out),
            Column::Client if row.client == [0; 16] => return Ok(IsNull::Yes),
            Column::Client => uuid_to_sql(row.client, out),
            Column::ConnInfo => return put_some(row.conn_info, out),
            Column::ChanInfo => return put_some(row.chan_info, out),
            Column::Tags => return put_some(row.tags.as_bytes(), out),
            Column::Data => bytea_to_sql(row.data, out),
            Column::Sealed => bool_to_sql(row.sealed, out),
            Column::BinaryData => bool_to_sql(row.binary, out),
        }
        Ok(IsNull::No)
    }
}

fn put_some(bytes: &[u8], out: &mut BytesMut) -> Put {
    if bytes.is_empty() {
        return Ok(IsNull::Yes);
    }
    bytea_to_sql(bytes, out);
    Ok(IsNull::No)
}

/// Prepares the statement.
pub(super) fn prepare() -> Result<Vec<u8>, Trouble> {
    let mut out = BytesMut::new();
    let parsed = frontend::parse(NAME, STATEMENT, [], &mut out);
    parsed.map_err(|error| Trouble::protocol(&error.to_string()))?;
    frontend::sync(&mut out);
    Ok(out.into())
}

/// Inserts these rows: bind, execute and sync in one go, one round trip.
///
/// # Errors
/// A row that cannot be written at all.
pub(super) fn insert(rows: &Rows, range: Range<usize>) -> Result<Vec<u8>, Trouble> {
    // Thirteen bytes of framing per value are less than a quarter of an arena's own entry.
    let mut out = BytesMut::with_capacity(if range.len() == rows.len() { rows.bytes() } else { 4096 });
    let mut put = |(column, element): (Column, u32), out: &mut BytesMut| {
        let dimension = ArrayDimension { len: i32::try_from(range.len())?, lower_bound: 1 };
        let values = range.clone().map(|index| rows.get(index));
        array_to_sql([dimension], element, values, |row: Stored<'_>, out| column.put(&row, out), out)?;
        Ok(IsNull::No)
    };
    let bound = frontend::bind("", NAME, [1], COLUMNS, &mut put, [], &mut out);
    bound.map_err(|error| match error {
        BindError::Conversion(error) => Trouble::row(format!("it cannot be sent: {error}")),
        BindError::Serialization(error) => Trouble::row(format!("it cannot be sent: {error}")),
    })?;
    frontend::execute("", 0, &mut out).map_err(|error| Trouble::protocol(&error.to_string()))?;
    frontend::sync(&mut out);
    Ok(out.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::store::row::Row;

    #[test]
    fn a_batch_is_three_messages() {
        let mut rows = Rows::new(10, 1000);
        rows.push(&Row { channel: "a", offset: 1, data: b"{}", ..Row::default() }, []);
        rows.push(&Row { channel: "b", offset: 2, client: [7; 16], ..Row::default() }, []);
        let bytes = insert(&rows, 0..2).unwrap();
        let (mut rest, mut tags) = (&bytes[..], Vec::new());
        while let [tag, a, b, c, d, ..] = *rest {
            tags.push(tag);
            rest = &rest[1 + u32::from_be_bytes([a, b, c, d]) as usize..];
        }
        assert_eq!((tags, rest.len()), (b"BES".to_vec(), 0));
    }

    #[test]
    fn a_row_beyond_the_types_is_the_rows_fault() {
        let mut rows = Rows::new(10, 1000);
        rows.push(&Row { offset: u64::MAX, ..Row::default() }, []);
        assert_eq!(insert(&rows, 0..1).unwrap_err().kind, crate::postgres::Kind::Data);
    }
}
