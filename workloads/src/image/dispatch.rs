//! From the queue to the lanes and back.

use std::sync::Arc;

use super::queue::Queue;
use super::store::Objects;

/// What every shard holds of the machinery: the door, the queue and the store. Cheap to clone.
#[derive(Clone)]
pub struct Desk {
    /// The durable queue.
    pub queue: Arc<dyn Queue>,
    /// The object store; `objects.on_shard(&shard)` gives the shard's own side.
    pub objects: Arc<dyn Objects>,
    /// Says yes, later or no, before the first byte of an upload and again with its order.
    pub gate: Arc<super::admission::Gate>,
}
