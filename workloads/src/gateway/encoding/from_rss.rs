//! A feed as JSON, in the form that KrakenD's users know (that of the Go library gofeed): RSS 0.9 to 2.0 and Atom become the
//! same.
//!
//! ```text
//!   <rss><channel><title>News</title>         {"type": "rss", "title": "News", …, "items": [{"title": "One",
//!     <item><title>One</title>…               "published": "Sat, 07 Sep 2002 0:00:01 GMT",
//!                                              "publishedParsed": "2002-09-07T00:00:01Z"}]}
//! ```
//!
//! Names are told by their prefixes as they are usual (`dc`, `content`, `media`, `itunes`, `atom`), not by namespaces.
//! What other vocabularies say, and pictures within HTML, are not looked for.
//!
//! Invariants: as of [`from_xml`](super::from_xml).

use std::borrow::Cow;
use std::ops::Range;

use annulus_protocols::json::write_string;
use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, XmlVersion};

use super::from_xml::{ATTRIBUTES_MAX, DEPTH_MAX, NAMES_MAX, check_encoding, fault, referred};

/// The JSON text of a feed.
///
/// # Errors
/// What is wrong with it: it is no well-formed XML, no UTF-8, no feed, too deep, too wide, or longer than `bytes_max` as JSON.
pub fn from_rss(document: &[u8], bytes_max: usize) -> Result<Vec<u8>, String> {
    let (node, texts) = tree(document)?;
    let root = Element { node: &node, texts: &texts };
    let json = match &node.name[..] {
        "rss" => rss(root.child("channel").ok_or("the RSS has no channel")?, None),
        "rdf:rdf" => rss(root.child("channel").ok_or("the RSS has no channel")?, Some(root)),
        "feed" | "atom:feed" => atom(root),
        other => return Err(format!("<{}> is no feed: there are rss, rdf:RDF and feed", shortened(other))),
    };
    if json.len() > bytes_max {
        return Err(format!("the feed is longer than {bytes_max} bytes as JSON"));
    }
    Ok(json)
}

fn shortened(name: &str) -> &str {
    &name[..name.floor_char_boundary(40)]
}

/// An element as it is kept.
#[derive(Default)]
struct Node {
    /// With its prefix, in lower case.
    name: String,
    attributes: Vec<(String, String)>,
    /// Where in the document's texts its own is, with that of what stands in it: markup within a text, as XHTML in Atom has
    /// it, is part of the text.
    text: Range<usize>,
    children: Vec<Node>,
}

impl Node {
    fn of(tag: &BytesStart<'_>, at: usize) -> Result<Node, String> {
        let text = |bytes: &[u8]| std::str::from_utf8(bytes).map(str::to_ascii_lowercase).map_err(fault);
        let mut node = Node { name: text(tag.name().as_ref())?, text: at..at, ..Node::default() };
        for (index, attribute) in tag.attributes().enumerate() {
            let attribute = attribute.map_err(fault)?;
            if index == ATTRIBUTES_MAX {
                return Err(format!("an element of the feed has more than {ATTRIBUTES_MAX} attributes"));
            }
            let value = attribute.normalized_value(XmlVersion::Implicit1_0).map_err(fault)?;
            node.attributes.push((text(attribute.key.as_ref())?, value.into_owned()));
        }
        Ok(node)
    }
}

/// An element as it is read.
#[derive(Clone, Copy)]
struct Element<'n> {
    node: &'n Node,
    /// Of the whole document, in its order.
    texts: &'n str,
}

impl<'n> Element<'n> {
    fn all(self, name: &'n str) -> impl Iterator<Item = Element<'n>> {
        // Atom's own names may have its prefix.
        let is_it = move |node: &&Node| node.name == name || node.name.strip_prefix("atom:") == Some(name);
        self.node.children.iter().filter(is_it).map(move |node| Element { node, texts: self.texts })
    }

    fn child(self, name: &'n str) -> Option<Element<'n>> {
        self.all(name).next()
    }

    fn text(self) -> &'n str {
        self.texts[self.node.text.clone()].trim()
    }

    /// The text of the first of some elements that says something.
    fn text_of(self, names: &[&str]) -> &'n str {
        let find = |name: &&str| self.node.children.iter().find(|node| node.name == **name);
        let texts = names.iter().filter_map(find).map(|node| Element { node, texts: self.texts }.text());
        texts.into_iter().find(|text| !text.is_empty()).unwrap_or_default()
    }

    fn attribute(self, name: &str) -> &'n str {
        self.node.attributes.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value.trim())
    }
}

/// The root of a document, and its texts.
fn tree(document: &[u8]) -> Result<(Node, String), String> {
    let text = std::str::from_utf8(document).map_err(|_| "the feed is not UTF-8".to_owned())?;
    let mut reader = Reader::from_str(text.trim_start_matches('\u{feff}'));
    let (mut open, mut roots, mut texts, mut names) = (Vec::<Node>::new(), Vec::new(), String::new(), 0);
    loop {
        let closed = match reader.read_event().map_err(fault)? {
            Event::Start(tag) if open.len() == DEPTH_MAX => {
                drop(tag);
                return Err(format!("the feed is more than {DEPTH_MAX} levels deep"));
            }
            Event::Start(tag) => {
                open.push(Node::of(&tag, texts.len())?);
                None
            }
            Event::Empty(tag) => Some(Node::of(&tag, texts.len())?),
            // The reader has seen to it that it ends what is open.
            Event::End(_) => open.pop(),
            Event::Text(piece) => {
                texts.push_str(&piece.xml10_content().map_err(fault)?);
                None
            }
            Event::CData(piece) => {
                texts.push_str(&piece.xml10_content().map_err(fault)?);
                None
            }
            Event::GeneralRef(reference) => {
                texts.push_str(&referred(&reference)?);
                None
            }
            Event::Decl(declaration) => {
                check_encoding(&declaration)?;
                None
            }
            Event::Comment(_) | Event::PI(_) | Event::DocType(_) => None,
            Event::Eof => break,
        };
        if let Some(mut node) = closed {
            node.text.end = texts.len();
            names += 1 + node.attributes.len();
            open.last_mut().map_or(&mut roots, |parent| &mut parent.children).push(node);
        }
        if names > NAMES_MAX {
            return Err(format!("the feed has more than {NAMES_MAX} elements and attributes"));
        }
    }
    if !open.is_empty() {
        return Err("the feed ends within an element".to_owned());
    }
    match (roots.pop(), roots.is_empty()) {
        (Some(root), true) => Ok((root, texts)),
        (None, _) => Err("the feed has no root element".to_owned()),
        (Some(_), false) => Err("the feed has more than one root element".to_owned()),
    }
}

/// An object in the making.
struct Object(Vec<u8>);

impl Object {
    fn new() -> Object {
        Object(vec![b'{'])
    }

    fn raw(&mut self, name: &str, json: &[u8]) -> &mut Object {
        if self.0.len() > 1 {
            self.0.push(b',');
        }
        write_string(&mut self.0, name);
        self.0.push(b':');
        self.0.extend_from_slice(json);
        self
    }

    fn text(&mut self, name: &str, text: &str) -> &mut Object {
        let mut json = Vec::with_capacity(text.len() + 2);
        write_string(&mut json, text);
        self.raw(name, &json)
    }

    /// Nothing where there is nothing to say.
    fn some(&mut self, name: &str, text: &str) -> &mut Object {
        if text.is_empty() { self } else { self.text(name, text) }
    }

    fn some_raw(&mut self, name: &str, json: Option<Vec<u8>>) -> &mut Object {
        match json {
            Some(json) => self.raw(name, &json),
            None => self,
        }
    }

    /// A moment, as it was written and as everybody can read it.
    fn moment(&mut self, name: &str, text: &str) -> &mut Object {
        self.some(name, text);
        match parsed(text) {
            Some(moment) => self.text(&format!("{name}Parsed"), &moment),
            None => self,
        }
    }

    fn end(mut self) -> Vec<u8> {
        self.0.push(b'}');
        self.0
    }
}

fn list(texts: &[Cow<'_, str>]) -> Option<Vec<u8>> {
    let mut json = Vec::new();
    for text in texts {
        json.push(if json.is_empty() { b'[' } else { b',' });
        write_string(&mut json, text);
    }
    json.push(b']');
    (!texts.is_empty()).then_some(json)
}

fn array(values: impl Iterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut json = vec![b'['];
    for value in values {
        if json.len() > 1 {
            json.push(b',');
        }
        json.extend_from_slice(&value);
    }
    json.push(b']');
    json
}

/// RFC 2822 and RFC 3339, in UTC.
fn parsed(text: &str) -> Option<String> {
    let zoned = || jiff::fmt::rfc2822::parse(text).ok().map(|zoned| zoned.timestamp());
    let moment: Option<jiff::Timestamp> = text.parse().ok().or_else(zoned);
    moment.map(|moment| moment.to_string())
}

/// Someone, as feeds write it: `Ann (ann@example.org)`, `ann@example.org (Ann)`, `Ann <ann@example.org>`, or one of the two.
fn person(text: &str) -> Option<Vec<u8>> {
    if text.is_empty() {
        return None;
    }
    let (outer, inner) = match text.split_once(['(', '<']) {
        Some((outer, rest)) => (outer.trim(), rest.trim().trim_end_matches([')', '>']).trim()),
        None => (text, ""),
    };
    let (name, email) = if outer.contains('@') { (inner, outer) } else { (outer, inner) };
    Some(person_of(name, email))
}

fn person_of(name: &str, email: &str) -> Vec<u8> {
    let mut object = Object::new();
    object.some("name", name).some("email", email);
    object.end()
}

fn image(url: &str, title: &str) -> Option<Vec<u8>> {
    let mut object = Object::new();
    object.some("url", url).some("title", title);
    (!url.is_empty()).then(|| object.end())
}

/// A channel; its items and image are beside it in RSS 1.0.
fn rss(channel: Element<'_>, beside: Option<Element<'_>>) -> Vec<u8> {
    let holder = beside.unwrap_or(channel);
    let picture = holder.child("image").map_or("", |image| image.text_of(&["url"]));
    let itunes = channel.child("itunes:image").map_or("", |image| image.attribute("href"));
    let texts = Texts {
        kind: "rss",
        title: channel.text_of(&["title", "dc:title"]),
        description: channel.text_of(&["description", "itunes:summary"]),
        copyright: channel.text_of(&["copyright", "dc:rights"]),
        language: channel.text_of(&["language", "dc:language"]),
        published: channel.text_of(&["pubdate"]),
        updated: channel.text_of(&["lastbuilddate", "dc:date"]),
        image: if picture.is_empty() { itunes } else { picture },
    };
    let author = channel.text_of(&["managingeditor", "webmaster", "dc:author", "dc:creator", "itunes:author"]);
    feed(&texts, person(author), &rss_categories(channel), array(holder.all("item").map(rss_item)))
}

fn rss_categories(node: Element<'_>) -> Vec<Cow<'_, str>> {
    let own = node.all("category").chain(node.all("dc:subject"));
    let mut categories: Vec<Cow<'_, str>> = own.map(|child| child.text().into()).collect();
    let words = node.text_of(&["itunes:keywords"]).split(',').map(str::trim);
    categories.extend(words.map(Cow::from));
    categories.retain(|category| !category.is_empty());
    categories
}

fn rss_item(item: Element<'_>) -> Vec<u8> {
    let enclosures = item.all("enclosure").map(|node| {
        let mut object = Object::new();
        let texts = ["url", "length", "type"].map(|name| (name, node.attribute(name)));
        texts.iter().for_each(|(name, text)| _ = object.some(name, text));
        object.end()
    });
    let enclosures: Vec<Vec<u8>> = enclosures.collect();
    let mut object = Object::new();
    object
        .some("title", item.text_of(&["title", "dc:title"]))
        .some("description", item.text_of(&["description", "dc:description", "itunes:summary", "atom:summary"]))
        .some("content", item.text_of(&["content:encoded", "content", "atom:content"]))
        .some("link", item.text_of(&["link"]))
        .moment("updated", item.text_of(&["dc:date", "atom:updated"]))
        .moment("published", item.text_of(&["pubdate", "dc:date", "atom:published"]))
        .some_raw("author", person(item.text_of(&["author", "dc:author", "dc:creator", "itunes:author"])))
        .some("guid", item.text_of(&["guid"]))
        .some_raw("image", image(rss_picture(item), ""))
        .some_raw("categories", list(&rss_categories(item)))
        .some_raw("enclosures", (!enclosures.is_empty()).then(|| array(enclosures.into_iter())));
    object.end()
}

fn rss_picture(item: Element<'_>) -> &str {
    let itunes = item.all("itunes:image").map(|node| node.attribute("href"));
    let is_picture =
        |node: &Element<'_>| node.attribute("type").starts_with("image") || node.attribute("medium") == "image";
    let media = item.all("media:content").chain(item.all("enclosure")).filter(is_picture);
    itunes.chain(media.map(|node| node.attribute("url"))).find(|url| !url.is_empty()).unwrap_or_default()
}

fn atom(root: Element<'_>) -> Vec<u8> {
    let texts = Texts {
        kind: "atom",
        title: atom_text(root, "title"),
        description: atom_text(root, "subtitle"),
        copyright: atom_text(root, "rights"),
        language: root.attribute("xml:lang"),
        published: "",
        updated: atom_text(root, "updated"),
        image: match atom_text(root, "logo") {
            "" => atom_text(root, "icon"),
            logo => logo,
        },
    };
    let entries = array(root.all("entry").map(atom_entry));
    feed(&texts, atom_person(root), &atom_categories(root), entries)
}

fn atom_text<'n>(node: Element<'n>, name: &'n str) -> &'n str {
    node.child(name).map_or("", Element::text)
}

fn atom_person(node: Element<'_>) -> Option<Vec<u8>> {
    node.child("author").map(|author| person_of(atom_text(author, "name"), atom_text(author, "email")))
}

fn atom_categories(node: Element<'_>) -> Vec<Cow<'_, str>> {
    let term = |category: Element<'_>| match category.attribute("label") {
        "" => category.attribute("term").to_owned(),
        label => label.to_owned(),
    };
    node.all("category").map(term).filter(|term| !term.is_empty()).map(Cow::from).collect()
}

fn atom_entry(entry: Element<'_>) -> Vec<u8> {
    let with = |rels: &[&str]| entry.all("link").find(|link| rels.contains(&link.attribute("rel")));
    let enclosures: Vec<Vec<u8>> = entry
        .all("link")
        .filter(|link| link.attribute("rel") == "enclosure")
        .map(|link| {
            let mut object = Object::new();
            object.some("url", link.attribute("href")).some("length", link.attribute("length"));
            object.some("type", link.attribute("type"));
            object.end()
        })
        .collect();
    let content = entry.child("content").map_or("", |content| match content.text() {
        "" => content.attribute("src"),
        text => text,
    });
    let published = match atom_text(entry, "published") {
        "" => atom_text(entry, "updated"),
        published => published,
    };
    let mut object = Object::new();
    object
        .some("title", atom_text(entry, "title"))
        .some("description", atom_text(entry, "summary"))
        .some("content", content)
        .some("link", with(&["", "alternate"]).map_or("", |link| link.attribute("href")))
        .moment("updated", atom_text(entry, "updated"))
        .moment("published", published)
        .some_raw("author", atom_person(entry))
        .some("guid", atom_text(entry, "id"))
        .some_raw("categories", list(&atom_categories(entry)))
        .some_raw("enclosures", (!enclosures.is_empty()).then(|| array(enclosures.into_iter())));
    object.end()
}

/// What a feed says of itself.
struct Texts<'n> {
    kind: &'static str,
    title: &'n str,
    description: &'n str,
    copyright: &'n str,
    language: &'n str,
    published: &'n str,
    updated: &'n str,
    image: &'n str,
}

/// The members that KrakenD gives, each in its place also where it is empty.
fn feed(texts: &Texts<'_>, author: Option<Vec<u8>>, categories: &[Cow<'_, str>], items: Vec<u8>) -> Vec<u8> {
    let mut object = Object::new();
    object
        .raw("author", &author.unwrap_or_else(|| b"null".to_vec()))
        .raw("categories", &list(categories).unwrap_or_else(|| b"null".to_vec()))
        .text("copyright", texts.copyright)
        .raw("custom", b"null")
        .text("description", texts.description);
    if !texts.image.is_empty() {
        object.text("img_url", texts.image);
    }
    object
        .raw("items", &items)
        .text("language", texts.language)
        .text("published", texts.published)
        .text("title", texts.title)
        .text("type", texts.kind)
        .text("updated", texts.updated);
    object.end()
}

#[cfg(test)]
mod tests {
    use super::*;
    use annulus_protocols::json;
    use serde_json::{Value, json};

    fn read(document: &str) -> Result<Value, String> {
        let text = from_rss(document.as_bytes(), 1 << 20)?;
        json::validate(&text).unwrap_or_else(|fault| panic!("{fault}: {}", String::from_utf8_lossy(&text)));
        Ok(serde_json::from_slice(&text).unwrap())
    }

    #[test]
    fn rss_as_everybody_writes_it() {
        let feed = read(
            r#"<?xml version="1.0" encoding="UTF-8"?>
            <rss version="2.0" xmlns:dc="d" xmlns:content="c" xmlns:media="m"><channel>
              <title>News &amp; more</title><link>https://example.org</link><description>All of it</description>
              <image><url>https://example.org/logo.png</url><title>Logo</title></image>
              <language>en</language><managingEditor>ann@example.org (Ann)</managingEditor><category>Tech</category>
              <pubDate>Sat, 07 Sep 2002 00:00:01 GMT</pubDate>
              <item><title>One</title><link>https://example.org/1</link><description><![CDATA[<b>first</b>]]></description>
                <pubDate>Sat, 07 Sep 2002 02:00:01 +0200</pubDate><guid>1</guid><dc:creator>Bob</dc:creator>
                <category>a</category><category>b</category><content:encoded>long</content:encoded>
                <enclosure url="https://example.org/1.jpg" length="7" type="image/jpeg"/></item>
              <item/>
            </channel></rss>"#,
        );
        let expected = json!({
            "type": "rss", "title": "News & more", "description": "All of it", "img_url": "https://example.org/logo.png",
            "language": "en", "author": {"name": "Ann", "email": "ann@example.org"}, "categories": ["Tech"],
            "published": "Sat, 07 Sep 2002 00:00:01 GMT", "updated": "", "copyright": "", "custom": null,
            "items": [{
                "title": "One", "link": "https://example.org/1", "description": "<b>first</b>", "content": "long",
                "published": "Sat, 07 Sep 2002 02:00:01 +0200", "publishedParsed": "2002-09-07T00:00:01Z", "guid": "1",
                "author": {"name": "Bob"}, "categories": ["a", "b"], "image": {"url": "https://example.org/1.jpg"},
                "enclosures": [{"url": "https://example.org/1.jpg", "length": "7", "type": "image/jpeg"}],
            }, {}],
        });
        assert_eq!(feed.unwrap(), expected);
    }

    #[test]
    fn rss_1_and_atom_become_the_same() {
        let feed = read(
            "<rdf:RDF><channel><title>T</title></channel><image><url>u</url></image><item><title>One</title>\
             <dc:date>2003-12-13T18:30:02+01:00</dc:date></item></rdf:RDF>",
        );
        let feed = feed.unwrap();
        assert_eq!((&feed["title"], &feed["img_url"]), (&json!("T"), &json!("u")));
        assert_eq!(feed["items"][0]["publishedParsed"], "2003-12-13T17:30:02Z");
        let feed = read(
            r#"<feed xmlns="http://www.w3.org/2005/Atom" xml:lang="de"><title>T</title><subtitle>S</subtitle>
            <updated>2003-12-13T18:30:02Z</updated><author><name>Ann</name><email>a@b</email></author><logo>l</logo>
            <entry><title>One</title><id>urn:1</id><link rel="self" href="s"/><link href="h"/><updated>2003-12-13T18:30:02Z</updated>
              <summary>Some</summary><content type="xhtml"><div>Some <b>more</b></div></content><category term="c"/>
              <link rel="enclosure" href="e" type="audio/mpeg" length="1"/></entry></feed>"#,
        );
        let feed = feed.unwrap();
        let entry = &feed["items"][0];
        assert_eq!(
            (&feed["type"], &feed["description"], &feed["language"]),
            (&json!("atom"), &json!("S"), &json!("de"))
        );
        assert_eq!(feed["author"], json!({"name": "Ann", "email": "a@b"}));
        assert_eq!(
            (&entry["link"], &entry["guid"], &entry["content"]),
            (&json!("h"), &json!("urn:1"), &json!("Some more"))
        );
        assert_eq!(entry["published"], "2003-12-13T18:30:02Z");
        assert_eq!((&entry["categories"], &entry["enclosures"][0]["url"]), (&json!(["c"]), &json!("e")));
    }

    #[test]
    fn what_is_no_feed_is_refused() {
        for (document, says) in [
            ("", "no root element"),
            ("<rss/>", "no channel"),
            ("<html/>", "<html> is no feed"),
            ("<rss><channel>", "ends within"),
            ("<rss><channel/></rss><rss/>", "more than one root"),
            ("<rss><channel>&x;</channel></rss>", "declares itself"),
            ("<?xml version='1.0' encoding='latin1'?><rss/>", "another encoding"),
        ] {
            let refused = read(document).unwrap_err();
            assert!(refused.contains(says), "{document}: {refused}");
        }
        assert!(from_rss(b"<rss>\xff</rss>", 100).unwrap_err().contains("UTF-8"));
        let deep = format!("<rss>{}{}</rss>", "<a>".repeat(DEPTH_MAX), "</a>".repeat(DEPTH_MAX));
        assert!(read(&deep).unwrap_err().contains("levels deep"));
        let wide = format!("<rss>{}</rss>", "<a/>".repeat(NAMES_MAX));
        assert!(read(&wide).unwrap_err().contains("elements and attributes"));
        assert!(from_rss(b"<rss><channel/></rss>", 20).unwrap_err().contains("longer than 20 bytes"));
    }

    #[test]
    fn people_are_told_apart_from_their_addresses() {
        for (text, expected) in [
            ("Ann", json!({"name": "Ann"})),
            ("a@b", json!({"email": "a@b"})),
            ("Ann (a@b)", json!({"name": "Ann", "email": "a@b"})),
            ("a@b (Ann B.)", json!({"name": "Ann B.", "email": "a@b"})),
            ("Ann <a@b>", json!({"name": "Ann", "email": "a@b"})),
        ] {
            assert_eq!(serde_json::from_slice::<Value>(&person(text).unwrap()).unwrap(), expected, "{text}");
        }
        assert!(person("").is_none());
    }
}
