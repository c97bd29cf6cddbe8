//! Sixty-four bytes at once: which of them are what, as one bit per byte.
//!
//! Bit i of every answer speaks of byte i. The vectors are those that every processor of the target has
//! (SSE2, NEON), so that nothing has to be asked for at run time; a build for newer ones gets wider vectors by itself.

use wide::u8x32;

/// Bytes that are looked at together.
pub(super) const LANES: usize = 64;

/// The lowest `count` bits, fewer than 64.
pub(super) fn below(count: usize) -> u64 {
    (1 << count) - 1
}

/// Bit i of the result: whether an odd number of the bits 0..=i are set. Of unescaped quotes this gives what is inside.
pub(super) fn parity(bits: u64) -> u64 {
    [1, 2, 4, 8, 16, 32].iter().fold(bits, |bits, by| bits ^ bits << by)
}

/// The bytes.
#[derive(Clone, Copy)]
pub(super) struct Lanes([u8x32; 2]);

impl Lanes {
    #[inline(always)]
    pub(super) fn new(bytes: &[u8; LANES]) -> Lanes {
        let (halves, _) = bytes.as_chunks::<32>();
        Lanes([u8x32::new(halves[0]), u8x32::new(halves[1])])
    }

    #[inline(always)]
    fn map(self, test: impl Fn(u8x32) -> u8x32) -> u64 {
        let [low, high] = self.0.map(|half| test(half).to_bitmask() as u64);
        low | high << 32
    }

    /// All bytes with bit 5 set: capital letters become small ones, square brackets curly ones.
    #[inline(always)]
    pub(super) fn folded(self) -> Lanes {
        Lanes(self.0.map(|half| half | u8x32::splat(0x20)))
    }

    /// Which equal `byte`.
    #[inline(always)]
    pub(super) fn equal(self, byte: u8) -> u64 {
        self.map(|half| half.simd_eq(u8x32::splat(byte)))
    }

    /// Which equal one of two bytes.
    #[inline(always)]
    pub(super) fn either(self, one: u8, other: u8) -> u64 {
        self.map(|half| half.simd_eq(u8x32::splat(one)) | half.simd_eq(u8x32::splat(other)))
    }

    /// Which are from `low` to `high`.
    #[inline(always)]
    pub(super) fn within(self, low: u8, high: u8) -> u64 {
        self.map(|half| {
            let offset = half - u8x32::splat(low);
            offset.min(u8x32::splat(high - low)).simd_eq(offset)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_in_every_place_is_told() {
        for value in 0..=255u8 {
            let mut bytes = [b'x'; LANES];
            bytes[value as usize % LANES] = value;
            let bit = |holds: fn(u8) -> bool| {
                bytes.iter().enumerate().fold(0, |mask, (at, &byte)| mask | (holds(byte) as u64) << at)
            };
            let lanes = Lanes::new(&bytes);
            assert_eq!(lanes.equal(b'"'), bit(|byte| byte == b'"'));
            assert_eq!(lanes.within(b'0', b'9'), bit(|byte| byte.is_ascii_digit()));
            assert_eq!(lanes.within(0, 0x1F), bit(|byte| byte < 0x20));
            assert_eq!(lanes.folded().equal(b'{'), bit(|byte| byte == b'{' || byte == b'['));
            assert_eq!(lanes.either(b'{', b'['), bit(|byte| byte == b'{' || byte == b'['));
        }
    }

    #[test]
    fn parity_tells_inside_from_outside() {
        assert_eq!(parity(0b0100_0101), !0 << 6 | 0b11);
        assert_eq!(parity(0), 0);
        assert_eq!(below(3), 0b111);
    }
}
