//! JSON as a YAML document (version 1.2, and read alike by readers of 1.1): members and elements on lines of their own, texts
//! in quotes unless they are plain words.

use annulus_protocols::json::{Kind, Value};

/// Appends the document of a value's text that was checked.
pub fn to_yaml(json: &[u8], out: &mut Vec<u8>) {
    block(out, Value::of(json), 0);
    out.push(b'\n');
}

/// A value on lines of its own, without the last line's end; what is on one line follows where it is.
fn block(out: &mut Vec<u8>, value: Value<'_>, indent: usize) {
    let mut is_first = true;
    if let Some(members) = value.members() {
        for (name, value) in members {
            new_line(out, &mut is_first, indent);
            text(out, &name);
            out.push(b':');
            nested(out, value, indent + 2);
        }
    } else if let Some(elements) = value.elements() {
        for value in elements {
            new_line(out, &mut is_first, indent);
            out.push(b'-');
            nested(out, value, indent + 2);
        }
    } else {
        is_first = false;
        scalar(out, value);
    }
    if is_first {
        out.extend_from_slice(if value.kind() == Kind::Object { b"{}" } else { b"[]" });
    }
}

fn new_line(out: &mut Vec<u8>, is_first: &mut bool, indent: usize) {
    if !std::mem::take(is_first) {
        out.push(b'\n');
    }
    out.resize(out.len() + indent, b' ');
}

/// What stands behind a colon or a hyphen: on the same line, or on the next ones.
fn nested(out: &mut Vec<u8>, value: Value<'_>, indent: usize) {
    let is_on_lines = match value.kind() {
        Kind::Object => value.members().is_some_and(|mut members| members.next().is_some()),
        Kind::Array => value.elements().is_some_and(|mut elements| elements.next().is_some()),
        _ => false,
    };
    out.push(if is_on_lines { b'\n' } else { b' ' });
    block(out, value, indent);
}

fn scalar(out: &mut Vec<u8>, value: Value<'_>) {
    match value.string() {
        Some(string) => text(out, &string),
        None => out.extend_from_slice(value.raw()),
    }
}

/// Words that are no text where they stand plain: to readers of YAML 1.2, or to those of 1.1.
const RESERVED: [&str; 13] =
    ["true", "false", "null", "yes", "no", "on", "off", "y", "n", "nan", "inf", "infinity", "none"];

fn text(out: &mut Vec<u8>, text: &str) {
    let is_plain = text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
        && !RESERVED.iter().any(|word| word.eq_ignore_ascii_case(text));
    if is_plain {
        return out.extend_from_slice(text.as_bytes());
    }
    out.push(b'"');
    for character in text.chars() {
        match character {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            // Not printable (section 5.1), or a line's end to some readers.
            '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => {
                out.extend_from_slice(format!("\\u{:04x}", u32::from(character)).as_bytes());
            }
            other => out.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(json: &str) -> String {
        let mut out = Vec::new();
        to_yaml(json.as_bytes(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn values_are_on_lines_and_texts_in_quotes_where_they_must() {
        let json = r#"{"a":1.50,"b":{"c":[1,{"d":"x y"},[],[2,[3]]],"e":{}},"no":"No","f":"","g":null,"h h":"a\n\u0085\"","i":[]}"#;
        let yaml = "a: 1.50\nb:\n  c:\n    - 1\n    -\n      d: \"x y\"\n    - []\n    -\n      - 2\n      -\n        - 3\n  e: {}\n\
                    \"no\": \"No\"\nf: \"\"\ng: null\n\"h h\": \"a\\n\\u0085\\\"\"\ni: []\n";
        assert_eq!(written(json), yaml);
        assert_eq!((written("{}"), written("[]"), written("\"x\"")), ("{}\n".into(), "[]\n".into(), "x\n".into()));
        assert_eq!(written(r#"[{"a":1},"1e3","-","~"]"#), "-\n  a: 1\n- \"1e3\"\n- \"-\"\n- \"~\"\n");
    }
}
