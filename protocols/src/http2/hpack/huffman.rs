//! The Huffman code of RFC 7541 appendix B.
//!
//! The code is canonical: within a length, codes ascend with their symbols, and so do the lengths. So the lengths are
//! all that has to be written down; codes and decoding tables are derived from them when this file is compiled.
//!
//! Decoding looks at the next eight bits at once. Nearly everything that occurs in fields has a code of at most eight
//! bits and is found in one small table; longer codes are found by comparing with the first code of each length.

const SYMBOLS: usize = 257;
/// The symbol that must not occur: its leading bits are the padding (section 5.2).
const END_OF_STRING: u16 = 256;
const CODE_BITS_MAX: usize = 30;
const CODE_BITS_MIN: usize = 5;

/// Length of each symbol's code in bits (RFC 7541 appendix B).
#[rustfmt::skip]
const CODE_BITS: [u8; SYMBOLS] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

struct Tables {
    /// The code of each symbol in its lowest bits.
    codes: [u32; SYMBOLS],
    /// The symbols in the order of their codes.
    symbols: [u16; SYMBOLS],
    /// For each length: the first code that is longer, moved to the top of 32 bits.
    first_longer: [u64; CODE_BITS_MAX + 1],
    /// For each length: what to add to a code to get its place in `symbols`.
    place: [i32; CODE_BITS_MAX + 1],
    /// For each eight bits: the symbol that they begin with and its length; length 0 where the code is longer.
    short: [(u8, u8); 256],
}

static TABLES: Tables = derive();

const fn derive() -> Tables {
    let mut tables = Tables {
        codes: [0; SYMBOLS],
        symbols: [0; SYMBOLS],
        first_longer: [0; CODE_BITS_MAX + 1],
        place: [0; CODE_BITS_MAX + 1],
        short: [(0, 0); 256],
    };
    let (mut code, mut placed, mut bits) = (0u32, 0, 1);
    while bits <= CODE_BITS_MAX {
        code <<= 1;
        tables.place[bits] = placed as i32 - code as i32;
        let mut symbol = 0;
        while symbol < SYMBOLS {
            if CODE_BITS[symbol] as usize == bits {
                tables.codes[symbol] = code;
                tables.symbols[placed] = symbol as u16;
                if bits <= 8 {
                    let first = (code << (8 - bits)) as usize;
                    let mut tail = 0;
                    while tail < 1 << (8 - bits) {
                        tables.short[first + tail] = (symbol as u8, bits as u8);
                        tail += 1;
                    }
                }
                code += 1;
                placed += 1;
            }
            symbol += 1;
        }
        tables.first_longer[bits] = (code as u64) << (32 - bits);
        bits += 1;
    }
    assert!(placed == SYMBOLS && code == 1 << CODE_BITS_MAX, "the code must be complete");
    tables
}

/// The text is no valid code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Invalid;

/// How many bytes `text` takes when it is encoded.
#[inline]
pub(super) fn encoded_len(text: &[u8]) -> usize {
    let bits: usize = text.iter().map(|byte| usize::from(CODE_BITS[usize::from(*byte)])).sum();
    bits.div_ceil(8)
}

/// Appends the code of `text`, padded with ones.
pub(super) fn encode(out: &mut Vec<u8>, text: &[u8]) {
    // The lowest `held` bits of `bits` wait to be written; fewer than 32 do before a symbol is added.
    let (mut bits, mut held) = (0u64, 0);
    for byte in text {
        let symbol = usize::from(*byte);
        let len = u32::from(CODE_BITS[symbol]);
        bits = bits << len | u64::from(TABLES.codes[symbol]);
        held += len;
        if held >= 32 {
            held -= 32;
            out.extend_from_slice(&((bits >> held) as u32).to_be_bytes());
        }
    }
    let padding = held.wrapping_neg() % 8;
    bits = bits << padding | ((1 << padding) - 1);
    held += padding;
    let tail = (bits << (64 - held).min(63)).to_be_bytes();
    out.extend_from_slice(&tail[..held as usize / 8]);
}

/// Appends the text that `code` stands for.
pub(super) fn decode(out: &mut Vec<u8>, code: &[u8]) -> Result<(), Invalid> {
    // The shortest code has five bits.
    out.reserve(code.len() * 8 / CODE_BITS_MIN);
    // `bits` holds the next bits at its top; below the `held` ones that count there may be more of `code`, or zeros.
    let (mut bits, mut held, mut rest) = (0u64, 0u32, code);
    loop {
        if let Some(word) = rest.first_chunk::<8>() {
            // Fills up to at least 56 bits; the bits of a byte that does not count yet are added again, equal, later.
            bits |= u64::from_be_bytes(*word) >> held;
            let taken = (63 - held) / 8;
            rest = &rest[taken as usize..];
            held += taken * 8;
        } else {
            while held <= 56
                && let Some((byte, tail)) = rest.split_first()
            {
                bits |= u64::from(*byte) << (56 - held);
                held += 8;
                rest = tail;
            }
            if rest.is_empty() && held < CODE_BITS_MAX as u32 {
                return decode_tail(out, bits, held);
            }
        }
        while held >= CODE_BITS_MAX as u32 {
            let (symbol, len) = next_symbol(bits);
            if symbol == END_OF_STRING {
                return Err(Invalid);
            }
            out.push(symbol as u8);
            bits <<= len;
            held -= len;
        }
    }
}

/// The last symbols, and the padding: fewer than eight bits, all ones (section 5.2).
fn decode_tail(out: &mut Vec<u8>, mut bits: u64, mut held: u32) -> Result<(), Invalid> {
    while held > 0 {
        let padding_if_all_ones = u64::MAX << (64 - held);
        if held < 8 && bits & padding_if_all_ones == padding_if_all_ones {
            return Ok(());
        }
        let (symbol, len) = next_symbol(bits);
        if len > held || symbol == END_OF_STRING {
            return Err(Invalid);
        }
        out.push(symbol as u8);
        bits <<= len;
        held -= len;
    }
    Ok(())
}

/// The symbol whose code is at the top of `bits`, and the code's length.
#[inline]
fn next_symbol(bits: u64) -> (u16, u32) {
    let (symbol, len) = TABLES.short[(bits >> 56) as usize];
    if len != 0 {
        return (u16::from(symbol), u32::from(len));
    }
    next_long_symbol(bits)
}

fn next_long_symbol(bits: u64) -> (u16, u32) {
    let top = bits >> 32;
    let mut len = 9;
    while len < CODE_BITS_MAX && top >= TABLES.first_longer[len] {
        len += 1;
    }
    let code = (top >> (32 - len)) as i32;
    (TABLES.symbols[(code + TABLES.place[len]) as usize], len as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(code: &[u8]) -> Result<Vec<u8>, Invalid> {
        let mut out = Vec::new();
        decode(&mut out, code).map(|()| out)
    }

    #[test]
    fn codes_of_the_appendix() {
        for (symbol, code) in [(0, 0x1ff8), (b'0', 0), (b'a', 3), (b'&', 0xf8), (b'\\', 0x7fff0), (255, 0x3ff_ffee)] {
            assert_eq!(TABLES.codes[usize::from(symbol)], code);
        }
        assert_eq!(TABLES.codes[256], 0x3fff_ffff);
    }

    #[test]
    fn examples_of_appendix_c() {
        let pairs: [(&[u8], &[u8]); 3] = [
            (b"www.example.com", b"\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff"),
            (b"no-cache", b"\xa8\xeb\x10\x64\x9c\xbf"),
            (
                b"Mon, 21 Oct 2013 20:13:21 GMT",
                b"\xd0\x7a\xbe\x94\x10\x54\xd4\x44\xa8\x20\x05\x95\x04\x0b\x81\x66\xe0\x82\xa6\x2d\x1b\xff",
            ),
        ];
        for (text, code) in pairs {
            let mut encoded = Vec::new();
            encode(&mut encoded, text);
            assert_eq!(encoded, code);
            assert_eq!(decoded(code).as_deref(), Ok(text));
        }
    }

    #[test]
    fn every_symbol_in_every_position_comes_back() {
        for symbol in 0..=255u8 {
            for before in 0..12 {
                for after in 0..12 {
                    let text = [&[b'0'; 12][..before], &[symbol, symbol], &[b'X'; 12][..after]].concat();
                    let mut code = Vec::new();
                    encode(&mut code, &text);
                    assert_eq!(code.len(), encoded_len(&text));
                    assert_eq!(decoded(&code), Ok(text));
                }
            }
        }
    }

    #[test]
    fn long_texts_come_back() {
        let text: Vec<u8> = (0..4000u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        for len in [0, 1, 7, 8, 9, 100, 4000] {
            let mut code = Vec::new();
            encode(&mut code, &text[..len]);
            assert_eq!(decoded(&code).as_deref(), Ok(&text[..len]));
        }
    }

    #[test]
    fn bad_padding_and_end_of_string() {
        // '0' is five zero bits.
        assert_eq!(decoded(&[0b0000_0111]), Ok(b"0".to_vec()));
        assert_eq!(decoded(&[0b0000_0110]), Err(Invalid));
        assert_eq!(decoded(&[0b0000_0111, 0xff]), Err(Invalid), "eleven bits of padding");
        assert_eq!(decoded(&[0xff]), Err(Invalid), "eight bits of padding");
        assert_eq!(decoded(&[0xff, 0xff, 0xff, 0xff]), Err(Invalid), "end of string");
        let long = [&[0b0000_0111][..], &[0xff; 20]].concat();
        assert_eq!(decoded(&long), Err(Invalid), "end of string early");
    }
}
