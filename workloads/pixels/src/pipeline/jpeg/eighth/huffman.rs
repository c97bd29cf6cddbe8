//! The codes of a JPEG, by the bits that come next (T.81 annexes C and F.2): one, one with its value, or as many as there
//! are.

use super::COEFFICIENTS;
use super::bits::{Bits, Cursor};

/// Bits looked at at once. A table of so many entries of two bytes stays in the first cache beside the others.
pub(super) const LOOK: u32 = 12;

/// A code, by the next bits.
pub(super) struct Huffman {
    /// Length and symbol of the code that the bits begin with; length 0: it is longer than [`LOOK`].
    codes: Box<[(u8, u8); 1 << LOOK]>,
    /// How far all codes within the bits lead. Bits 0 to 4: how many bits with their values, 0 where not one code ends
    /// there; bit 5: the block ends; from bit 6: coefficients.
    leaps: Box<[u16; 1 << LOOK]>,
    /// The first code with its value, where both are within the bits and the value fits. Bits 0 to 3: how many bits, or all
    /// is 0; bits 4 to 7: zeros before it; from bit 8: the value.
    pub(super) steps: Box<[i16; 1 << LOOK]>,
    /// By length: the code behind the last one, its bits from the left in 16; and what to add for its symbol's place.
    ends: [(u32, i32); 17],
    symbols: Vec<u8>,
}

const ENDS: u16 = 1 << 5;

impl Huffman {
    /// From how many codes there are of each length, and their symbols (T.81 annex C).
    pub(super) fn read(table: &[u8]) -> Option<Huffman> {
        let (counts, symbols) = table.split_at_checked(16)?;
        let mut codes = Box::new([(0, 0); 1 << LOOK]);
        let mut ends = [(0, 0); 17];
        let (mut code, mut place) = (0_u32, 0_usize);
        for (length, &count) in (1_u32..).zip(counts) {
            let count = usize::from(count);
            ends[length as usize] = (0, place as i32 - code as i32);
            for &symbol in symbols.get(place..place + count)? {
                if length <= LOOK {
                    let first = (code << (LOOK - length)) as usize;
                    let last = first + (1 << (LOOK - length));
                    codes.get_mut(first..last)?.fill((length as u8, symbol));
                }
                code += 1;
            }
            place += count;
            // More codes than the length has room for.
            if code > 1 << length {
                return None;
            }
            ends[length as usize].0 = code << (16 - length);
            code <<= 1;
        }
        let (leaps, steps) = (leaps(&codes), steps(&codes));
        Some(Huffman { codes, leaps, steps, ends, symbols: symbols.to_vec() })
    }

    /// The next symbol; `None` where the bits are no code.
    #[inline]
    pub(super) fn symbol(&self, cursor: &mut Cursor) -> Option<u8> {
        let (length, symbol) = match self.codes[cursor.peek(LOOK)] {
            (0, _) => self.long_symbol(cursor.peek(16) as u32)?,
            code => code,
        };
        cursor.consume(length.into());
        Some(symbol)
    }

    #[cold]
    #[inline(never)]
    fn long_symbol(&self, next: u32) -> Option<(u8, u8)> {
        let length = (LOOK + 1..=16).find(|&length| next < self.ends[length as usize].0)?;
        let place = (next >> (16 - length)) as i32 + self.ends[length as usize].1;
        let symbol = self.symbols.get(usize::try_from(place).ok()?)?;
        Some((length as u8, *symbol))
    }

    /// Passes over a block's coefficients but the first.
    #[inline]
    pub(super) fn skip(&self, bits: &mut Bits<'_>, mut cursor: Cursor) -> Option<Cursor> {
        let mut at = 1;
        while at < COEFFICIENTS {
            cursor = bits.refilled(cursor);
            // The bits are enough for two leaps of 27, or for a symbol with its value.
            let leap = self.leaps[cursor.peek(LOOK)];
            let next = at + usize::from(leap >> 6);
            // A leap that would reach the block's end may hold the next block's beginning: there, step by step.
            if leap & 31 > 0 && next < COEFFICIENTS {
                cursor.consume(u32::from(leap & 31));
                if leap & ENDS > 0 {
                    return Some(cursor);
                }
                at = next;
                let leap = self.leaps[cursor.peek(LOOK)];
                let next = at + usize::from(leap >> 6);
                if leap & 31 > 0 && next < COEFFICIENTS {
                    cursor.consume(u32::from(leap & 31));
                    if leap & ENDS > 0 {
                        return Some(cursor);
                    }
                    at = next;
                }
                continue;
            }
            let symbol = self.symbol(&mut cursor)?;
            let (run, size) = (usize::from(symbol >> 4), u32::from(symbol & 15));
            match (run, size) {
                (15, 0) => at += 16,
                (_, 0) => return Some(cursor),
                _ => at += run + 1,
            }
            cursor.consume(size);
        }
        // Beyond the block: not flawless.
        (at == COEFFICIENTS).then_some(cursor)
    }
}

fn leaps(codes: &[(u8, u8); 1 << LOOK]) -> Box<[u16; 1 << LOOK]> {
    let mut leaps = Box::new([0; 1 << LOOK]);
    for (window, leap) in leaps.iter_mut().enumerate() {
        let (mut bits, mut coefficients, mut end) = (0, 0, 0);
        while bits < LOOK && end == 0 {
            // Zeros follow the window: a code counts only if all of it is within.
            let (length, symbol) = codes[window << bits & ((1 << LOOK) - 1)];
            if length == 0 || bits + u32::from(length) > LOOK {
                break;
            }
            let (run, size) = (u32::from(symbol >> 4), u32::from(symbol & 15));
            bits += u32::from(length) + size;
            match (run, size) {
                (15, 0) => coefficients += 16,
                (_, 0) => end = ENDS,
                _ => coefficients += run + 1,
            }
        }
        *leap = (coefficients as u16) << 6 | end | bits as u16;
    }
    leaps
}

fn steps(codes: &[(u8, u8); 1 << LOOK]) -> Box<[i16; 1 << LOOK]> {
    let mut steps = Box::new([0; 1 << LOOK]);
    for (window, step) in steps.iter_mut().enumerate() {
        let (length, symbol) = codes[window];
        let (run, size) = (i16::from(symbol >> 4), u32::from(symbol & 15));
        let bits = u32::from(length) + size;
        if length == 0 || size == 0 || bits > LOOK {
            continue;
        }
        let mut cursor = Cursor::of(window as u64, LOOK);
        cursor.consume(length.into());
        if let Ok(value) = i8::try_from(cursor.value(size)) {
            *step = i16::from(value) << 8 | run << 4 | bits as i16;
        }
    }
    steps
}
