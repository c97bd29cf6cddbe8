//! Events that wait for the backend: numbered, bounded, and written as batches. It knows no socket and no clock.
//!
//! ```text
//!   push ─► number ─► is there room?  yes ─► waits ─► batch, which it still waits in ─► forget: taken, or a dead letter
//!                                     no ──► the number is a gap in what is told
//! ```
//!
//! Newer events give way, not older ones: those that wait may be part of a request that is under way.

use std::collections::VecDeque;

use annulus_protocols::json::write_string;

use super::{Event, put};
use crate::chat::hub::SHARDS_MAX;

/// Bytes of the events of one request. A batch ends before it would have more, or has one event.
pub const BATCH_BYTES_MAX: usize = 256 << 10;
/// Bytes of memory of what waits on a node, shared out among its shards. Beyond, newer events are dropped.
pub const WAITING_BYTES_MAX: usize = 64 << 20;
const _: () = assert!(WAITING_BYTES_MAX / SHARDS_MAX >= 2 * BATCH_BYTES_MAX, "a batch fills while one is under way");
/// Places that are kept when nothing waits: what a storm needed is given back after it.
const PLACES_KEPT: usize = 1024;

/// Who tells: the head of every request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Names this run of the node.
    pub node: String,
    /// What the node calls itself.
    pub name: String,
    /// The shard; numbers are its own.
    pub shard: usize,
}

/// There is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// Events of one request; they wait until they are forgotten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The number of the first.
    pub first: u64,
    /// The number of the last; some between the two may be missing.
    pub last: u64,
    /// How many they are.
    pub count: usize,
    /// All of them, as JSON.
    pub body: Vec<u8>,
}

/// See the module's description.
#[derive(Debug)]
pub struct Queue {
    waiting: VecDeque<(u64, Event)>,
    bytes: usize,
    /// Events that had a number, told or not.
    numbered: u64,
    count_max: usize,
    bytes_max: usize,
}

impl Queue {
    /// An empty one, for so many events of so many bytes of memory.
    pub fn new(count_max: usize, bytes_max: usize) -> Queue {
        Queue { waiting: VecDeque::new(), bytes: 0, numbered: 0, count_max, bytes_max }
    }

    /// Numbers an event, and keeps it.
    ///
    /// # Errors
    /// There is no room for it; its number is not given again.
    pub fn push(&mut self, event: Event) -> Result<(), Full> {
        self.numbered += 1;
        let bytes = self.bytes + event.bytes();
        if self.waiting.len() >= self.count_max || bytes > self.bytes_max {
            return Err(Full);
        }
        self.bytes = bytes;
        self.waiting.push_back((self.numbered, event));
        Ok(())
    }

    /// The first ones, at most `count_max` and [`BATCH_BYTES_MAX`], and one at least; `None`: there are none.
    pub fn batch(&self, from: &Origin, count_max: usize) -> Option<Batch> {
        let (first, _) = self.waiting.front()?;
        let mut body = from.head();
        let (begin, mut last, mut count) = (body.len(), *first, 0);
        for (number, event) in self.waiting.iter().take(count_max.max(1)) {
            let end = body.len();
            if count > 0 {
                body.push(b',');
            }
            event.write(*number, &mut body);
            if count > 0 && body.len() - begin > BATCH_BYTES_MAX {
                body.truncate(end);
                break;
            }
            (last, count) = (*number, count + 1);
        }
        body.extend_from_slice(b"]}");
        Some(Batch { first: *first, last, count, body })
    }

    /// Forgets so many of the first ones.
    pub fn forget(&mut self, count: usize) {
        let forgotten = self.waiting.drain(..count.min(self.waiting.len()));
        self.bytes -= forgotten.map(|(_, event)| event.bytes()).sum::<usize>();
        if self.waiting.is_empty() {
            self.waiting.shrink_to(PLACES_KEPT);
        }
    }

    /// Events that wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether none do.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

impl Origin {
    fn head(&self) -> Vec<u8> {
        let mut out = b"{\"node\":".to_vec();
        write_string(&mut out, &self.node);
        put(&mut out, format_args!(",\"node_name\":"));
        write_string(&mut out, &self.name);
        put(&mut out, format_args!(",\"shard\":{},\"events\":[", self.shard));
        out
    }
}

#[cfg(test)]
mod tests {
    use super::super::What;
    use super::*;

    fn origin() -> Origin {
        Origin { node: "n".to_owned(), name: "\u{e9}\"".to_owned(), shard: 3 }
    }

    fn occupied(length: usize) -> Event {
        Event { time_ms: 5, what: What::Occupied("x".repeat(length).into()) }
    }

    #[test]
    fn a_batch_is_json_and_waits_until_it_is_forgotten() {
        let mut queue = Queue::new(10, usize::MAX);
        assert_eq!(queue.batch(&origin(), 10), None);
        for length in 1..=3 {
            queue.push(occupied(length)).unwrap();
        }
        let batch = queue.batch(&origin(), 2).unwrap();
        assert_eq!((batch.first, batch.last, batch.count), (1, 2, 2));
        assert_eq!(
            String::from_utf8(batch.body.clone()).unwrap(),
            "{\"node\":\"n\",\"node_name\":\"\u{e9}\\\"\",\"shard\":3,\"events\":[\
             {\"number\":1,\"type\":\"occupied\",\"time_ms\":5,\"channel\":\"x\"},\
             {\"number\":2,\"type\":\"occupied\",\"time_ms\":5,\"channel\":\"xx\"}]}"
        );
        assert!(annulus_protocols::json::validate(&batch.body).is_ok());
        assert_eq!(queue.batch(&origin(), 2).as_ref(), Some(&batch), "the same again");
        queue.forget(batch.count);
        let batch = queue.batch(&origin(), 2).unwrap();
        assert_eq!((batch.first, batch.last, batch.count), (3, 3, 1));
        queue.forget(9);
        assert!(queue.is_empty() && queue.bytes == 0);
    }

    #[test]
    fn a_batch_has_so_many_bytes_or_one_event() {
        let mut queue = Queue::new(100, usize::MAX);
        for length in [BATCH_BYTES_MAX / 2, BATCH_BYTES_MAX / 4, BATCH_BYTES_MAX / 2, 2 * BATCH_BYTES_MAX, 1] {
            queue.push(occupied(length)).unwrap();
        }
        let mut counts = Vec::new();
        while let Some(batch) = queue.batch(&origin(), 100) {
            assert!(batch.count == 1 || batch.body.len() <= BATCH_BYTES_MAX + 100);
            assert!(annulus_protocols::json::validate(&batch.body).is_ok());
            counts.push(batch.count);
            queue.forget(batch.count);
        }
        assert_eq!(counts, [2, 1, 1, 1]);
    }

    #[test]
    fn what_has_no_room_is_a_gap() {
        let mut queue = Queue::new(2, usize::MAX);
        let pushed: Vec<bool> = (0..4).map(|_| queue.push(occupied(1)).is_ok()).collect();
        assert_eq!((pushed, queue.len()), (vec![true, true, false, false], 2));
        queue.forget(1);
        queue.push(occupied(1)).unwrap();
        let batch = queue.batch(&origin(), 10).unwrap();
        assert_eq!((batch.first, batch.last, batch.count), (2, 5, 2));
    }

    #[test]
    fn memory_is_bounded_too() {
        let one = occupied(100).bytes();
        let mut queue = Queue::new(usize::MAX, 3 * one);
        let pushed = (0..10).filter(|_| queue.push(occupied(100)).is_ok()).count();
        assert_eq!((pushed, queue.push(occupied(1))), (3, Err(Full)));
        queue.forget(1);
        assert_eq!((queue.push(occupied(101)), queue.push(occupied(100))), (Err(Full), Ok(())));
    }

    #[test]
    fn what_a_storm_needed_is_given_back() {
        let mut queue = Queue::new(usize::MAX, usize::MAX);
        (0..100_000).for_each(|_| queue.push(occupied(1)).unwrap());
        queue.forget(100_000);
        assert!(queue.waiting.capacity() <= 2 * PLACES_KEPT, "{}", queue.waiting.capacity());
    }
}
