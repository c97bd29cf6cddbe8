//! A flamegraph in a browser: it is drawn, a click zooms, a search finds.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

mod outside;

use std::path::Path;

use annulus_perf::folded::Folded;
use outside::{Browser, passes};

#[test]
fn a_flamegraph_can_be_read_and_zoomed() {
    let Some(browser) = Browser::start("a flamegraph in a browser") else { return };
    let stacks =
        "shard 0;main;poll;chat::publish 60\nshard 0;main;poll;chat::write<T>;tcp_sendmsg_[k] 30\nshard 1;main 10\n";
    let picture = Folded::read(stacks).unwrap().flamegraph_about("annulus & chat", "100 samples");
    let file = std::env::temp_dir().join(format!("annulus-flamegraph-{}.svg", std::process::id()));
    std::fs::write(&file, picture).unwrap();
    let pictures = std::env::var("ANNULUS_PICTURES").unwrap_or_default();
    let outcome = std::panic::catch_unwind(|| {
        let page = format!("file://{}", file.display());
        passes(Path::new("node"), "flamegraph.mjs", &[&page, &browser.devtools, &pictures]);
    });
    std::fs::remove_file(&file).unwrap();
    outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}
