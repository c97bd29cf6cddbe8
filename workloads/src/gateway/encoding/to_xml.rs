//! JSON as an XML document, in the form that KrakenD's users know (that of the Go library mxj): members are elements, those of
//! an array are elements of one name, scalars whose names begin with a hyphen are attributes, and `#text` is text. An object of
//! one member is that as the root, any other is `doc`.
//!
//! Names and characters that XML does not have do not come out: an underscore or U+FFFD takes their place.

use std::borrow::Cow;

use annulus_protocols::json::{Kind, Members, Value};

/// The root where there is not one member to be it.
const ROOT: &str = "doc";
const TEXT: &str = "#text";

/// Appends the document of a value's text that was checked.
pub fn to_xml(json: &[u8], out: &mut Vec<u8>) {
    let value = Value::of(json);
    let mut members = value.members().into_iter().flatten();
    match (members.next(), members.next()) {
        (Some((name, only)), None) if only.kind() != Kind::Array && is_element(&name, only) => {
            element(out, &name, only)
        }
        _ if value.kind() == Kind::Array => {
            out.extend_from_slice(b"<doc>");
            element(out, "element", value);
            out.extend_from_slice(b"</doc>");
        }
        _ => element(out, ROOT, value),
    }
}

fn is_scalar(value: Value<'_>) -> bool {
    !matches!(value.kind(), Kind::Object | Kind::Array)
}

/// The name of the attribute that a member is, if it is one.
fn attribute_name<'n>(name: &'n str, value: Value<'_>) -> Option<&'n str> {
    name.strip_prefix('-').filter(|name| !name.is_empty() && is_scalar(value))
}

fn is_element(name: &str, value: Value<'_>) -> bool {
    attribute_name(name, value).is_none() && !(name == TEXT && is_scalar(value))
}

fn element(out: &mut Vec<u8>, name: &str, value: Value<'_>) {
    if let Some(elements) = value.elements() {
        return elements.for_each(|each| element(out, name, each));
    }
    let name = allowed_name(name);
    out.push(b'<');
    out.extend_from_slice(name.as_bytes());
    let is_empty = match value.members() {
        Some(members) => {
            attributes(out, members.clone());
            members.clone().all(|(name, value)| attribute_name(&name, value).is_some())
        }
        None => value.is_null() || value.raw() == b"\"\"",
    };
    if is_empty {
        return out.extend_from_slice(b"/>");
    }
    out.push(b'>');
    match value.members() {
        Some(members) => content(out, members),
        None => scalar(out, value),
    }
    out.extend_from_slice(b"</");
    out.extend_from_slice(name.as_bytes());
    out.push(b'>');
}

fn attributes(out: &mut Vec<u8>, members: Members<'_>) {
    let mut seen: Vec<String> = Vec::new();
    for (name, value) in members {
        let Some(name) = attribute_name(&name, value) else { continue };
        let name = allowed_name(name);
        // Two that differ only in what XML does not have are one; a second one would be ill-formed.
        if seen.iter().any(|known| *known == name) {
            continue;
        }
        out.push(b' ');
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"=\"");
        scalar(out, value);
        out.push(b'"');
        seen.push(name.into_owned());
    }
}

fn content(out: &mut Vec<u8>, members: Members<'_>) {
    for (name, value) in members {
        if is_element(&name, value) {
            element(out, &name, value);
        } else if name == TEXT {
            scalar(out, value);
        }
    }
}

/// A scalar as text: strings without quotes, and nothing for null.
fn scalar(out: &mut Vec<u8>, value: Value<'_>) {
    match value.string() {
        Some(text) => text.chars().for_each(|character| escaped(out, character)),
        None if value.is_null() => {}
        None => out.extend_from_slice(value.raw()),
    }
}

/// XML 1.0 section 2.2 says which characters there are; section 2.11 that a bare CR would be read as a line's end.
fn escaped(out: &mut Vec<u8>, character: char) {
    match character {
        '&' => out.extend_from_slice(b"&amp;"),
        '<' => out.extend_from_slice(b"&lt;"),
        '>' => out.extend_from_slice(b"&gt;"),
        '"' => out.extend_from_slice(b"&quot;"),
        // As they are they would be normalised away in attributes (section 3.3.3).
        '\t' => out.extend_from_slice(b"&#9;"),
        '\n' => out.extend_from_slice(b"&#10;"),
        '\r' => out.extend_from_slice(b"&#13;"),
        '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => out.extend_from_slice("\u{fffd}".as_bytes()),
        other => out.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

/// A name with an underscore for all that is not allowed (XML 1.0 section 2.3). A colon would be a namespace's that nobody
/// has declared.
fn allowed_name(name: &str) -> Cow<'_, str> {
    let mut characters = name.chars();
    if characters.next().is_some_and(begins_name) && characters.all(continues_name) {
        return Cow::Borrowed(name);
    }
    let mut allowed = String::with_capacity(name.len() + 1);
    for character in name.chars() {
        if allowed.is_empty() && !begins_name(character) {
            allowed.push('_');
            if !continues_name(character) {
                continue;
            }
        }
        allowed.push(if continues_name(character) { character } else { '_' });
    }
    if allowed.is_empty() {
        allowed.push('_');
    }
    Cow::Owned(allowed)
}

fn begins_name(character: char) -> bool {
    matches!(character,
        'A'..='Z' | 'a'..='z' | '_' | '\u{c0}'..='\u{d6}' | '\u{d8}'..='\u{f6}' | '\u{f8}'..='\u{2ff}'
        | '\u{370}'..='\u{37d}' | '\u{37f}'..='\u{1fff}' | '\u{200c}'..='\u{200d}' | '\u{2070}'..='\u{218f}'
        | '\u{2c00}'..='\u{2fef}' | '\u{3001}'..='\u{d7ff}' | '\u{f900}'..='\u{fdcf}' | '\u{fdf0}'..='\u{fffd}'
        | '\u{10000}'..='\u{effff}')
}

fn continues_name(character: char) -> bool {
    begins_name(character)
        || matches!(character, '-' | '.' | '0'..='9' | '\u{b7}' | '\u{300}'..='\u{36f}' | '\u{203f}'..='\u{2040}')
}

#[cfg(test)]
mod tests {
    use super::super::from_xml;
    use super::*;

    fn written(json: &str) -> String {
        let mut out = Vec::new();
        to_xml(json.as_bytes(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn objects_become_documents() {
        for (json, expected) in [
            (r#"{}"#, "<doc/>"),
            (r#"{"a":1.50}"#, "<a>1.50</a>"),
            (r#"{"a":{"b":[1,true,null,""],"c":{}}}"#, "<a><b>1</b><b>true</b><b/><b/><c/></a>"),
            (r#"{"a":1,"b":"x & <y>"}"#, "<doc><a>1</a><b>x &amp; &lt;y&gt;</b></doc>"),
            (r#"{"a":[1,2]}"#, "<doc><a>1</a><a>2</a></doc>"),
            (r##"{"a":{"-x":"1\"","-y":2,"#text":"t"}}"##, "<a x=\"1&quot;\" y=\"2\">t</a>"),
            (r#"{"a":{"-x":1,"-x":2}}"#, "<a x=\"1\"/>"),
            (r#"{"-a":1}"#, "<doc a=\"1\"/>"),
            (r#"{"-a":[1]}"#, "<doc><_-a>1</_-a></doc>"),
            (r#"{"1 a":"x","":2,"s:b":3}"#, "<doc><_1_a>x</_1_a><_>2</_><s_b>3</s_b></doc>"),
            (r#"{"a":"\u0000\u0007\n\ud83d\ude00"}"#, "<a>\u{fffd}\u{fffd}&#10;😀</a>"),
            (
                r#"{"collection":[{"a":1},{"a":2}]}"#,
                "<doc><collection><a>1</a></collection><collection><a>2</a></collection></doc>",
            ),
            ("[1,[2]]", "<doc><element>1</element><element>2</element></doc>"),
        ] {
            assert_eq!(written(json), expected, "{json}");
            from_xml(expected.as_bytes(), 1 << 10).unwrap();
        }
    }

    #[test]
    fn a_document_survives_the_way_there_and_back() {
        let document = "<shop id=\"1\"><item n=\"a\">x</item><item n=\"b\">y &amp; z</item><empty/></shop>";
        let json = from_xml(document.as_bytes(), 1 << 10).unwrap();
        assert_eq!(written(std::str::from_utf8(&json).unwrap()), document);
    }
}
