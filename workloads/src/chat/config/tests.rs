//! What both dialects make of whole files, what they say of wrong ones, and that the user's reference says the same as
//! the tables.

mod centrifugo;
mod ours;

use super::reference;
use crate::reference::assert_page;

/// The user's reference of Centrifugo's keys; ours are in `configuration.md`.
#[test]
fn the_reference_has_every_table_as_it_is() {
    let tables = [
        ("supported", reference::supported()),
        ("inert", reference::inert()),
        ("unsupported", reference::unsupported()),
    ];
    assert_page("chat-config.md", &tables);
}
