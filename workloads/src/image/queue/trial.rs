//! Orders, and places to put them, for tests.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::image::format::Format;
use crate::image::header::{Header, Orientation};
use crate::image::job::{Priority, Tenant};
use crate::image::pipeline::Cost;
use crate::image::recipe::Recipe;
use crate::image::store::{Key, Suffix};
use crate::image::work::{Order, Work, WorkKey};

/// A directory of its own, removed with this.
pub(crate) struct Home(PathBuf);

impl Home {
    pub(crate) fn new(name: &str) -> Home {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("annulus-image-{name}-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Home(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // A directory that stays behind is a nuisance, no failure.
        let _left = std::fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn header() -> Header {
    Header {
        format: Format::Jpeg,
        width: 6000,
        height: 4000,
        components: 3,
        bits: 8,
        alpha: false,
        frames: 1,
        coefficient_bytes: 0,
        orientation: Orientation::Normal,
    }
}

/// The order number `number` of a tenant: same number, same work.
pub(crate) fn order(tenant: &str, number: u64) -> Order {
    let mut name = [0; 32];
    name[..8].copy_from_slice(&number.to_be_bytes());
    let work = Work {
        key: WorkKey(name),
        original: Key { name, suffix: Suffix::Original },
        len: 5_000_000,
        header: header(),
        recipes: vec![Recipe::named("small"), Recipe::named("large")].into(),
        cost: Cost { peak_bytes: 100 << 20, cpu_us: 200_000 },
    };
    let asked = "preset:web".to_owned();
    Order { tenant: Tenant::named(tenant), work, priority: Priority::Interactive, asked, idempotency: None }
}
