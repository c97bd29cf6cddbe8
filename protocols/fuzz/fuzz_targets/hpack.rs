//! Any bytes as field blocks: no panic, memory within bounds, and a decoder that refuses long lists stays in step with one that
//! takes them. And what our encoder writes is decoded to what it was given, block after block, whatever sizes the table is given
//! meanwhile.
//!
//! Input: one byte of options, then field blocks with 0xFF 0xFF between them, or fields for the encoder.
#![no_main]

use annulus_protocols::http2::Fields;
use annulus_protocols::http2::hpack::{DecodeError, Decoder, Encoder, Indexing};
use libfuzzer_sys::fuzz_target;

const LIST_BYTES_MAX: usize = 16 << 10;
const FIELDS_MAX: usize = 100;
/// Twice the table's octets, its entries, and the text of a literal that is kept, with room to double in.
const HEAP_BYTES_MAX: usize = 24 << 10;

fuzz_target!(|data: &[u8]| {
    let [options, rest @ ..] = data else { return };
    if options & 1 == 0 { decode(rest) } else { round_trip(*options, rest) }
});

type List = Vec<(Vec<u8>, Vec<u8>)>;

/// An ample and a narrow decoder of the same connection: the narrow one refuses lists and stays in step.
fn decode(data: &[u8]) {
    let (mut ample, mut narrow) = (Decoder::default(), Decoder::default());
    for block in blocks(data) {
        let list = ample.decode(block, LIST_BYTES_MAX, FIELDS_MAX).map(|fields| listed(&fields));
        let short = narrow.decode(block, 200, 4).map(|fields| listed(&fields));
        assert!(ample.heap_bytes() <= HEAP_BYTES_MAX && narrow.heap_bytes() <= HEAP_BYTES_MAX);
        match (list, short) {
            (Err(DecodeError::Invalid), Err(DecodeError::Invalid)) => return,
            (Err(DecodeError::TooLarge), Err(DecodeError::TooLarge)) => {}
            (Ok(list), short) => {
                let size: usize = list.iter().map(|(name, value)| name.len() + value.len() + 32).sum();
                assert!(size <= LIST_BYTES_MAX && list.len() <= FIELDS_MAX);
                match short {
                    Ok(short) => assert!(short == list && size <= 200 && list.len() <= 4, "{short:?} {list:?}"),
                    Err(fault) => assert!(fault == DecodeError::TooLarge && (size > 200 || list.len() > 4)),
                }
                again(&list);
            }
            (list, short) => panic!("{list:?} {short:?}"),
        }
    }
}

/// What was decoded is written anew, and decoded by somebody else.
fn again(list: &List) {
    let mut block = Vec::new();
    let mut encoder = Encoder::default();
    encoder.begin(&mut block);
    for (name, value) in list {
        encoder.field(&mut block, name, value, Indexing::Index);
    }
    let fields = Decoder::default().decode(&block, usize::MAX, usize::MAX).expect("our own block");
    assert_eq!(&listed(&fields), list);
}

/// Blocks of fields `NAME: VALUE` by lines, through one connection whose peer resizes its table.
fn round_trip(options: u8, data: &[u8]) {
    let (mut encoder, mut decoder) = (Encoder::default(), Decoder::default());
    for (round, block) in blocks(data).enumerate() {
        if options >> (round % 7) & 2 != 0 {
            encoder.set_peer_max(usize::from(options) * 7);
            encoder.set_peer_max(usize::from(options) << (round % 6));
        }
        let (mut list, mut wire) = (List::new(), Vec::new());
        encoder.begin(&mut wire);
        for (at, line) in block.split(|&byte| byte == b'\n').enumerate() {
            let colon = line.iter().position(|&byte| byte == b':').unwrap_or(line.len());
            let (name, value) = (&line[..colon], line.get(colon + 1..).unwrap_or_default());
            let indexing = [Indexing::Index, Indexing::Literal, Indexing::Never][(at + usize::from(options)) % 3];
            encoder.field(&mut wire, name, value, indexing);
            list.push((name.to_vec(), value.to_vec()));
        }
        let fields = decoder.decode(&wire, usize::MAX, usize::MAX).expect("what we wrote");
        assert_eq!(listed(&fields), list);
        assert!(encoder.heap_bytes() <= HEAP_BYTES_MAX);
    }
}

fn blocks(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(data);
    std::iter::from_fn(move || {
        let all = rest.take()?;
        match all.windows(2).position(|two| two == [0xFF, 0xFF]) {
            Some(at) => {
                rest = Some(&all[at + 2..]);
                Some(&all[..at])
            }
            None => Some(all),
        }
    })
}

fn listed(fields: &Fields) -> List {
    fields.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect()
}
