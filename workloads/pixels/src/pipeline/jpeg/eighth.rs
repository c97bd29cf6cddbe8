//! A baseline JPEG at an eighth of its size, without the coefficients that nobody looks at (ITU-T T.81 annex F).
//!
//! At 1/8 a block of luma is one sample: its mean, which is its DC coefficient. All others are in the way, and reading them
//! is nine tenths of a thumbnail's time. They cannot be jumped over, since only decoding tells where each ends; but what
//! they say need not be known. So a table that is looked at with the next twelve bits tells how many bits and coefficients
//! all the codes in there take together, mostly two or three of them:
//!
//! ```text
//!   next 12 bits    1 1 0 0 1 0 1 1 0 1 0 . ─► 11 bits, 3 coefficients, no end of block
//!                   └code─┘ v └code─┘ v└EOB
//! ```
//!
//! The samples are those of libjpeg-turbo to the bit, and it is asked whenever anything is unusual: this reads flawless
//! files only. Colour with half the resolution is two by two samples per block, for which its coefficients are needed.

mod bits;
mod huffman;

use super::segments;
use crate::pipeline::picture::Planes;
use crate::pipeline::pixels::{Layout, Pixels, Pool};

use bits::Bits;
use huffman::{Huffman, LOOK};

const SIDE: usize = 8;
const COEFFICIENTS: usize = SIDE * SIDE;

/// Where the coefficients of a block are, in the order in which they come (T.81 figure A.6).
#[rustfmt::skip]
const ZIGZAG: [u8; COEFFICIENTS] = [
     0,  1,  8, 16,  9,  2,  3, 10, 17, 24, 32, 25, 18, 11,  4,  5,
    12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13,  6,  7, 14, 21, 28,
    35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51,
    58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
];

/// The picture at 1/8, or nothing where the file is not the plain kind that is read here.
pub(super) fn decode(input: &[u8], pool: &mut Pool) -> Option<Pixels> {
    let (frame, scan) = Frame::read(input)?;
    let (width, height) = (frame.width.div_ceil(SIDE), frame.height.div_ceil(SIDE));
    let mut planes = Planes::take(width as u32, height as u32, (1, 1), pool);
    let read = frame.samples(scan, &mut planes);
    let pixels = read.map(|()| match frame.components.len() {
        1 => {
            let samples = pool.take(width * height);
            let mut gray = Pixels { width: width as u32, height: height as u32, layout: Layout::Gray, samples };
            gray.samples.copy_from_slice(planes.plane(0));
            gray
        }
        _ => planes.to_rgb(pool),
    });
    pool.give(planes.samples);
    pixels
}

/// What stands before the entropy-coded data.
struct Frame {
    width: usize,
    height: usize,
    components: Vec<Component>,
    /// Units of blocks between restart markers; 0 without.
    restart_interval: usize,
}

struct Component {
    id: u8,
    /// Blocks of a unit, along and down.
    blocks: (usize, usize),
    quantization: Box<[u16; COEFFICIENTS]>,
    dc: Huffman,
    ac: Huffman,
}

impl Frame {
    /// The frame, and the data of its only scan with what follows.
    fn read(input: &[u8]) -> Option<(Frame, &[u8])> {
        let mut quantizations: [Option<Box<[u16; COEFFICIENTS]>>; 4] = [const { None }; 4];
        let mut huffmans: [[Option<&[u8]>; 4]; 2] = [[None; 4]; 2];
        let (mut size, mut restart_interval) = (None, 0);
        for (marker, body) in segments(input) {
            match marker {
                // DQT, section B.2.4.1.
                0xDB => read_quantizations(body, &mut quantizations)?,
                // DHT, section B.2.4.2.
                0xC4 => read_huffmans(body, &mut huffmans)?,
                // SOF0 and SOF1: sequential, Huffman.
                0xC0 | 0xC1 if size.is_none() => size = Some(body),
                0xC0..=0xCF => return None,
                // DRI, section B.2.4.4.
                0xDD => restart_interval = usize::from(be16(body)?),
                // SOS: its header, then the data.
                0xDA => {
                    let frame = Frame::of(size?, body, restart_interval, &quantizations, &huffmans)?;
                    return Some((frame, body.get(4 + 2 * usize::from(*body.first()?)..)?));
                }
                _ => {}
            }
        }
        None
    }

    fn of(
        size: &[u8],
        scan: &[u8],
        restart_interval: usize,
        quantizations: &[Option<Box<[u16; COEFFICIENTS]>>; 4],
        huffmans: &[[Option<&[u8]>; 4]; 2],
    ) -> Option<Frame> {
        let &[8, h1, h0, w1, w0, count, ref described @ ..] = size else { return None };
        let (width, height) = (u16::from_be_bytes([w1, w0]), u16::from_be_bytes([h1, h0]));
        let count = usize::from(count);
        // All components in one scan, whole and without refinement (section B.2.3).
        let (spectrum, chosen) = (scan.get(1 + 2 * count..4 + 2 * count)?, scan.get(1..1 + 2 * count)?);
        if usize::from(scan[0]) != count || spectrum != [0, 63, 0] || width == 0 || height == 0 {
            return None;
        }
        let mut components = Vec::new();
        for (component, chosen) in described.chunks_exact(3).zip(chosen.chunks_exact(2)) {
            let (id, tables) = (component[0], chosen[1]);
            if chosen[0] != id {
                return None;
            }
            let table = |class: usize, number: u8| huffmans[class].get(usize::from(number)).copied().flatten();
            components.push(Component {
                id,
                blocks: (usize::from(component[1] >> 4), usize::from(component[1] & 15)),
                quantization: quantizations.get(usize::from(component[2]))?.clone()?,
                dc: Huffman::read(table(0, tables >> 4)?)?,
                ac: Huffman::read(table(1, tables & 15)?)?,
            });
        }
        match &mut components[..] {
            // Alone it is not interleaved: a unit is a block, whatever its factors (section A.2.2).
            [gray] => gray.blocks = (1, 1),
            [luma, blue, red] => {
                let is_usual = matches!(luma.blocks, (1, 1) | (2, 1) | (2, 2));
                let are_told_apart = luma.id != blue.id && blue.id != red.id && luma.id != red.id;
                if !is_usual || !are_told_apart || blue.blocks != (1, 1) || red.blocks != (1, 1) {
                    return None;
                }
            }
            _ => return None,
        }
        (components.len() == count).then_some(Frame {
            width: width.into(),
            height: height.into(),
            components,
            restart_interval,
        })
    }

    /// Reads the scan; `None` where it is not flawless.
    fn samples(&self, scan: &[u8], planes: &mut Planes) -> Option<()> {
        let (width, height) = (planes.width as usize, planes.height as usize);
        let along = self.components[0].blocks;
        let each = planes.samples.chunks_exact_mut(width * height);
        let mut parts: Vec<(&Component, Plane<'_>, i32)> = self
            .components
            .iter()
            .zip(each)
            .map(|(component, samples)| {
                let cover = (along.0 / component.blocks.0, along.1 / component.blocks.1);
                (component, Plane { width, height, cover, samples }, 0)
            })
            .collect();
        let units = (self.width.div_ceil(SIDE * along.0), self.height.div_ceil(SIDE * along.1));
        let mut bits = Bits::new(scan);
        let mut until_restart = self.restart_interval;
        let mut restarts = 0_u8;
        for row in 0..units.1 {
            if bits.is_over {
                return None;
            }
            for column in 0..units.0 {
                if self.restart_interval > 0 {
                    if until_restart == 0 {
                        bits.restart(restarts % 8)?;
                        (restarts, until_restart) = (restarts.wrapping_add(1), self.restart_interval);
                        parts.iter_mut().for_each(|(_, _, mean)| *mean = 0);
                    }
                    until_restart -= 1;
                }
                for (component, plane, mean) in &mut parts {
                    let (cover, blocks) = (plane.cover, component.blocks);
                    for y in row * blocks.1..(row + 1) * blocks.1 {
                        for x in column * blocks.0..(column + 1) * blocks.0 {
                            let samples = component.block(&mut bits, mean, cover == (2, 2))?;
                            plane.put((x * cover.0, y * cover.1), samples);
                        }
                    }
                }
            }
        }
        bits.ends()
    }
}

impl Component {
    /// Reads a block: one sample four times, or two by two.
    #[inline]
    fn block(&self, bits: &mut Bits<'_>, mean: &mut i32, is_fine: bool) -> Option<[u8; 4]> {
        let mut cursor = bits.refilled(bits.cursor);
        let size = self.dc.symbol(&mut cursor)?;
        if size > 15 {
            return None;
        }
        *mean = mean.wrapping_add(cursor.value(size.into()));
        if !is_fine {
            bits.cursor = self.ac.skip(bits, cursor)?;
            return Some([sample((i64::from(*mean as i16) * i64::from(self.quantization[0]) + 4) >> 3)?; 4]);
        }
        let mut block = [0; COEFFICIENTS];
        block[0] = *mean as i16;
        let mut at = 1;
        while at < COEFFICIENTS {
            cursor = bits.refilled(cursor);
            let step = self.ac.steps[cursor.peek(LOOK)];
            if step != 0 {
                cursor.consume((step & 15) as u32);
                at += usize::from((step >> 4 & 15) as u8);
                block[usize::from(*ZIGZAG.get(at)?)] = step >> 8;
                at += 1;
                continue;
            }
            let symbol = self.ac.symbol(&mut cursor)?;
            let (run, size) = (usize::from(symbol >> 4), u32::from(symbol & 15));
            match (run, size) {
                (15, 0) => at += 16,
                (_, 0) => break,
                _ => {
                    at += run;
                    // Beyond the block: not flawless.
                    block[usize::from(*ZIGZAG.get(at)?)] = cursor.value(size) as i16;
                    at += 1;
                }
            }
        }
        bits.cursor = cursor;
        self.fine(&block)
    }

    /// The inverse transform to two by two samples, as libjpeg has it: the means of the quarters of the full one, as far as
    /// coefficients of odd order make them (even ones cancel out).
    fn fine(&self, block: &[i16; COEFFICIENTS]) -> Option<[u8; 4]> {
        const PLACES: u32 = 13;
        const KEPT: u32 = 2;
        // cos-weighted sums over half a block, times sqrt(2) and 2^13.
        const WEIGHTS: [(usize, i64); 4] = [(1, 29_692), (3, -10_426), (5, 6_967), (7, -5_906)];
        let rounded = |value: i64, places: u32| (value + (1 << (places - 1))) >> places;
        let mut halves = [[0_i64; SIDE]; 2];
        for column in [0, 1, 3, 5, 7] {
            let coefficient = |row: usize| {
                let at = row * SIDE + column;
                i64::from(block[at]) * i64::from(self.quantization[at])
            };
            let odd: i64 = WEIGHTS.iter().map(|&(row, weight)| coefficient(row) * weight).sum();
            let even = coefficient(0) << (PLACES + 2);
            halves[0][column] = rounded(even + odd, PLACES - KEPT + 2);
            halves[1][column] = rounded(even - odd, PLACES - KEPT + 2);
        }
        let mut samples = [0; 4];
        for (half, pair) in halves.iter().zip(samples.chunks_exact_mut(2)) {
            let odd: i64 = WEIGHTS.iter().map(|&(column, weight)| half[column] * weight).sum();
            let even = half[0] << (PLACES + 2);
            pair[0] = sample(rounded(even + odd, PLACES + KEPT + 3 + 2))?;
            pair[1] = sample(rounded(even - odd, PLACES + KEPT + 3 + 2))?;
        }
        Some(samples)
    }
}

/// From what is centred on zero. Four times beyond the range there is no picture any more: decoders wrap around there, each
/// in its own way.
#[inline]
fn sample(value: i64) -> Option<u8> {
    (-512..512).contains(&value).then(|| (value + 128).clamp(0, 255) as u8)
}

/// A plane of so many samples along and down.
struct Plane<'a> {
    width: usize,
    height: usize,
    /// What a block covers, along and down.
    cover: (usize, usize),
    samples: &'a mut [u8],
}

impl Plane<'_> {
    /// Writes a block's samples, as far as they are part of the picture.
    #[inline]
    fn put(&mut self, (x, y): (usize, usize), samples: [u8; 4]) {
        for down in 0..self.cover.1 {
            for along in 0..self.cover.0 {
                if x + along < self.width && y + down < self.height {
                    self.samples[(y + down) * self.width + x + along] = samples[2 * down + along];
                }
            }
        }
    }
}

fn be16(body: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes([*body.first()?, *body.get(1)?]))
}

fn read_quantizations(mut body: &[u8], tables: &mut [Option<Box<[u16; COEFFICIENTS]>>; 4]) -> Option<()> {
    while let Some((&kind, rest)) = body.split_first() {
        let width = match kind >> 4 {
            0 => 1,
            1 => 2,
            _ => return None,
        };
        let (values, next) = rest.split_at_checked(width * COEFFICIENTS)?;
        let mut table = Box::new([0; COEFFICIENTS]);
        for (value, &at) in values.chunks_exact(width).zip(&ZIGZAG) {
            table[usize::from(at)] = value.iter().fold(0, |sum, &byte| sum << 8 | u16::from(byte));
        }
        *tables.get_mut(usize::from(kind & 15))? = Some(table);
        body = next;
    }
    Some(())
}

fn read_huffmans<'a>(mut body: &'a [u8], tables: &mut [[Option<&'a [u8]>; 4]; 2]) -> Option<()> {
    while let Some((&kind, rest)) = body.split_first() {
        let symbols: usize = rest.get(..16)?.iter().map(|&count| usize::from(count)).sum();
        let (table, next) = rest.split_at_checked(16 + symbols)?;
        *tables.get_mut(usize::from(kind >> 4))?.get_mut(usize::from(kind & 15))? = Some(table);
        body = next;
    }
    Some(())
}

#[cfg(test)]
mod tests;
