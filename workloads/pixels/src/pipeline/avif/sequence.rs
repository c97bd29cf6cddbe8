//! The colour description in the first sequence header of a stream of AV1 (AV1 specification sections 5.3 and 5.5), for
//! files whose boxes do not repeat it. The decoder's interface gives it by names, and has none for reserved numbers.

/// Primaries, transfer and matrix (ITU-T H.273), and whether the range is full. What is not said is 2, unspecified.
pub(super) fn colors(stream: &[u8]) -> Option<(u16, u16, u16, bool)> {
    let mut bits = Bits { bytes: sequence_header(stream)?, at: 0 };
    let profile = bits.read(3)?;
    bits.skip(1)?;
    let reduced = bits.flag()?;
    if reduced {
        bits.skip(5)?;
    } else {
        operating_points(&mut bits)?;
    }
    let (width_bits, height_bits) = (bits.read(4)? + 1, bits.read(4)? + 1);
    bits.skip(width_bits + height_bits)?;
    if !reduced && bits.flag()? {
        bits.skip(7)?;
    }
    // Large superblocks, filter intra, intra edge filter.
    bits.skip(3)?;
    if !reduced {
        tools(&mut bits)?;
    }
    // Super-resolution, constrained directional enhancement, restoration.
    bits.skip(3)?;
    color_config(&mut bits, profile)
}

fn color_config(bits: &mut Bits<'_>, profile: u32) -> Option<(u16, u16, u16, bool)> {
    let high_depth = bits.flag()?;
    if profile == 2 && high_depth {
        bits.skip(1)?;
    }
    let monochrome = profile != 1 && bits.flag()?;
    let described = bits.flag()?;
    let mut number = || if described { bits.read(8).map(|number| number as u16) } else { Some(2) };
    let (primaries, transfer, matrix) = (number()?, number()?, number()?);
    let is_srgb = !monochrome && (primaries, transfer, matrix) == (1, 13, 0);
    Some((primaries, transfer, matrix, is_srgb || bits.flag()?))
}

fn operating_points(bits: &mut Bits<'_>) -> Option<()> {
    let mut delay_bits = None;
    if bits.flag()? {
        bits.skip(64)?;
        if bits.flag()? {
            bits.skip_variable()?;
        }
        if bits.flag()? {
            delay_bits = Some(bits.read(5)? + 1);
            bits.skip(32 + 10)?;
        }
    }
    let display_delay = bits.flag()?;
    for _ in 0..=bits.read(5)? {
        bits.skip(12)?;
        if bits.read(5)? > 7 {
            bits.skip(1)?;
        }
        if let Some(delay_bits) = delay_bits
            && bits.flag()?
        {
            bits.skip(2 * delay_bits + 1)?;
        }
        if display_delay && bits.flag()? {
            bits.skip(4)?;
        }
    }
    Some(())
}

fn tools(bits: &mut Bits<'_>) -> Option<()> {
    bits.skip(4)?;
    let order_hint = bits.flag()?;
    if order_hint {
        bits.skip(2)?;
    }
    let chosen_by_frame = bits.flag()?;
    let screen_content = chosen_by_frame || bits.flag()?;
    if screen_content && !bits.flag()? {
        bits.skip(1)?;
    }
    if order_hint {
        bits.skip(3)?;
    }
    Some(())
}

/// The payload of the first unit that is a sequence header.
fn sequence_header(mut stream: &[u8]) -> Option<&[u8]> {
    const SEQUENCE_HEADER: u8 = 1;
    loop {
        let (&head, rest) = stream.split_first()?;
        let has_extension = head & 4 != 0;
        let mut rest = rest.get(usize::from(has_extension)..)?;
        let mut len = rest.len();
        if head & 2 != 0 {
            len = 0;
            for at in 0.. {
                let (&byte, behind) = rest.split_first()?;
                rest = behind;
                len |= usize::from(byte & 0x7F) << (7 * at);
                if byte & 0x80 == 0 {
                    break;
                }
                // Five bytes hold 32 bits, which is all that the format allows.
                if at == 4 {
                    return None;
                }
            }
        }
        let (payload, behind) = rest.split_at_checked(len)?;
        if head >> 3 & 15 == SEQUENCE_HEADER {
            return Some(payload);
        }
        stream = behind;
    }
}

struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn flag(&mut self) -> Option<bool> {
        let byte = self.bytes.get(self.at / 8)?;
        let bit = byte >> (7 - self.at % 8) & 1;
        self.at += 1;
        Some(bit == 1)
    }

    /// A number of at most 32 bits.
    fn read(&mut self, count: u32) -> Option<u32> {
        (0..count).try_fold(0u32, |number, _| Some(number << 1 | u32::from(self.flag()?)))
    }

    fn skip(&mut self, count: u32) -> Option<()> {
        self.at += count as usize;
        (self.at <= self.bytes.len() * 8).then_some(())
    }

    /// A number of variable length (section 4.10.3): as many bits as zeros stand before it.
    fn skip_variable(&mut self) -> Option<()> {
        let mut zeros = 0;
        while !self.flag()? {
            zeros += 1;
        }
        self.skip(if zeros < 32 { zeros } else { 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(bits: &[(u32, u32)]) -> Vec<u8> {
        let flat: Vec<u8> =
            bits.iter().flat_map(|&(value, count)| (0..count).rev().map(move |at| (value >> at & 1) as u8)).collect();
        flat.chunks(8).map(|byte| byte.iter().enumerate().fold(0, |sum, (at, bit)| sum | bit << (7 - at))).collect()
    }

    fn stream(header: &[u8]) -> Vec<u8> {
        // A temporal delimiter goes first.
        [&[0x12, 0, 0x0A, header.len() as u8][..], header, &[0x32, 1, 0]].concat()
    }

    #[test]
    fn a_still_picture() {
        // Profile 0, still, reduced, level, sizes of 4 bits each, tools, then colours: 8 bits, described, limited.
        let start = [(0, 3), (1, 1), (1, 1), (8, 5), (3, 4), (3, 4), (9, 4), (9, 4), (0, 3), (0, 3)];
        let described = [(0, 1), (0, 1), (1, 1), (9, 8), (16, 8), (9, 8), (0, 1), (0, 8)];
        assert_eq!(colors(&stream(&packed(&[&start[..], &described].concat()))), Some((9, 16, 9, false)));
        let plain = [(0, 1), (0, 1), (0, 1), (1, 1), (0, 8)];
        assert_eq!(colors(&stream(&packed(&[&start[..], &plain].concat()))), Some((2, 2, 2, true)));
        let srgb = [(0, 1), (0, 1), (1, 1), (1, 8), (13, 8), (0, 8), (0, 9)];
        assert_eq!(colors(&stream(&packed(&[&start[..], &srgb].concat()))), Some((1, 13, 0, true)));
    }

    #[test]
    fn a_full_header_with_everything_in_it() {
        let start = [
            &[(1, 3), (0, 1), (0, 1)][..],
            // Timing with a variable number of three zeros, decoder model with delays of 4 bits.
            &[(1, 1), (7, 32), (7, 32), (1, 1), (13, 7), (1, 1), (3, 5), (1, 32), (1, 10)],
            // Display delay; two operating points, of which the first has all.
            &[(1, 1), (1, 5), (0, 12), (9, 5), (1, 1), (1, 1), (5, 9), (1, 1), (2, 4), (0, 12), (3, 5), (0, 1), (0, 1)],
            // Sizes of 8 bits, frame ids, tools, order hints, screen content forced, integer vectors forced.
            &[
                (7, 4),
                (7, 4),
                (1, 8),
                (1, 8),
                (1, 1),
                (0, 7),
                (0, 3),
                (0, 4),
                (1, 1),
                (0, 2),
                (0, 1),
                (1, 1),
                (0, 1),
                (1, 1),
            ],
            &[(4, 3), (0, 3)],
        ]
        .concat();
        let described = [(1, 1), (1, 1), (12, 8), (13, 8), (6, 8), (1, 1), (0, 8)];
        assert_eq!(colors(&stream(&packed(&[&start[..], &described].concat()))), Some((12, 13, 6, true)));
    }

    #[test]
    fn what_is_cut_off_says_nothing() {
        assert_eq!(colors(&[]), None);
        assert_eq!(colors(&[0x0A, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]), None);
        assert_eq!(colors(&stream(&[0x18])), None);
        for byte in 0..=255 {
            for len in 0..40 {
                let _ = colors(&stream(&vec![byte; len]));
            }
        }
    }
}
