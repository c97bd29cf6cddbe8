//! Any bytes as JSON: accepted exactly when the reference accepts them, in whatever pieces they come, walked to the same
//! members, and passed on in one line or in canonical form without a change of meaning.
#![no_main]

use annulus_protocols::json::{
    Fault, Kind, Validator, Value, canonical, validate, write_string, write_without_line_ends,
};
use libfuzzer_sys::fuzz_target;
use serde_json::Value as Reference;

fuzz_target!(|data: &[u8]| {
    let ours = validate(data);
    // Cut where the bytes themselves say, so that the fuzzer can move the cuts; and at every byte.
    let size = data.first().map_or(1, |&first| 1 + first as usize % 97);
    assert_eq!(in_pieces(data, size), ours);
    assert_eq!(in_pieces(data, 1), ours);
    let theirs = serde_json::from_slice::<Reference>(data);
    match (ours, theirs) {
        (Ok(kind), Ok(reference)) => compare(data, kind, &reference),
        (Err(_), Err(_)) | (Err(Fault::TooDeep(_)), _) => {}
        // Grammar, and no more, decides for us; the reference also has to store the number, and stops one level earlier.
        (Ok(_), Err(error)) => {
            let why = error.to_string();
            assert!(why.contains("number out of range") || why.contains("recursion limit"), "{why}");
        }
        (Err(fault), Ok(_)) => panic!("{fault:?}"),
    }
});

fn in_pieces(text: &[u8], size: usize) -> Result<Kind, Fault> {
    let mut validator = Validator::new();
    text.chunks(size).try_for_each(|piece| validator.feed(piece))?;
    validator.finish()
}

fn compare(text: &[u8], kind: Kind, reference: &Reference) {
    let value = Value::of(text);
    assert_eq!(value.kind(), kind);
    let kind_fits = match reference {
        Reference::Null => value.is_null(),
        Reference::Bool(theirs) => value.boolean() == Some(*theirs),
        Reference::Number(_) => kind == Kind::Number,
        Reference::String(theirs) => {
            let mut written = Vec::new();
            write_string(&mut written, theirs);
            assert_eq!(serde_json::from_slice::<String>(&written).ok().as_ref(), Some(theirs));
            value.string().as_deref() == Some(theirs)
        }
        Reference::Array(_) => kind == Kind::Array,
        Reference::Object(_) => kind == Kind::Object,
    };
    assert!(kind_fits);
    if let (Some(members), Some(theirs)) = (value.members(), reference.as_object()) {
        compare_members(members, theirs);
    }
    let mut sorted = Vec::new();
    canonical(text, &mut sorted);
    assert_eq!(serde_json::from_slice::<Reference>(&sorted).ok().as_ref(), Some(reference));
    let mut line = Vec::new();
    write_without_line_ends(&mut line, text);
    assert!(!line.contains(&b'\n') && !line.contains(&b'\r'));
    assert_eq!(serde_json::from_slice::<Reference>(&line).ok().as_ref(), Some(reference));
}

/// Of equal names the reference keeps the last, so each of ours may only be overtaken by a later one.
fn compare_members<'a>(members: annulus_protocols::json::Members<'a>, reference: &serde_json::Map<String, Reference>) {
    let mut last = std::collections::BTreeMap::new();
    for (name, value) in members {
        assert!(validate(value.raw()).is_ok());
        last.insert(name.into_owned(), value.raw());
    }
    assert!(last.keys().eq(reference.keys()), "the same names");
    for (name, raw) in last {
        assert_eq!(serde_json::from_slice::<Reference>(raw).ok().as_ref(), reference.get(&name));
    }
}
