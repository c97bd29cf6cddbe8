//! An XML document as JSON, in the form that KrakenD's users know (that of the Go library mxj):
//!
//! ```text
//!   <user id="7"><name>Ann</name>     {"user": {"-id": "7", "name": "Ann", "tag": ["a", "b"]}}
//!     <tag>a</tag><tag>b</tag></user>
//! ```
//!
//! Attributes begin with a hyphen, elements of the same name are an array, text beside attributes or elements is `#text`, all
//! values are strings, prefixes of namespaces are left out. Text that is not in one piece is joined, where mxj keeps the last.
//!
//! Invariants: entities that a document declares are not known, so nothing unfolds; what comes out is JSON of a depth that
//! passes its own check.

use std::collections::HashMap;

use annulus_protocols::json::write_string;
use quick_xml::escape::resolve_xml_entity;
use quick_xml::events::{BytesDecl, BytesRef, BytesStart, Event};
use quick_xml::{Reader, XmlVersion};

/// Elements within elements. Each may be an object in an array, and JSON may be 128 deep, with a group and a collection.
pub(super) const DEPTH_MAX: usize = 60;
/// Attributes of one element: each is compared with those before it.
pub(super) const ATTRIBUTES_MAX: usize = 256;
/// Names of members of all elements that are open at once. Each takes some hundred bytes, whatever it takes in the document.
pub(super) const NAMES_MAX: usize = 100_000;

/// The JSON text of a document: an object whose one member is the root element.
///
/// # Errors
/// What is wrong with it: it is no well-formed XML, no UTF-8, too deep, or longer than `bytes_max` as JSON.
pub fn from_xml(document: &[u8], bytes_max: usize) -> Result<Vec<u8>, String> {
    let text = std::str::from_utf8(document).map_err(|_| "the XML is not UTF-8".to_owned())?;
    let mut reader = Reader::from_str(text.trim_start_matches('\u{feff}'));
    let mut open: Vec<Element> = Vec::new();
    let mut names = 0;
    // The document itself, whose one member is the root.
    let mut root = Element::default();
    loop {
        let event = reader.read_event().map_err(fault)?;
        match event {
            Event::Start(tag) => {
                if open.len() == DEPTH_MAX {
                    return Err(format!("the XML is more than {DEPTH_MAX} levels deep"));
                }
                let element = Element::of(&tag)?;
                names += element.members.len();
                open.push(element);
            }
            Event::Empty(tag) => {
                let element = Element::of(&tag)?;
                names += open.last_mut().unwrap_or(&mut root).add(&local_name(&tag)?, &element.json());
            }
            Event::End(_) => {
                // The reader has seen to it that it ends what is open.
                let Some(element) = open.pop() else { continue };
                names -= element.members.len();
                let json = element.json();
                if json.len() > bytes_max {
                    return Err(format!("the XML is longer than {bytes_max} bytes as JSON"));
                }
                names += open.last_mut().unwrap_or(&mut root).add(&element.name, &json);
            }
            Event::Text(piece) => add_text(&mut open, &piece.xml10_content().map_err(fault)?)?,
            Event::CData(piece) => add_text(&mut open, &piece.xml10_content().map_err(fault)?)?,
            Event::GeneralRef(reference) => add_text(&mut open, &referred(&reference)?)?,
            Event::Decl(declaration) => check_encoding(&declaration)?,
            Event::Comment(_) | Event::PI(_) | Event::DocType(_) => {}
            Event::Eof => break,
        }
        if names > NAMES_MAX {
            return Err(format!("the XML has more than {NAMES_MAX} names at once"));
        }
    }
    match (open.is_empty(), root.members.len(), root.members.first().map(|member| member.count)) {
        (true, 1, Some(1)) => Ok(root.json()),
        (true, 0, _) => Err("the XML has no root element".to_owned()),
        (true, ..) => Err("the XML has more than one root element".to_owned()),
        (false, ..) => Err("the XML ends within an element".to_owned()),
    }
}

/// What a document says of its encoding must be true.
pub(super) fn check_encoding(declaration: &BytesDecl<'_>) -> Result<(), String> {
    let encoding = declaration.encoding().transpose().map_err(fault)?;
    match encoding.is_some_and(|name| !name.eq_ignore_ascii_case(b"utf-8")) {
        true => Err("the XML says that it is in another encoding than UTF-8, which is the one read".to_owned()),
        false => Ok(()),
    }
}

/// What the reader says is wrong.
pub(super) fn fault(error: impl std::fmt::Display) -> String {
    format!("XML: {error}")
}

/// Outside of the root there may be nothing but white space.
fn add_text(open: &mut [Element], piece: &str) -> Result<(), String> {
    match open.last_mut() {
        Some(element) => element.text.push_str(piece),
        None if piece.trim().is_empty() => {}
        None => return Err("the XML has text outside of its root element".to_owned()),
    }
    Ok(())
}

/// What a reference in a text stands for: a character, or one of the five names that need no declaration.
pub(super) fn referred(reference: &BytesRef<'_>) -> Result<String, String> {
    if let Some(character) = reference.resolve_char_ref().map_err(fault)? {
        return Ok(character.to_string());
    }
    let name = reference.decode().map_err(fault)?;
    let known = resolve_xml_entity(&name).map(str::to_owned);
    known.ok_or_else(|| "the XML refers to something that it declares itself, which is not looked at".to_owned())
}

fn local_name(tag: &BytesStart<'_>) -> Result<String, String> {
    let name = tag.local_name();
    std::str::from_utf8(name.as_ref()).map(str::to_owned).map_err(fault)
}

/// An element that is open, or the document.
#[derive(Default)]
struct Element {
    name: String,
    /// Attributes and elements within, in the order in which their names came.
    members: Vec<Member>,
    /// Where each is.
    places: HashMap<String, usize>,
    text: String,
}

/// Values of one name.
struct Member {
    name: String,
    count: usize,
    /// Their JSON texts, with commas between them.
    values: Vec<u8>,
}

impl Element {
    /// With its attributes.
    fn of(tag: &BytesStart<'_>) -> Result<Element, String> {
        let mut element = Element { name: local_name(tag)?, ..Element::default() };
        for (index, attribute) in tag.attributes().enumerate() {
            let attribute = attribute.map_err(fault)?;
            if index == ATTRIBUTES_MAX {
                return Err(format!("an element of the XML has more than {ATTRIBUTES_MAX} attributes"));
            }
            let name = attribute.key.local_name();
            let name = std::str::from_utf8(name.as_ref()).map_err(fault)?;
            let value = attribute.normalized_value(XmlVersion::Implicit1_0).map_err(fault)?;
            let mut json = Vec::with_capacity(value.len() + 2);
            write_string(&mut json, &value);
            element.add(&format!("-{name}"), &json);
        }
        Ok(element)
    }

    /// Adds a value to those of a name. Says how many names are new.
    fn add(&mut self, name: &str, json: &[u8]) -> usize {
        if let Some(&place) = self.places.get(name) {
            let member = &mut self.members[place];
            member.count += 1;
            member.values.push(b',');
            member.values.extend_from_slice(json);
            return 0;
        }
        self.places.insert(name.to_owned(), self.members.len());
        self.members.push(Member { name: name.to_owned(), count: 1, values: json.to_vec() });
        1
    }

    /// Its JSON text.
    fn json(&self) -> Vec<u8> {
        let text = self.text.trim_matches(['\t', '\r', '\n', ' ']);
        let mut json = Vec::new();
        if self.members.is_empty() {
            write_string(&mut json, text);
            return json;
        }
        for Member { name, count, values } in &self.members {
            json.push(if json.is_empty() { b'{' } else { b',' });
            write_string(&mut json, name);
            json.push(b':');
            if *count > 1 {
                json.push(b'[');
            }
            json.extend_from_slice(values);
            if *count > 1 {
                json.push(b']');
            }
        }
        if !text.is_empty() {
            json.extend_from_slice(b",\"#text\":");
            write_string(&mut json, text);
        }
        json.push(b'}');
        json
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use annulus_protocols::json;

    fn read(document: &str) -> Result<String, String> {
        let text = from_xml(document.as_bytes(), 1 << 20)?;
        json::validate(&text).unwrap_or_else(|fault| panic!("{fault}: {}", String::from_utf8_lossy(&text)));
        Ok(String::from_utf8(text).unwrap())
    }

    #[test]
    fn elements_become_members_and_those_of_a_name_an_array() {
        for (document, expected) in [
            ("<a/>", r#"{"a":""}"#),
            ("<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<!-- x --><a> b\n</a>\n", r#"{"a":"b"}"#),
            ("<a><b>1</b><c/><b>2</b></a>", r#"{"a":{"b":["1","2"],"c":""}}"#),
            ("<a x='1' y='&lt;&#65;'>t</a>", r##"{"a":{"-x":"1","-y":"<A","#text":"t"}}"##),
            ("<a>one<b/>two</a>", r##"{"a":{"b":"","#text":"onetwo"}}"##),
            ("<a>&amp;<![CDATA[<&]]>&#x20AC;\"</a>", r#"{"a":"&<&€\""}"#),
            ("\u{feff}<s:a xmlns:s='u'><s:b s:c='1'/></s:a>", r#"{"a":{"-s":"u","b":{"-c":"1"}}}"#),
            ("<a><b><c>1</c></b><b/></a>", r#"{"a":{"b":[{"c":"1"},""]}}"#),
        ] {
            assert_eq!(read(document).as_deref(), Ok(expected), "{document}");
        }
    }

    #[test]
    fn what_is_no_document_is_refused() {
        for (document, says) in [
            ("", "no root element"),
            ("3", "text outside"),
            ("<a/><b/>", "more than one root"),
            ("<a/><a/>", "more than one root"),
            ("<a>", "ends within"),
            ("<a></b>", "XML: "),
            ("</a>", "XML: "),
            ("<a b=1/>", "XML: "),
            ("<a b='1' b='2'/>", "XML: "),
            ("<a>&x;</a>", "declares itself"),
            ("<!DOCTYPE a [<!ENTITY x \"y\">]><a>&x;</a>", "declares itself"),
            ("<a>&#0;</a>", "XML: "),
            ("<a>&#xD800;</a>", "XML: "),
            ("<?xml version='1.0' encoding='latin1'?><a/>", "another encoding"),
        ] {
            let refused = read(document).unwrap_err();
            assert!(refused.contains(says), "{document}: {refused}");
        }
        assert!(from_xml(b"<a>\xff</a>", 100).unwrap_err().contains("UTF-8"));
    }

    #[test]
    fn limits_hold() {
        let deep = |levels: usize| format!("{}{}", "<a>".repeat(levels), "</a>".repeat(levels));
        assert!(read(&deep(DEPTH_MAX)).is_ok());
        assert!(read(&deep(DEPTH_MAX + 1)).unwrap_err().contains("levels deep"));
        assert!(from_xml(b"<a>0123456789</a>", 11).unwrap_err().contains("longer than 11 bytes"));
        let attributes = |count: usize| (0..count).map(|number| format!(" a{number}=''")).collect::<String>();
        assert!(read(&format!("<a{}/>", attributes(ATTRIBUTES_MAX))).is_ok());
        assert!(read(&format!("<a{}/>", attributes(ATTRIBUTES_MAX + 1))).unwrap_err().contains("attributes"));
        let names = |count: usize| (0..count).map(|number| format!("<n{number}/>")).collect::<String>();
        let wide = format!("<a>{}</a>", names(NAMES_MAX + 1));
        assert!(from_xml(wide.as_bytes(), 1 << 30).unwrap_err().contains("names at once"));
        // One after the other they are as good as few.
        let closed = format!("<a>{}</a>", format!("<b>{}</b>", names(NAMES_MAX / 10)).repeat(12));
        assert!(from_xml(closed.as_bytes(), 1 << 30).is_ok());
    }
}
