//! HPACK against its examples (RFC 7541 appendix C) and against the public stories: header blocks of three encoders, with
//! dynamic tables, size updates and Huffman coding. Where the stories are not there, that is said.

use annulus_protocols::http2::hpack::{Decoder, Encoder, Indexing};
use std::path::Path;

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let digit = |byte: u8| (byte as char).to_digit(16).expect("a hexadecimal digit") as u8;
    digits.chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

fn decoded(decoder: &mut Decoder, block: &[u8]) -> Vec<(String, String)> {
    let fields = decoder.decode(block, 1 << 20, 1000).expect("a valid block");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    fields.iter().map(|(name, value)| (text(name), text(value))).collect()
}

#[test]
fn examples_of_appendix_c() {
    // C.4: requests with Huffman coding, on one connection.
    let mut decoder = Decoder::default();
    let first = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "www.example.com")];
    let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    assert_eq!(decoded(&mut decoder, &bytes("828684418cf1e3c2e5f23a6ba0ab90f4ff")), pairs(&first));
    let second = [&first[..], &[("cache-control", "no-cache")]].concat();
    assert_eq!(decoded(&mut decoder, &bytes("828684be5886a8eb10649cbf")), pairs(&second));
    let third = [
        (":method", "GET"),
        (":scheme", "https"),
        (":path", "/index.html"),
        (":authority", "www.example.com"),
        ("custom-key", "custom-value"),
    ];
    assert_eq!(decoded(&mut decoder, &bytes("828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf")), pairs(&third));
    // C.3: the first one without Huffman coding.
    let plain = bytes("828684410f7777772e6578616d706c652e636f6d");
    assert_eq!(decoded(&mut Decoder::default(), &plain), pairs(&first));
}

#[test]
fn what_we_encode_we_decode_and_repetition_is_cheap() {
    let (mut encoder, mut decoder) = (Encoder::default(), Decoder::default());
    let mut sizes = Vec::new();
    for round in 0..50 {
        if round == 20 {
            encoder.set_peer_max(0);
            encoder.set_peer_max(200);
        }
        let path = format!("/items/{round}");
        let fields = [
            (":method", "GET", Indexing::Index),
            (":path", &path[..], Indexing::Literal),
            ("user-agent", "annulus/0.1", Indexing::Index),
            ("x-forwarded-host", "shop.example.com", Indexing::Index),
            ("authorization", "Bearer ünicode", Indexing::Never),
            ("empty", "", Indexing::Index),
        ];
        let mut block = Vec::new();
        encoder.begin(&mut block);
        for (name, value, indexing) in fields {
            encoder.field(&mut block, name.as_bytes(), value.as_bytes(), indexing);
        }
        let expected: Vec<_> =
            fields.iter().map(|(name, value, _)| ((*name).to_owned(), (*value).to_owned())).collect();
        assert_eq!(decoded(&mut decoder, &block), expected, "round {round}");
        sizes.push(block.len());
    }
    assert!(sizes[1] < sizes[0] / 2, "{sizes:?}");
    // A field that must never be remembered is marked so on the wire.
    let mut block = Vec::new();
    encoder.field(&mut block, b"authorization", b"x", Indexing::Never);
    assert_eq!(block[0] & 0xf0, 0x10);
}

#[test]
fn the_public_stories_decode_exactly() {
    let root = std::env::var("ANNULUS_DATA").unwrap_or_else(|_| "../../shared/data".to_owned());
    let root = Path::new(&root).join("hpack");
    let Ok(encoders) = std::fs::read_dir(&root) else {
        return not_run("HPACK stories", &format!("{} is not there; ANNULUS_DATA names its parent", root.display()));
    };
    let (mut stories, mut cases) = (0, 0);
    for encoder in encoders.flatten().filter(|entry| entry.path().is_dir()) {
        for story in std::fs::read_dir(encoder.path()).expect("a folder").flatten() {
            let text = std::fs::read_to_string(story.path()).expect("a story");
            let story: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            let mut decoder = Decoder::default();
            let (mut again, mut check) = (Encoder::default(), Decoder::default());
            for case in story["cases"].as_array().expect("cases") {
                let expected: Vec<(String, String)> = case["headers"]
                    .as_array()
                    .expect("headers")
                    .iter()
                    .flat_map(|header| header.as_object().expect("an object"))
                    .map(|(name, value)| (name.clone(), value.as_str().expect("a text").to_owned()))
                    .collect();
                let block = bytes(case["wire"].as_str().expect("hexadecimal"));
                assert_eq!(decoded(&mut decoder, &block), expected);
                let mut block = Vec::new();
                again.begin(&mut block);
                for (name, value) in &expected {
                    again.field(&mut block, name.as_bytes(), value.as_bytes(), Indexing::of(name));
                }
                assert_eq!(decoded(&mut check, &block), expected);
                cases += 1;
            }
            stories += 1;
        }
    }
    assert!(stories > 50 && cases > 1000, "{stories} stories with {cases} cases");
}

fn not_run(group: &str, why: &str) {
    use std::io::Write;
    eprintln!("NOT RUN: {group}: {why}");
    if let Some(path) = std::env::var_os("ANNULUS_NOT_RUN") {
        let mut file = std::fs::File::options().append(true).create(true).open(path).expect("the list of groups");
        writeln!(file, "{group}: {why}").expect("the list of groups");
    }
}
