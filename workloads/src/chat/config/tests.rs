//! What both dialects make of whole files, what they say of wrong ones, and that the user's reference says the same as
//! the tables.

mod centrifugo;
mod ours;

use super::reference;

/// The user's reference of Centrifugo's keys; ours are in `configuration.md`.
const DOCUMENT: &str = include_str!("../../../docs/chat-config.md");

/// With `ANNULUS_WRITE_REFERENCE` in the environment, the tables are written into the document instead.
#[test]
fn the_reference_has_every_table_as_it_is() {
    let tables = [
        ("supported", reference::supported()),
        ("inert", reference::inert()),
        ("unsupported", reference::unsupported()),
    ];
    if std::env::var_os("ANNULUS_WRITE_REFERENCE").is_some() {
        let mut document = DOCUMENT.to_owned();
        for (name, table) in &tables {
            let (begin, end) = (format!("<!-- table {name} -->\n\n"), format!("\n<!-- end of {name} -->"));
            let (before, rest) = document.split_once(&begin).unwrap();
            let (_, after) = rest.split_once(&end).unwrap();
            document = [before, &begin, table.trim_end(), "\n", &end, after].concat();
        }
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/chat-config.md"), document).unwrap();
        return;
    }
    for (name, table) in tables {
        let (begin, end) = (format!("<!-- table {name} -->\n\n"), format!("\n<!-- end of {name} -->"));
        let after = DOCUMENT.split_once(&begin).unwrap_or_else(|| panic!("no mark {begin:?}")).1;
        let written = after.split_once(&end).unwrap_or_else(|| panic!("no mark {end:?}")).0;
        let pairs = written.trim_end().lines().zip(table.trim_end().lines());
        let different = pairs.into_iter().find(|(written, is)| written != is);
        assert_eq!(different, None, "table {name} of workloads/docs/chat-config.md: what is written, and what is");
        assert_eq!(written.trim_end().lines().count(), table.trim_end().lines().count(), "table {name}");
    }
}
