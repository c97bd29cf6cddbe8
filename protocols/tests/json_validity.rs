//! Random texts, good and damaged, in random pieces: the validator says what `serde_json` says, and the same at every cut.

mod json_reference;

use annulus_protocols::json::{Fault, Kind, Validator, validate};
use json_reference::{Random, Tree};

fn in_pieces(text: &[u8], random: &mut Random) -> Result<Kind, Fault> {
    let mut validator = Validator::new();
    random.cuts(text.len()).windows(2).try_for_each(|cut| validator.feed(&text[cut[0]..cut[1]]))?;
    validator.finish()
}

fn byte_by_byte(text: &[u8]) -> Result<Kind, Fault> {
    let mut validator = Validator::new();
    text.iter().try_for_each(|&byte| validator.feed(&[byte]))?;
    validator.finish()
}

fn check(text: &[u8], random: &mut Random) -> bool {
    let verdict = validate(text);
    assert_eq!(in_pieces(text, random), verdict, "{}", text.escape_ascii());
    assert_eq!(byte_by_byte(text), verdict, "{}", text.escape_ascii());
    match serde_json::from_slice::<serde_json::Value>(text) {
        Ok(_) => assert!(verdict.is_ok(), "{verdict:?} {}", text.escape_ascii()),
        // Grammar, and no more, decides for us; the reference also has to store the number.
        Err(error) => assert!(
            verdict.is_err() || error.to_string().contains("number out of range"),
            "{error}: {}",
            text.escape_ascii()
        ),
    }
    verdict.is_ok()
}

#[test]
fn good_texts_are_good() {
    let mut random = Random(1);
    for _ in 0..3000 {
        let mut text = String::new();
        Tree::random(&mut random, 6).write(&mut random, &mut text);
        assert!(check(text.as_bytes(), &mut random), "{text}");
    }
}

#[test]
fn damaged_texts_are_judged_alike() {
    let mut random = Random(2);
    let bytes = b"\"\\{}[],:0123-+.eEtu \n\x00\x1F\x80\xC3\xE6\xFFx/d8";
    let (mut good, mut bad) = (0, 0);
    for _ in 0..20_000 {
        let mut text = String::new();
        Tree::random(&mut random, 4).write(&mut random, &mut text);
        let mut text = text.into_bytes();
        for _ in 0..=random.below(2) {
            let at = random.below(text.len() + 1);
            match random.below(4) {
                0 => text.insert(at, *random.one_of(bytes)),
                1 if at < text.len() => drop(text.remove(at)),
                2 if at < text.len() => text[at] = *random.one_of(bytes),
                _ => text.truncate(at),
            }
        }
        *if check(&text, &mut random) { &mut good } else { &mut bad } += 1;
    }
    assert!(good > 1000 && bad > 1000, "{good} good and {bad} bad ones say something");
}

/// Texts of nothing but the characters that the grammar is about: most faults are here, close together.
#[test]
fn nonsense_is_judged_alike() {
    let mut random = Random(3);
    let tokens = ["{", "}", "[", "]", ",", ":", "\"a\"", "\"\\n\"", "1", "-0.5", "01", "1e", "true", "nul", " ", "\\"];
    for _ in 0..50_000 {
        let text: String = (0..random.below(12)).map(|_| *random.one_of(&tokens)).collect();
        check(text.as_bytes(), &mut random);
        let padded = format!("[{:>width$},{text}]", "\"\"", width = random.below(80));
        check(padded.as_bytes(), &mut random);
    }
}
