//! Masking (RFC 6455 section 5.3): XOR with four bytes repeated. Written so that the compiler turns the wide loop into
//! vector instructions; nothing here branches on content.

/// Bytes per step of the wide loop: two 16-byte vectors on the x86-64 baseline, one where wider ones are enabled.
const WIDE: usize = 32;

/// Masks or unmasks `bytes` in place, `mask` being aligned with the first of them.
#[inline]
pub fn apply_mask(bytes: &mut [u8], mask: [u8; 4]) {
    let _ = unmask(bytes, mask);
}

/// Unmasks in place and says whether all resulting bytes are ASCII, so that most text needs no second pass.
#[inline]
pub(super) fn unmask(bytes: &mut [u8], mask: [u8; 4]) -> bool {
    let mask = u32::from_ne_bytes(mask);
    let mask_wide = u64::from(mask) << 32 | u64::from(mask);
    let mut seen = 0u64;

    let (wide, rest) = bytes.as_chunks_mut::<WIDE>();
    if !wide.is_empty() {
        seen |= unmask_wide(wide, mask_wide);
    }
    let (words, rest) = rest.as_chunks_mut::<8>();
    for word in words {
        let value = u64::from_ne_bytes(*word) ^ mask_wide;
        seen |= value;
        *word = value.to_ne_bytes();
    }
    // At most seven bytes are left, and they start at a multiple of eight: the mask is aligned with them.
    for (byte, key) in rest.iter_mut().zip(mask_wide.to_ne_bytes()) {
        *byte ^= key;
        seen |= u64::from(*byte);
    }
    seen & 0x8080_8080_8080_8080 == 0
}

/// The wide loop, out of line so that the path of small messages stays small.
#[inline(never)]
fn unmask_wide(chunks: &mut [[u8; WIDE]], mask_wide: u64) -> u64 {
    let mut mask = [0u8; WIDE];
    for word in mask.as_chunks_mut::<8>().0 {
        *word = mask_wide.to_ne_bytes();
    }
    let mut seen = [0u8; WIDE];
    for chunk in chunks {
        for index in 0..WIDE {
            let value = chunk[index] ^ mask[index];
            chunk[index] = value;
            seen[index] |= value;
        }
    }
    seen.as_chunks::<8>().0.iter().fold(0, |all, word| all | u64::from_ne_bytes(*word))
}

/// The mask aligned with the byte that comes `offset` bytes after the first.
#[inline]
pub(super) fn rotated(mask: [u8; 4], offset: usize) -> [u8; 4] {
    let at = offset % 4;
    [mask[at], mask[(at + 1) % 4], mask[(at + 2) % 4], mask[(at + 3) % 4]]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn naive(bytes: &[u8], mask: [u8; 4]) -> Vec<u8> {
        bytes.iter().enumerate().map(|(index, byte)| byte ^ mask[index % 4]).collect()
    }

    #[test]
    fn equals_the_definition_at_every_length_and_alignment() {
        let mask = [0x37, 0xfa, 0x21, 0x3d];
        let source: Vec<u8> = (0..400u32).map(|index| (index * 37 % 251) as u8).collect();
        for len in 0..300 {
            for start in 0..9 {
                let mut bytes = source[start..start + len].to_vec();
                let expected = naive(&bytes, mask);
                assert_eq!(unmask(&mut bytes, mask), expected.is_ascii(), "length {len}");
                assert_eq!(bytes, expected, "length {len}");
            }
        }
    }

    #[test]
    fn one_high_bit_anywhere_is_seen() {
        let mask = [1, 2, 3, 4];
        for len in 1..100 {
            for at in 0..len {
                let mut plain = vec![b'x'; len];
                plain[at] = 0x80;
                let mut bytes = naive(&plain, mask);
                assert!(!unmask(&mut bytes, mask));
                let mut bytes = naive(&vec![b'x'; len], mask);
                assert!(unmask(&mut bytes, mask));
            }
        }
    }

    #[test]
    fn rotation_carries_the_mask_across_buffers() {
        let mask = [5, 6, 7, 8];
        let source: Vec<u8> = (0..50).collect();
        for split in 0..50 {
            let mut bytes = source.clone();
            let (head, tail) = bytes.split_at_mut(split);
            apply_mask(head, mask);
            apply_mask(tail, rotated(mask, split));
            assert_eq!(bytes, naive(&source, mask));
        }
    }
}
