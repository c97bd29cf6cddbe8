//! Bodies of forms: as browsers and libraries write them, whole and in every split, with what only looks like a
//! delimiter, and all that a stranger may get wrong.

mod support;

use annulus_protocols::Input;
use annulus_protocols::multipart::{Event, Fault, Limits, Multipart, Part};
use support::Rng;

/// An event with bytes of its own; neighbouring data are joined.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Read {
    Part(Part),
    Data(Vec<u8>),
    PartEnd,
    End,
    Fault(Fault),
}

fn part(name: &str, file_name: Option<&str>, content_type: Option<&str>) -> Read {
    let owned = |text: &str| text.to_owned();
    Read::Part(Part { name: owned(name), file_name: file_name.map(owned), content_type: content_type.map(owned) })
}

fn data(bytes: &[u8]) -> Read {
    Read::Data(bytes.to_vec())
}

fn feed(limits: &Limits, content_type: &str, pieces: Vec<Vec<u8>>) -> Vec<Read> {
    let mut machine = Multipart::new(content_type).expect("a good content type");
    let mut read = Vec::new();
    for mut piece in pieces {
        let mut input = Input::new(&mut piece);
        loop {
            let event = match machine.next_event(limits, &mut input) {
                Ok(Event::NeedMore) => break assert!(input.is_empty(), "NeedMore leaves nothing behind"),
                Ok(Event::Part(part)) => Read::Part(part),
                Ok(Event::Data(bytes)) => {
                    assert!(!bytes.is_empty(), "empty data tells nothing");
                    Read::Data(bytes.into_owned())
                }
                Ok(Event::PartEnd) => Read::PartEnd,
                Ok(Event::End) => Read::End,
                Err(fault) => Read::Fault(fault),
            };
            match (read.last_mut(), event) {
                (Some(Read::Data(before)), Read::Data(more)) => before.extend_from_slice(&more),
                (_, event) => read.push(event),
            }
        }
    }
    let complete = read.last() == Some(&Read::End);
    assert_eq!(machine.on_end_of_body().is_ok(), complete, "{read:?}");
    read
}

/// Reads a body whole, byte by byte, and in random splits; all must agree.
fn reads_with(limits: &Limits, content_type: &str, wire: &[u8]) -> Vec<Read> {
    let whole = feed(limits, content_type, vec![wire.to_vec()]);
    let single = feed(limits, content_type, wire.iter().map(|byte| vec![*byte]).collect());
    assert_eq!(whole, single, "byte by byte differs from whole");
    let mut rng = Rng(0x9e37_79b9_7f4a_7c15 ^ wire.len() as u64);
    for piece_max in [2, 3, 7, 16, 64, 1000] {
        assert_eq!(whole, feed(limits, content_type, rng.split(wire, piece_max)), "split differs from whole");
    }
    whole
}

fn reads(wire: &str) -> Vec<Read> {
    reads_with(&Limits::DEFAULT, "multipart/form-data; boundary=b", wire.as_bytes())
}

/// A body of one part with these head lines.
fn with_head(head: &str) -> String {
    format!("--b\r\n{head}\r\n\r\nx\r\n--b--\r\n")
}

const FIELD: &str = "Content-Disposition: form-data; name=a";

#[test]
fn as_a_browser_sends_it() {
    let boundary = "----WebKitFormBoundary7MA4YWxkTrZu0gW";
    let wire = format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"preset\"\r\n\r\nweb\r\n\
         --{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"Bäume %22im%22 Wald.jpg\"\r\n\
         Content-Type: image/jpeg\r\n\r\n\u{fffd}\r\n--{boundary}\r\n\
         Content-Disposition: form-data; name=\"none\"; filename=\"\"\r\n\
         Content-Type: application/octet-stream\r\n\r\n\r\n--{boundary}--\r\n"
    );
    let expected = [
        part("preset", None, None),
        data(b"web"),
        Read::PartEnd,
        part("file", Some("Bäume \"im\" Wald.jpg"), Some("image/jpeg")),
        data("\u{fffd}".as_bytes()),
        Read::PartEnd,
        part("none", Some(""), Some("application/octet-stream")),
        Read::PartEnd,
        Read::End,
    ];
    let content_type = format!("multipart/form-data; boundary={boundary}");
    assert_eq!(reads_with(&Limits::DEFAULT, &content_type, wire.as_bytes()), expected);
}

#[test]
fn what_only_looks_like_a_delimiter_is_data() {
    for content in [
        "\r\n",
        "\r\n\r\n",
        "\r",
        "\n--b",
        "\r\n--",
        "\r\n--a",
        "\r\r\n--\r\n-",
        "--",
        "--a",
        "-",
        "\r\n\r\n--\r",
        "--B--",
    ] {
        let wire = format!("--b\r\n{FIELD}\r\n\r\n{content}\r\n--b--");
        let expected = [part("a", None, None), data(content.as_bytes()), Read::PartEnd, Read::End];
        assert_eq!(reads(&wire), expected, "{content:?}");
    }
}

#[test]
fn random_content_of_few_letters_comes_through() {
    let mut rng = Rng(7);
    for _ in 0..500 {
        let len = 1 + rng.below(60);
        let content: String = (0..len).map(|_| b"\r\n-bx"[rng.below(5)] as char).collect();
        if content.contains("\r\n--b") || content.starts_with("--b") {
            continue;
        }
        let wire = format!("--b\r\n{FIELD}\r\n\r\n{content}\r\n--b--");
        // The line end of the content's end and that of the delimiter may join to another delimiter's beginning.
        let expected = [part("a", None, None), data(content.as_bytes()), Read::PartEnd, Read::End];
        assert_eq!(reads(&wire), expected, "{content:?}");
    }
}

#[test]
fn preamble_padding_epilogue_and_parts_without_content() {
    let wire =
        format!("This is for old readers.\r\n--b \t\r\n{FIELD}\r\n\r\n--b\r\n{FIELD}\r\n\r\n\r\n--b--\r\nbye\r\n--b");
    let empty = [part("a", None, None), Read::PartEnd];
    let expected = [&empty[..], &empty[..], &[Read::End]].concat();
    assert_eq!(reads(&wire), expected);
    assert_eq!(reads("--b--"), [Read::End]);
}

#[test]
fn heads_in_the_writing_of_others() {
    for (head, name, file_name) in [
        ("content-disposition:form-data;name=a", "a", None),
        ("Content-Disposition: FORM-DATA; filename=\"x\\\"y\"; name=\"a\"", "a", Some("x\"y")),
        ("X-Other: 1\r\nContent-Disposition: form-data; name=\"C:\\dir\"", "C:\\dir", None),
        ("Content-Disposition: form-data; name=a; filename*=UTF-8''x", "a", None),
        ("Content-Transfer-Encoding: binary\r\nContent-Disposition: form-data; name=a", "a", None),
    ] {
        let expected = [part(name, file_name, None), data(b"x"), Read::PartEnd, Read::End];
        assert_eq!(reads(&with_head(head)), expected, "{head}");
    }
}

#[test]
fn faults_are_named() {
    for (wire, fault) in [
        (with_head("X: y"), Fault::Disposition),
        ("--b\r\n\r\nx\r\n--b--".to_owned(), Fault::Disposition),
        (with_head("Content-Disposition: form-data"), Fault::Disposition),
        (with_head("Content-Disposition: form-data; name=\"\""), Fault::Disposition),
        (with_head("Content-Disposition: attachment; name=a"), Fault::Disposition),
        (with_head("Content-Disposition: form-data; name=\"a"), Fault::Disposition),
        (with_head(&format!("{FIELD}\r\n{FIELD}")), Fault::Head),
        (with_head(&format!("{FIELD}\r\n folded")), Fault::Head),
        (with_head("no colon"), Fault::Head),
        (with_head("a b: c"), Fault::Head),
        (with_head("a: \u{1}"), Fault::Head),
        (format!("--b\r\n{FIELD}\n\r\nx\r\n--b--"), Fault::Head),
        (with_head(&format!("{FIELD}\r\nContent-Transfer-Encoding: base64")), Fault::TransferEncoding),
        (format!("--bx\r\n{FIELD}\r\n\r\n"), Fault::Delimiter),
        ("--b-x".to_owned(), Fault::Delimiter),
        ("--b\n".to_owned(), Fault::Delimiter),
        ("--b \r\r".to_owned(), Fault::Delimiter),
        (format!("{}\r\n--b--", "x".repeat(1025)), Fault::Delimiter),
        (format!("--b{}\r\n", " ".repeat(1025)), Fault::Delimiter),
    ] {
        assert_eq!(reads(&wire).last(), Some(&Read::Fault(fault)), "{wire:?}");
    }
}

#[test]
fn limits_hold_at_their_border() {
    let limits = Limits { parts_max: 2, head_bytes_max: FIELD.len() + 4, padding_bytes_max: 3 };
    let content_type = "multipart/form-data; boundary=b";
    let run = |wire: &str| reads_with(&limits, content_type, wire.as_bytes()).last().cloned();
    let one = format!("--b\r\n{FIELD}\r\n\r\nx\r\n");
    assert_eq!(run(&format!("{one}{one}--b--")), Some(Read::End));
    assert_eq!(run(&format!("{one}{one}{one}--b--")), Some(Read::Fault(Fault::TooManyParts)));
    assert_eq!(run(&format!("--b\r\n{FIELD}b\r\n\r\nx\r\n--b--")), Some(Read::Fault(Fault::HeadTooLarge)));
    assert_eq!(run("abc\r\n--b--"), Some(Read::End));
    assert_eq!(run("abcd\r\n--b--"), Some(Read::Fault(Fault::Delimiter)));
    assert_eq!(run("--b   \r\n"), None);
    assert_eq!(run("--b    \r\n"), Some(Read::Fault(Fault::Delimiter)));
}

#[test]
fn an_unfinished_body_is_truncated() {
    let wire = format!("--b\r\n{FIELD}\r\n\r\nx\r\n--b--");
    for len in 0..wire.len() {
        let read = feed(&Limits::DEFAULT, "multipart/form-data; boundary=b", vec![wire.as_bytes()[..len].to_vec()]);
        assert!(!read.iter().any(|event| matches!(event, Read::Fault(_) | Read::End)), "{read:?}");
    }
}
