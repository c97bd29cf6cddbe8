//! Small inputs that say they are large: compressed texts, images, and messages.

use ring::digest;

/// One stored block of DEFLATE at most (RFC 1951 section 3.2.4); here only the last bits of a stream matter.
const RUN: usize = 258;

/// Bits, least significant first (RFC 1951 section 3.1.1).
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    held: u32,
    count: u32,
}

impl Bits {
    fn push(&mut self, value: u32, count: u32) {
        self.held |= value << self.count;
        self.count += count;
        while self.count >= 8 {
            self.bytes.push(self.held as u8);
            self.held >>= 8;
            self.count -= 8;
        }
    }

    fn end(mut self) -> Vec<u8> {
        if self.count > 0 {
            self.bytes.push(self.held as u8);
        }
        self.bytes
    }
}

/// DEFLATE of `size` bytes of one letter, in one block of fixed codes, a thousandth of the size and less. With `last`, the block
/// is the stream's last one; without it, an empty one follows.
pub fn deflate(letter: u8, size: usize, last: bool) -> Vec<u8> {
    let mut bits = Bits::default();
    bits.push(u32::from(last) | 0b01 << 1, 3);
    // Codes are written from their most significant bit (RFC 1951 section 3.1.1): a literal of 8 bits.
    let code = 0x30 + u32::from(letter);
    bits.push(code.reverse_bits() >> 24, 8);
    let mut left = size.saturating_sub(1);
    while left >= RUN {
        // Length 258 is symbol 285, code 11000101; distance 1 is symbol 0 of five bits.
        bits.push(0b1100_0101u32.reverse_bits() >> 24, 8);
        bits.push(0, 5);
        left -= RUN;
    }
    for _ in 0..left {
        bits.push(code.reverse_bits() >> 24, 8);
    }
    // End of block: symbol 256, seven zeros.
    bits.push(0, 7);
    if !last {
        // The head of an empty stored block, behind whose length both sides go on (RFC 7692 section 7.2.1).
        bits.push(0, 3);
    }
    bits.end()
}

/// A gzip file of `size` letters (RFC 1952). Its checksum is wrong: who looks at it has inflated everything already.
pub fn gzip(size: usize) -> Vec<u8> {
    let mut bytes = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    bytes.extend(deflate(b' ', size, true));
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&(size as u32).to_le_bytes());
    bytes
}

/// A PNG that says it is so large, with hardly any data.
pub fn png(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
    let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[8, 2, 0, 0, 0]].concat();
    chunk(&mut bytes, *b"IHDR", &header);
    let mut data = vec![0x78, 0x9c];
    data.extend(deflate(0, 1 << 20, true));
    chunk(&mut bytes, *b"IDAT", &data);
    chunk(&mut bytes, *b"IEND", b"");
    bytes
}

/// A PNG whose colour profile is `size` bytes when it is inflated.
pub fn png_with_profile(size: usize) -> Vec<u8> {
    let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
    chunk(&mut bytes, *b"IHDR", &[0, 0, 0, 16, 0, 0, 0, 16, 8, 2, 0, 0, 0]);
    let mut profile = b"icc\0\0\x78\x9c".to_vec();
    profile.extend(deflate(0, size, true));
    chunk(&mut bytes, *b"iCCP", &profile);
    let mut data = vec![0x78, 0x9c];
    data.extend(deflate(0, 16 * (1 + 3 * 16), true));
    chunk(&mut bytes, *b"IDAT", &data);
    chunk(&mut bytes, *b"IEND", b"");
    bytes
}

/// A GIF of so many frames without pixels.
pub fn gif(frames: usize) -> Vec<u8> {
    let mut bytes = b"GIF89a\x10\x00\x10\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff".to_vec();
    for _ in 0..frames {
        bytes.extend_from_slice(b"\x21\xf9\x04\x00\x01\x00\x00\x00\x2c\0\0\0\0\x01\0\x01\0\x00\x02\x02\x44\x01\x00");
    }
    bytes.push(0x3b);
    bytes
}

fn chunk(out: &mut Vec<u8>, kind: [u8; 4], data: &[u8]) {
    out.extend_from_slice(&(data.len() as u32).to_be_bytes());
    let start = out.len();
    out.extend_from_slice(&kind);
    out.extend_from_slice(data);
    let crc = crc(&out[start..]);
    out.extend_from_slice(&crc.to_be_bytes());
}

/// The checksum of PNG's chunks (ISO 3309).
fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
    })
}

/// A WebSocket's message of `size` letters, compressed (RFC 7692 section 7.2.1), without its frame.
pub fn message(size: usize) -> Vec<u8> {
    deflate(b' ', size, false)
}

/// Something that looks random and is the same in every run.
pub fn noise(size: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(size + 32);
    let mut number = 0u64;
    while bytes.len() < size {
        bytes.extend_from_slice(digest::digest(&digest::SHA256, &number.to_be_bytes()).as_ref());
        number += 1;
    }
    bytes.truncate(size);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_is_the_one_that_png_wants() {
        // The chunk that ends every PNG.
        assert_eq!(crc(b"IEND"), 0xae42_6082);
    }

    #[test]
    fn bombs_are_small_and_an_ordinary_decoder_reads_them() {
        let bytes = png_with_profile(64 << 20);
        assert!(bytes.len() < 512 << 10, "{}", bytes.len());
        let mut reader = png::Decoder::new(std::io::Cursor::new(png(64, 64))).read_info().unwrap();
        let mut pixels = vec![1; 64 * 64 * 3];
        reader.next_frame(&mut pixels).unwrap();
        assert!(pixels.iter().all(|byte| *byte == 0));
        assert!(gzip(64 << 20).len() < 512 << 10);
        // What inflates is to be refused, and not the frame.
        assert!(message(8 << 20).len() < 60 << 10);
        assert_eq!(noise(100), noise(200)[..100]);
    }

    #[test]
    fn a_message_goes_on_behind_its_empty_block() {
        // As its receiver does: the length of the empty block, and here a last one besides.
        let mut data = vec![0x78, 0x9c];
        data.extend(deflate(0, 16 * (1 + 3 * 16), false));
        data.extend_from_slice(&[0, 0, 0xff, 0xff, 1, 0, 0, 0xff, 0xff]);
        let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
        chunk(&mut bytes, *b"IHDR", &[0, 0, 0, 16, 0, 0, 0, 16, 8, 2, 0, 0, 0]);
        chunk(&mut bytes, *b"IDAT", &data);
        chunk(&mut bytes, *b"IEND", b"");
        let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().unwrap();
        let mut pixels = vec![1; 16 * 16 * 3];
        reader.next_frame(&mut pixels).unwrap();
        assert!(pixels.iter().all(|byte| *byte == 0));
    }
}
