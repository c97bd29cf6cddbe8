//! Random texts in canonical form: what a sorted tree would be written as.

mod json_reference;

use annulus_protocols::json::canonical;
use json_reference::{Random, Tree};

fn written(tree: &Tree, out: &mut String) {
    match tree {
        Tree::Plain(plain) => out.push_str(plain),
        Tree::Text(text) => text_written(text, out),
        Tree::List(elements) => {
            out.push('[');
            for (index, element) in elements.iter().enumerate() {
                out.push_str(if index > 0 { "," } else { "" });
                written(element, out);
            }
            out.push(']');
        }
        Tree::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by(|one, other| one.0.as_bytes().cmp(other.0.as_bytes()));
            out.push('{');
            for (index, (name, value)) in members.into_iter().enumerate() {
                out.push_str(if index > 0 { "," } else { "" });
                text_written(name, out);
                out.push(':');
                written(value, out);
            }
            out.push('}');
        }
    }
}

/// What Go adds to what everybody escapes.
fn text_written(text: &str, out: &mut String) {
    let mut plain = serde_json::to_string(text).expect("a string");
    for special in ['<', '>', '&', '\u{2028}', '\u{2029}'] {
        plain = plain.replace(special, &format!("\\u{:04x}", special as u32));
    }
    out.push_str(&plain);
}

#[test]
fn a_sorted_tree_is_written_alike() {
    let mut random = Random(11);
    let mut bytes = 0;
    for _ in 0..5000 {
        let tree = Tree::random(&mut random, 6);
        let mut text = String::new();
        tree.write(&mut random, &mut text);
        let (mut ours, mut expected) = (Vec::new(), String::new());
        canonical(text.as_bytes(), &mut ours);
        written(&tree.unique(), &mut expected);
        assert_eq!(String::from_utf8_lossy(&ours), expected, "{text}");
        let mut again = Vec::new();
        canonical(&ours, &mut again);
        assert_eq!(again, ours, "canonical is canonical");
        bytes += ours.len();
    }
    assert!(bytes > 100_000);
}
