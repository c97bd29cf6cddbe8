//! Integers with a prefix (RFC 7541 section 5.1).

/// Longest continuation in bytes. Beyond: refused; nothing that we accept is so large.
const CONTINUATION_MAX: u32 = 4;

/// Appends `value` with `first`'s upper bits before a prefix of `prefix` bits.
pub fn write(out: &mut Vec<u8>, first: u8, prefix: u32, value: usize) {
    let most = (1usize << prefix) - 1;
    if value < most {
        return out.push(first | value as u8);
    }
    out.push(first | most as u8);
    let mut rest = value - most;
    while rest >= 128 {
        out.push(rest as u8 | 128);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Takes an integer from the front of `bytes`; `None` if it is cut short or too large.
pub fn read(bytes: &mut &[u8], prefix: u32) -> Option<usize> {
    let (&first, mut rest) = bytes.split_first()?;
    let most = (1usize << prefix) - 1;
    let mut value = first as usize & most;
    if value == most {
        let mut shift = 0;
        loop {
            let (&byte, after) = rest.split_first()?;
            rest = after;
            value += (byte as usize & 127) << shift;
            if byte & 128 == 0 {
                break;
            }
            shift += 7;
            if shift == 7 * CONTINUATION_MAX {
                return None;
            }
        }
    }
    *bytes = rest;
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_of_appendix_c_and_edges() {
        for (prefix, value, bytes) in
            [(5, 10, &[10u8][..]), (5, 1337, &[31, 154, 10]), (8, 42, &[42]), (7, 127, &[127, 0]), (1, 1, &[1, 0])]
        {
            let mut out = Vec::new();
            write(&mut out, 0, prefix, value);
            assert_eq!(out, bytes);
            assert_eq!(read(&mut &out[..], prefix), Some(value));
            for cut in 0..out.len() {
                assert_eq!(read(&mut &out[..cut], prefix), None);
            }
        }
        assert_eq!(read(&mut &[31, 255, 255, 255, 255, 255, 15][..], 5), None);
        assert_eq!(read(&mut &[31, 128, 128, 128, 0][..], 5), Some(31));
    }
}
