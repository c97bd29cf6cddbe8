//! Everything of a job deleted, because somebody says so: its document, its outputs, its original and what was made of that.
//!
//! ```text
//!   close the door of the content ─► queue: the job is forgotten, and the work that no other job wants
//!                                      └─► thread: outputs, variants, original leave the store ─► open the door
//! ```
//!
//! What is deleted is named by its content, and the same content may come again at any moment. So while it is deleted, no
//! upload of it is entered on this node, and while one is entered, it is not deleted. What a crash in the middle leaves is
//! referred to by nothing: the sweep takes it, variants when their own time is over.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use annulus_engine::Shard;
use annulus_engine::compute::{Reply as Awaited, Ticket, ticket};
use crossbeam_channel::{Sender, bounded};
use serde_json::json;

use super::api::{Api, job_id, name_of, no_such_job, of_queue, of_store, private};
use super::job::Tenant;
use super::queue::{Purged, Remains};
use super::store::{Key, Objects, StoreError, Suffix};
use super::variants::Variants;
use super::work::Salt;
use crate::serve::{Problem, Reply, Request};

/// Deletions that may wait for the thread. Beyond: 503.
const WAITING_MAX: usize = 64;
/// How often a door is tried, and how often at most.
const TRY_EVERY: Duration = Duration::from_millis(5);
const TRIES_MAX: u32 = 2000;

/// Which content is being entered, and which is being deleted.
#[derive(Debug, Default)]
pub struct Doors(Mutex<HashMap<Key, Door>>);

#[derive(Debug)]
enum Door {
    /// So many uploads are being entered.
    Open(u32),
    /// It is being deleted.
    Closed,
}

/// A door held as it is until this is dropped.
#[derive(Debug)]
pub struct Held {
    doors: Arc<Doors>,
    original: Key,
}

impl Doors {
    fn doors(&self) -> MutexGuard<'_, HashMap<Key, Door>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn try_enter(self: &Arc<Self>, original: Key) -> Option<Held> {
        match self.doors().entry(original).or_insert(Door::Open(0)) {
            Door::Open(entering) => *entering += 1,
            Door::Closed => return None,
        }
        Some(Held { doors: self.clone(), original })
    }

    fn try_close(self: &Arc<Self>, original: Key) -> Option<Held> {
        let mut doors = self.doors();
        if doors.contains_key(&original) {
            return None;
        }
        doors.insert(original, Door::Closed);
        Some(Held { doors: self.clone(), original })
    }

    /// Waits until content may be entered: a deletion takes no longer than the store does.
    pub(super) async fn enter(self: &Arc<Self>, shard: &Shard, original: Key) -> Result<Held, Problem> {
        in_time(shard, || self.try_enter(original)).await
    }

    async fn close(self: &Arc<Self>, shard: &Shard, original: Key) -> Result<Held, Problem> {
        in_time(shard, || self.try_close(original)).await
    }
}

async fn in_time(shard: &Shard, attempt: impl Fn() -> Option<Held>) -> Result<Held, Problem> {
    for _ in 0..TRIES_MAX {
        match attempt() {
            Some(held) => return Ok(held),
            None => shard.sleep(TRY_EVERY).await,
        }
    }
    let detail = "The same image is being uploaded or deleted by somebody else for too long. Ask again in a moment.";
    Err(Problem::new(503, detail).with("retry-after", "5"))
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut doors = self.doors.doors();
        match doors.get_mut(&self.original) {
            Some(Door::Open(entering)) if *entering > 1 => *entering -= 1,
            _ => drop(doors.remove(&self.original)),
        }
    }
}

/// What has left the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Outputs and manifests.
    pub outputs: u64,
    /// Variants of the original.
    pub variants: u64,
    /// Whether the original has.
    pub original: bool,
    /// Bytes of all of them.
    pub bytes: u64,
}

struct Call {
    remains: Remains,
    slip: Ticket<Result<Removed, StoreError>>,
}

/// The thread that deletes. Dropping it ends it, after what was called.
pub struct Purger {
    calls: Option<Sender<Call>>,
    thread: Option<JoinHandle<()>>,
}

impl Purger {
    /// Starts the thread.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(objects: Arc<dyn Objects>, variants: Option<Arc<Variants>>, salt: Salt) -> io::Result<Arc<Purger>> {
        let (calls, receiver) = bounded::<Call>(WAITING_MAX);
        let body = move || {
            for Call { remains, slip } in receiver {
                slip.answer(remove(&*objects, variants.as_deref(), &salt, &remains));
            }
        };
        let thread = std::thread::Builder::new().name("image-purge".to_owned()).spawn(body)?;
        Ok(Arc::new(Purger { calls: Some(calls), thread: Some(thread) }))
    }

    /// Deletes what is left of a job. `None`: too many deletions wait.
    fn remove(&self, remains: Remains) -> Option<Awaited<Result<Removed, StoreError>>> {
        let (slip, reply) = ticket();
        self.calls.as_ref()?.try_send(Call { remains, slip }).ok()?;
        Some(reply)
    }
}

impl Drop for Purger {
    fn drop(&mut self) {
        self.calls = None;
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so.
            let _ended = thread.join();
        }
    }
}

/// Deletes outputs, then the original, and then its variants: without it no new ones are made.
fn remove(
    objects: &dyn Objects,
    variants: Option<&Variants>,
    salt: &Salt,
    remains: &Remains,
) -> Result<Removed, StoreError> {
    let mut removed = Removed::default();
    for key in &remains.objects {
        if let Some(meta) = objects.head(key)? {
            objects.delete(key)?;
            removed.outputs += 1;
            removed.bytes += meta.len;
        }
    }
    let Some(original) = &remains.original else { return Ok(removed) };
    if let Some(meta) = objects.head(original)? {
        objects.delete(original)?;
        removed.original = true;
        removed.bytes += meta.len;
    }
    // After it: from now on none is made any more.
    let mut made = Vec::new();
    objects.list_of(&salt.variants_of(original), &mut |key, meta| {
        if key.suffix == Suffix::Variant {
            made.push((key, meta.len));
        }
        Ok(())
    })?;
    for (key, len) in &made {
        objects.delete(key)?;
        removed.variants += 1;
        removed.bytes += len;
    }
    if let Some(variants) = variants {
        variants.cache.forget(made.iter().map(|(key, _)| key.name));
    }
    Ok(removed)
}

/// `DELETE /v1/jobs/ID?purge`: by the job's tenant, or by those who run the service.
pub(super) async fn purge(api: &Api, request: &Request, id: &str) -> Result<Reply, Problem> {
    let (caller, id) = (api.keys.caller(request)?, job_id(id)?);
    let found = api.desk.queue.whose(id).await.map_err(of_queue)?;
    let is_own = |tenant: &Tenant| caller.is_admin || *tenant == caller.tenant;
    let (tenant, document) = found.filter(|(tenant, _)| is_own(tenant)).ok_or_else(no_such_job)?;
    let purger = api.desk.purger.as_ref().ok_or_else(no_such_job)?;
    let _closed = api.desk.doors.close(&api.shard, document.source.key).await?;
    let remains = match api.desk.queue.purge(&tenant, id).await.map_err(of_queue)? {
        Purged::Unknown => return Err(no_such_job()),
        Purged::Unended(document) => {
            let detail = format!(
                "The job is {}. Cancel it first (DELETE /v1/jobs/{id}), or wait for its end.",
                name_of(document.state)
            );
            return Err(Problem::new(409, detail).of_kind("about:blank#not-ended", "The job has not ended"));
        }
        Purged::Gone(remains) => remains,
    };
    let (keeps_outputs, keeps_original) = (remains.keeps_outputs, remains.original.is_none());
    let removing = purger.remove(remains).ok_or_else(|| {
        let detail = "The job is forgotten; too many deletions wait, and a later sweep takes its objects.";
        Problem::new(503, detail)
    })?;
    let removed = removing.await.unwrap_or_else(|| Err(StoreError::Io("the service ends".to_owned())));
    let removed = removed.map_err(|error| {
        let Problem { status, detail, .. } = of_store(error);
        Problem::new(
            status,
            format!("The job is forgotten; what is left of its objects goes with a later sweep. {detail}"),
        )
    })?;
    let mut kept = Vec::new();
    if keeps_outputs {
        kept.push("outputs: another job has the same ones");
    }
    if keeps_original {
        kept.push("original and its variants: other works are made of it");
    }
    let Removed { outputs, variants, original, bytes } = removed;
    let told = json!({
        "id": id.to_string(), "tenant": &*tenant.0,
        "removed": {"document": true, "outputs": outputs, "variants": variants, "original": original, "bytes": bytes},
        "kept": kept,
    });
    Ok(private(Reply::json(200, &told)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_entered_or_deleted_never_both() {
        let doors = Arc::new(Doors::default());
        let [one, other] = [1, 2].map(|byte| Key { name: [byte; 32], suffix: Suffix::Original });
        let (first, second) = (doors.try_enter(one).unwrap(), doors.try_enter(one).unwrap());
        assert!(doors.try_close(one).is_none());
        let closed = doors.try_close(other).unwrap();
        drop(first);
        assert!(doors.try_close(one).is_none() && doors.try_enter(other).is_none() && doors.try_close(other).is_none());
        drop(second);
        assert!(doors.try_close(one).is_some(), "and opens again at once");
        drop(closed);
        assert!(doors.try_enter(other).is_some());
        assert_eq!(doors.doors().len(), 0);
    }
}
