//! The little of XML that S3 answers in: elements, text, references. A whole document becomes a tree at once.
//!
//! Attributes are passed over, names lose their prefix, and what S3 never sends (document types, sections of raw text) is
//! refused rather than guessed at.

/// Elements inside each other, at most. S3 nests four deep.
const DEPTH_MAX: usize = 16;
/// Elements of a document, at most: a page of a listing has some eight for each of its 1000 keys.
const NODES_MAX: usize = 50_000;

/// An element.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Node {
    /// Without a prefix.
    pub(super) name: String,
    /// Its own text, references resolved.
    text: String,
    nodes: Vec<Node>,
}

impl Node {
    /// Reads a document. `None`: it is not one that this reader understands.
    pub(super) fn parse(text: &str) -> Option<Node> {
        let mut open: Vec<Node> = vec![Node::default()];
        let (mut rest, mut count) = (text, 0);
        while let Some(at) = rest.find('<') {
            let (before, markup) = rest.split_at(at);
            resolve(before, &mut open.last_mut()?.text)?;
            rest = if let Some(after) = markup.strip_prefix("<?") {
                after.split_once("?>")?.1
            } else if let Some(after) = markup.strip_prefix("<!--") {
                after.split_once("-->")?.1
            } else if markup.starts_with("<!") {
                return None;
            } else if let Some(after) = markup.strip_prefix("</") {
                let (name, after) = after.split_once('>')?;
                let node = open.pop()?;
                if node.name != local(name.trim_end()) || open.is_empty() {
                    return None;
                }
                open.last_mut()?.nodes.push(node);
                after
            } else {
                let (tag, after) = cut_tag(&markup[1..])?;
                let (tag, is_empty) = tag.strip_suffix('/').map_or((tag, false), |tag| (tag, true));
                let name = local(tag.split_ascii_whitespace().next()?);
                count += 1;
                if name.is_empty() || open.len() > DEPTH_MAX || count > NODES_MAX {
                    return None;
                }
                let node = Node { name: name.to_owned(), ..Node::default() };
                match is_empty {
                    true => open.last_mut()?.nodes.push(node),
                    false => open.push(node),
                }
                after
            };
        }
        let mut document = open.pop().filter(|_| open.is_empty())?;
        let is_blank = |text: &str| text.trim_matches(['\u{feff}', ' ', '\t', '\r', '\n']).is_empty();
        (document.nodes.len() == 1 && is_blank(&document.text) && is_blank(rest)).then(|| document.nodes.remove(0))
    }

    /// The text of the first child of this name.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.all(name).next().map(|node| &node.text[..])
    }

    /// All children of this name.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(move |node| node.name == name)
    }
}

fn local(name: &str) -> &str {
    name.rsplit(':').next().unwrap_or(name)
}

/// A tag up to its `>`, which an attribute's value may hold, too.
fn cut_tag(text: &str) -> Option<(&str, &str)> {
    let mut quote = None;
    for (at, byte) in text.bytes().enumerate() {
        match (quote, byte) {
            (None, b'>') => return Some((&text[..at], &text[at + 1..])),
            (None, b'"' | b'\'') => quote = Some(byte),
            (Some(open), byte) if byte == open => quote = None,
            _ => {}
        }
    }
    None
}

/// Appends text with its references resolved.
fn resolve(text: &str, out: &mut String) -> Option<()> {
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('&') {
        out.push_str(before);
        let (name, after) = after.split_once(';')?;
        out.push(match name {
            "amp" => '&',
            "lt" => '<',
            "gt" => '>',
            "quot" => '"',
            "apos" => '\'',
            _ => {
                let number = name.strip_prefix('#')?;
                let code = match number.strip_prefix('x') {
                    Some(digits) => u32::from_str_radix(digits, 16).ok()?,
                    None => number.parse().ok()?,
                };
                char::from_u32(code)?
            }
        });
        rest = after;
    }
    out.push_str(rest);
    Some(())
}

/// The text as the content of an element.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_is_read() {
        let text = "\u{feff}<?xml version=\"1.0\"?>\n<!-- a page --><s3:List xmlns:s3='http://a/b>c'>\n  <Name>b</Name>\
            <Contents><Key>a&amp;b&#x2f;&#99;</Key><Size>5</Size></Contents><Contents><Key/></Contents></s3:List>\n";
        let list = Node::parse(text).unwrap();
        assert_eq!((&list.name[..], list.text("Name")), ("List", Some("b")));
        let keys: Vec<_> = list.all("Contents").map(|node| (node.text("Key"), node.text("Size"))).collect();
        assert_eq!(keys, [(Some("a&b/c"), Some("5")), (Some(""), None)]);
    }

    #[test]
    fn what_is_no_document_is_none() {
        let deep = format!("{}{}", "<a>".repeat(20), "</a>".repeat(20));
        for text in [
            "",
            "text",
            "<a>",
            "<a></b>",
            "</a>",
            "<a/><b/>",
            "<a>&nbsp;</a>",
            "<a>&#xd800;</a>",
            "<a>&amp</a>",
            "<!DOCTYPE a><a/>",
            "<a><![CDATA[x]]></a>",
            "<a b='></a>",
            "< />",
            &deep,
        ] {
            assert_eq!(Node::parse(text), None, "{text}");
        }
        // Nothing that comes from outside may make it fail otherwise: every cut and every flipped byte of a document.
        let whole = "<?xml version=\"1.0\"?><a x=\"1\"><b>&amp;&#65;</b><!-- c --><d/></a>";
        assert!(Node::parse(whole).is_some());
        for at in 0..whole.len() {
            let _either = Node::parse(&whole[..at]);
            for byte in *b"<>&;\"/ !?" {
                let mut bytes = whole.as_bytes().to_vec();
                bytes[at] = byte;
                let _either = Node::parse(std::str::from_utf8(&bytes).unwrap());
            }
        }
    }

    #[test]
    fn what_is_escaped_reads_back() {
        let text = "a<b>&\"c\"";
        assert_eq!(Node::parse(&format!("<r><t>{}</t></r>", escape(text))).unwrap().text("t"), Some(text));
    }
}
