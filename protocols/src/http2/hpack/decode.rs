//! Reading field blocks.

use super::static_table::{self, STATIC_LEN};
use super::table::Table;
use super::{TABLE_BYTES_MAX, huffman, integer};
use crate::http2::fields::Fields;

/// Size updates at the beginning of a block; more are refused (section 4.2 speaks of two).
const SIZE_UPDATES_MAX: usize = 2;
/// Room for decoded strings beyond this is given back after the block that needed it.
const TEXT_BYTES_KEPT: usize = 4096;

/// Why a block cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// The block breaks the rules: the connection cannot go on.
    Invalid,
    /// The fields are larger or more than allowed. The tables are in step, so the connection can go on.
    TooLarge,
}

/// The decoder of one connection. It owns no memory before the first block.
#[derive(Debug)]
pub struct Decoder {
    table: Table,
    /// Where the strings of a literal are decoded.
    text: Vec<u8>,
}

impl Default for Decoder {
    fn default() -> Decoder {
        Decoder { table: Table::new(TABLE_BYTES_MAX), text: Vec::new() }
    }
}

/// A string of a literal: as it lies in the block, or a range of the decoded text.
#[derive(Clone, Copy)]
enum Text<'b> {
    Plain(&'b [u8]),
    Decoded(usize, usize),
}

impl Text<'_> {
    #[inline]
    fn of<'t>(&'t self, decoded: &'t [u8]) -> &'t [u8] {
        match *self {
            Text::Plain(bytes) => bytes,
            Text::Decoded(start, end) => &decoded[start..end],
        }
    }
}

/// Fields under way, held to what is allowed.
struct Measured {
    fields: Fields,
    size: usize,
    list_bytes_max: usize,
    fields_max: usize,
    too_large: bool,
}

impl Measured {
    /// Counts as RFC 9113 section 10.5.1 does. Beyond the limit nothing is kept any more: a block of many references to
    /// one large entry costs additions, not memory.
    #[inline]
    fn push(&mut self, name: &[u8], value: &[u8]) {
        self.size += name.len() + value.len() + 32;
        self.too_large |= self.size > self.list_bytes_max || self.fields.len() >= self.fields_max;
        if !self.too_large {
            self.fields.push(name, value);
        }
    }
}

impl Decoder {
    /// Decodes a whole block. Its size is checked while it is decoded.
    ///
    /// # Errors
    /// See [`DecodeError`].
    pub fn decode(&mut self, block: &[u8], list_bytes_max: usize, fields_max: usize) -> Result<Fields, DecodeError> {
        let mut out = Measured { fields: Fields::with_room(), size: 0, list_bytes_max, fields_max, too_large: false };
        let mut rest = block;
        self.take_size_updates(&mut rest)?;
        while let Some(&first) = rest.first() {
            match first {
                0x80.. => {
                    let index = integer::read(&mut rest, 7).ok_or(DecodeError::Invalid)?;
                    let (name, value) = self.entry(index)?;
                    out.push(name, value);
                }
                0x40.. => self.take_indexed_literal(&mut rest, &mut out)?,
                // A size update anywhere but in front.
                0x20.. => return Err(DecodeError::Invalid),
                _ => self.take_literal(&mut rest, &mut out)?,
            }
        }
        if self.text.capacity() > TEXT_BYTES_KEPT {
            self.text = Vec::new();
        }
        if out.too_large { Err(DecodeError::TooLarge) } else { Ok(out.fields) }
    }

    /// Bytes of memory held between blocks.
    pub fn heap_bytes(&self) -> usize {
        self.table.heap_bytes() + self.text.capacity()
    }

    fn take_size_updates(&mut self, rest: &mut &[u8]) -> Result<(), DecodeError> {
        let mut updates = 0;
        while let Some(0x20..=0x3f) = rest.first() {
            let wanted = integer::read(rest, 5).ok_or(DecodeError::Invalid)?;
            updates += 1;
            if updates > SIZE_UPDATES_MAX || wanted > TABLE_BYTES_MAX {
                return Err(DecodeError::Invalid);
            }
            self.table.resize(wanted);
        }
        Ok(())
    }

    #[inline]
    fn entry(&self, index: usize) -> Result<(&[u8], &[u8]), DecodeError> {
        match index.checked_sub(STATIC_LEN + 1) {
            None => static_table::get(index),
            Some(offset) => self.table.get(offset),
        }
        .ok_or(DecodeError::Invalid)
    }

    /// A literal that is to be remembered (section 6.2.1).
    fn take_indexed_literal(&mut self, rest: &mut &[u8], out: &mut Measured) -> Result<(), DecodeError> {
        let index = integer::read(rest, 6).ok_or(DecodeError::Invalid)?;
        self.text.clear();
        if index == 0 {
            let (name, value) = (self.take_text(rest)?, self.take_text(rest)?);
            let (name, value) = (name.of(&self.text), value.of(&self.text));
            out.push(name, value);
            self.table.insert(name, value);
            return Ok(());
        }
        let value = self.take_text(rest)?;
        let value = value.of(&self.text);
        out.push(self.entry(index)?.0, value);
        match static_table::get(index) {
            Some((name, _)) => self.table.insert(name, value),
            None => self.table.insert_named(index - STATIC_LEN - 1, value),
        }
        Ok(())
    }

    /// A literal that is not to be remembered, or never (sections 6.2.2 and 6.2.3).
    fn take_literal(&mut self, rest: &mut &[u8], out: &mut Measured) -> Result<(), DecodeError> {
        let index = integer::read(rest, 4).ok_or(DecodeError::Invalid)?;
        self.text.clear();
        let name = if index == 0 { Some(self.take_text(rest)?) } else { None };
        let value = self.take_text(rest)?;
        let name = match &name {
            Some(name) => name.of(&self.text),
            None => self.entry(index)?.0,
        };
        out.push(name, value.of(&self.text));
        Ok(())
    }

    /// A string (section 5.2).
    fn take_text<'b>(&mut self, rest: &mut &'b [u8]) -> Result<Text<'b>, DecodeError> {
        let is_huffman = rest.first().is_some_and(|first| first & 0x80 != 0);
        let len = integer::read(rest, 7).ok_or(DecodeError::Invalid)?;
        let (bytes, after) = rest.split_at_checked(len).ok_or(DecodeError::Invalid)?;
        *rest = after;
        if !is_huffman {
            return Ok(Text::Plain(bytes));
        }
        let start = self.text.len();
        huffman::decode(&mut self.text, bytes).map_err(|huffman::Invalid| DecodeError::Invalid)?;
        Ok(Text::Decoded(start, self.text.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(block: &[u8]) -> Result<usize, DecodeError> {
        Decoder::default().decode(block, 1000, 10).map(|fields| fields.len())
    }

    #[test]
    fn blocks_that_break_the_rules() {
        let invalid: [&[u8]; 13] = [
            &[0x80],                               // index 0
            &[0xbe],                               // index 62, with an empty table
            &[0x7e, 0x01, b'a'],                   // a name of index 62
            &[0x0f, 0x2f, 0x01, b'a'],             // the same without indexing
            &[0x82, 0x20],                         // a size update after a field
            &[0x20, 0x20, 0x20],                   // three of them
            &[0x3f, 0xe2, 0x1f],                   // a table of 4,097 bytes
            &[0x40],                               // nothing after the first byte
            &[0x40, 0x02, b'a'],                   // a name that is cut short
            &[0x40, 0x01, b'a', 0x05, b'b'],       // a value that is
            &[0x00, 0x81, 0x00, 0x00],             // padding with zeros
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0x0f], // an integer without end
            &[0x40, 0x01, b'a', 0x7f, 0xff, 0xff, 0xff, 0x7f, b'b'],
        ];
        for block in invalid {
            assert_eq!(outcome(block), Err(DecodeError::Invalid), "{block:x?}");
        }
        assert_eq!(outcome(&[0x20, 0x3f, 0xe1, 0x1f, 0x82]), Ok(1), "two updates, the last to 4,096 bytes");
    }

    #[test]
    fn limits_count_decoded_fields_and_leave_the_tables_in_step() {
        let mut decoder = Decoder::default();
        let mut block = vec![0x40, 0x01, b'a', 0x64];
        block.extend_from_slice(&[b'v'; 100]);
        // 133 bytes each, as they count.
        assert_eq!(decoder.decode(&block, 133, 10).map(|fields| fields.len()), Ok(1));
        assert_eq!(decoder.decode(&[0xbe, 0xbe], 265, 10), Err(DecodeError::TooLarge));
        assert_eq!(decoder.decode(&[0xbe, 0xbe], 266, 10).map(|fields| fields.len()), Ok(2));
        assert_eq!(decoder.decode(&[0xbe, 0xbe], 266, 1), Err(DecodeError::TooLarge));
        let too_large = [&block[..], &[0x40, 0x01, b'b', 0x00]].concat();
        assert_eq!(decoder.decode(&too_large, 50, 10), Err(DecodeError::TooLarge));
        let fields = decoder.decode(&[0xbe], 1000, 10).expect("it was remembered");
        assert_eq!(fields.get(b"b"), Some(&b""[..]));
    }
}
