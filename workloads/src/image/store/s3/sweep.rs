//! What uploads and deaths leave in a bucket: found page by page, asked about, removed. The store's clock tells ages.
//!
//! Any node of a fleet may sweep, also several at once: what one has removed the other does not find. What was begun in
//! parts and never ended is looked for, too, where the store tells of it; where it does not, a rule of the bucket does that.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use super::S3;
use super::calls::{Found, Page};
use super::parts::abort;
use crate::image::store::{Key, StoreError, Swept, Wanted};

/// Keys that are asked about at once.
const ASK_MAX: usize = 256;
/// Folders of what never got its name.
const NAMELESS: [&str; 3] = ["temporary/", "incoming/", "probe/"];

/// Calls `each` for every page of the objects in a folder, or of those in it whose names begin so.
pub(super) fn each_page(
    store: &S3,
    folder: &str,
    each: &mut dyn FnMut(Page) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let prefix = format!("{}{folder}", store.site.settings.prefix);
    let mut next: Option<String> = None;
    loop {
        let (prefix, after) = (prefix.clone(), next.take());
        let mut page = store.ask(move |client| async move { client.list(&prefix, after.as_deref()).await })?;
        next = page.next.take();
        each(page)?;
        if next.is_none() {
            return Ok(());
        }
    }
}

pub(super) fn sweep(store: &S3, age: Duration, wanted: Wanted<'_>) -> Result<Swept, StoreError> {
    let mut sweep = Sweep { store, age, swept: Swept::default() };
    for folder in NAMELESS {
        each_page(store, folder, &mut |page| sweep.nameless(&page))?;
    }
    sweep.uploads()?;
    each_page(store, "objects/", &mut |page| sweep.orphans(&page, &mut *wanted))?;
    Ok(sweep.swept)
}

struct Sweep<'a> {
    store: &'a S3,
    age: Duration,
    swept: Swept,
}

impl Sweep<'_> {
    /// A moment in the future is not old.
    fn is_old(&self, modified: SystemTime, now: SystemTime) -> bool {
        now.duration_since(modified).is_ok_and(|age| age > self.age)
    }

    fn nameless(&mut self, page: &Page) -> Result<(), StoreError> {
        for found in &page.found {
            if !self.is_old(found.meta.modified, page.now) {
                continue;
            }
            let name = found.name.clone();
            self.store.ask(move |client| async move { client.remove(&name).await })?;
            self.swept.temporaries += 1;
            self.swept.bytes += found.meta.len;
        }
        Ok(())
    }

    fn uploads(&mut self) -> Result<(), StoreError> {
        static TOLD: AtomicBool = AtomicBool::new(false);
        let mut after: Option<(String, String)> = None;
        loop {
            let (prefix, from) = (self.store.site.settings.prefix.clone(), after.take());
            let page = self.store.ask(move |client| async move {
                let after = from.as_ref().map(|(name, id)| (&name[..], &id[..]));
                client.list_uploads(&prefix, after).await
            })?;
            let Some(page) = page else {
                if !TOLD.swap(true, Ordering::Relaxed) {
                    crate::warn!(
                        "image: the store does not list multipart uploads, so those that a crash left behind are not \
                         swept. Fix: give the bucket a rule that aborts incomplete uploads after some days."
                    );
                }
                return Ok(());
            };
            for found in &page.found {
                if !self.is_old(found.meta.modified, page.now) {
                    continue;
                }
                let (name, id) = (found.name.clone(), found.upload.clone().unwrap_or_default());
                self.store.ask(move |client| async move {
                    let aborted = abort(&client, &name, &id).await;
                    aborted.map_err(|trouble| client.told(&trouble, "giving up an old upload of", &name))
                })?;
                self.swept.temporaries += 1;
            }
            let last = page.found.last().and_then(|found| Some((found.name.clone(), found.upload.clone()?)));
            match (page.next, last) {
                (Some(_), Some(last)) => after = Some(last),
                _ => return Ok(()),
            }
        }
    }

    fn orphans(&mut self, page: &Page, wanted: Wanted<'_>) -> Result<(), StoreError> {
        let old: Vec<(Key, &Found)> = page
            .found
            .iter()
            .filter(|found| self.is_old(found.meta.modified, page.now))
            .filter_map(|found| Some((found.name.rsplit('/').next()?.parse().ok()?, found)))
            .collect();
        for batch in old.chunks(ASK_MAX) {
            let keys: Vec<Key> = batch.iter().map(|(key, _)| *key).collect();
            let answers = wanted(&keys).map_err(StoreError::Io)?;
            for ((_, found), _) in batch.iter().zip(answers).filter(|(_, wanted)| !wanted) {
                self.remove(found, page.now)?;
            }
        }
        Ok(())
    }

    /// Removes an orphan, unless it became young while it was asked about.
    fn remove(&mut self, found: &Found, now: SystemTime) -> Result<(), StoreError> {
        let (name, oldest) = (found.name.clone(), now.checked_sub(self.age));
        let removed = self.store.ask(move |client| async move {
            let meta = client.head(&name).await?;
            let is_old = |modified| oldest.is_some_and(|oldest| modified < oldest);
            if !meta.is_some_and(|meta| is_old(meta.modified)) {
                return Ok(false);
            }
            client.remove(&name).await.map(|()| true)
        })?;
        if removed {
            self.swept.orphans += 1;
            self.swept.bytes += found.meta.len;
        }
        Ok(())
    }
}
