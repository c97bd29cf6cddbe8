//! A row of an answer. What a server sends is checked when it is asked for: a field that is not what it should be is the
//! server's fault, not a panic of ours.

use std::ops::Range;

use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::DataRowBody;

use super::trouble::Trouble;

/// See the module's description. Fields are in PostgreSQL's binary format where [`Session::ask`](super::Session::ask) has
/// brought them, and texts where [`Session::query`](super::Session::query) has.
pub struct Row {
    body: DataRowBody,
    fields: Vec<Option<Range<usize>>>,
}

impl Row {
    pub(super) fn new(body: DataRowBody) -> Result<Row, Trouble> {
        let fields = body.ranges().collect().map_err(|error| Trouble::protocol(&error.to_string()))?;
        Ok(Row { body, fields })
    }

    /// The bytes of a field; `None` for SQL's null.
    ///
    /// # Errors
    /// There is no such field.
    pub fn bytes(&self, index: usize) -> Result<Option<&[u8]>, Trouble> {
        let field = self.fields.get(index).ok_or_else(|| Trouble::protocol("an answer has fewer columns"))?;
        let bytes = |range: &Range<usize>| self.body.buffer().get(range.clone());
        match field {
            None => Ok(None),
            Some(range) => bytes(range).map(Some).ok_or_else(|| Trouble::protocol("a field reaches beyond its row")),
        }
    }

    /// A field that is a text, or JSON; empty for null.
    ///
    /// # Errors
    /// There is no such field, or it is no text.
    pub fn text(&self, index: usize) -> Result<&str, Trouble> {
        let bytes = self.bytes(index)?.unwrap_or_default();
        std::str::from_utf8(bytes).map_err(|_| Trouble::protocol("a text is no UTF-8"))
    }

    /// A `bigint`, in binary; 0 for null.
    ///
    /// # Errors
    /// There is no such field, or it is none.
    pub fn int8(&self, index: usize) -> Result<i64, Trouble> {
        self.fixed(index).map(|bytes| bytes.map_or(0, i64::from_be_bytes))
    }

    /// A `boolean`, in binary; false for null.
    ///
    /// # Errors
    /// There is no such field, or it is none.
    pub fn boolean(&self, index: usize) -> Result<bool, Trouble> {
        self.fixed(index).map(|bytes| bytes == Some([1]))
    }

    /// A field of so many bytes: a `uuid` has 16; `None` for null.
    ///
    /// # Errors
    /// There is no such field, or it has another length.
    pub fn fixed<const BYTES: usize>(&self, index: usize) -> Result<Option<[u8; BYTES]>, Trouble> {
        let Some(bytes) = self.bytes(index)? else { return Ok(None) };
        bytes.try_into().map(Some).map_err(|_| Trouble::protocol("a field has another length than its type"))
    }
}
