//! Variants on their way through the lanes: beside the queue, which knows nothing of them.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use super::{Assignment, Clerk, Duty, End, Hand, Shared, Unstored};
use crate::image::admission::Reservation;
use crate::image::fault::{Fault, Kind};
use crate::image::lanes::{self, Done, Stop, Task};
use crate::image::store::{Key, Put};
use crate::image::variants::{Call, Made, Refused, Wish};

/// Variants in a row while works wait in the queue: then one of those goes first, so that jobs take longer and do not stand
/// still, however many variants are asked for.
const IN_A_ROW_MAX: usize = 3;
/// Threads that make variants are the first lane's.
const LANE: usize = 0;
/// Another lane's pixels may differ by a hair, and a variant that is made again has to be the same to the byte: its entity tag
/// says so.
const ONLY_CPU: &str = "a variant";

/// What the queue may have of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// All threads that are free.
    All,
    /// One of them, and variants again after that.
    One,
    /// None: a variant waits for bytes, which would never be free if others took them.
    None,
}

impl Clerk {
    pub(super) fn wish(&mut self, (wish, waiter): Call) {
        self.counter.take(Instant::now(), wish, waiter, self.shared.desk.gate.pace());
    }

    /// Hands out variants, as far as the lane's threads and the bytes go.
    pub(super) fn serve(&mut self, lane: usize) -> Turn {
        while lane == LANE && self.room(lane) > 0 {
            let Some(wish) = self.counter.first() else {
                self.in_a_row = 0;
                return Turn::All;
            };
            if self.in_a_row >= IN_A_ROW_MAX && self.shared.desk.queue.depth().waiting() > 0 {
                self.in_a_row = 0;
                return Turn::One;
            }
            let budget = self.shared.desk.gate.budget();
            let (needs, total) = (wish.cost.peak_bytes, budget.total());
            if needs > total {
                self.counter.refuse(Instant::now(), super::too_large(needs, total));
                continue;
            }
            let Some(reservation) = budget.reserve(needs) else {
                // A giant that waits for another one's end does not wait for bytes.
                return if budget.is_giant_free() { Turn::None } else { Turn::All };
            };
            let stop = Stop::default();
            self.counter.begin(&stop);
            self.in_a_row += 1;
            self.hand(lane, Assignment { duty: Duty::Variant(wish), stop, reservation });
        }
        Turn::All
    }
}

impl Hand {
    pub(super) fn variant(&self, wish: &Arc<Wish>, stop: &Stop, reservation: Reservation, began: Instant) {
        let shared = &self.shared;
        let task = shared.task(&wish.original, &wish.header, &wish.recipes, &wish.cost, stop);
        let task = task.map(|task| Task { only_cpu: Some(ONLY_CPU), ..task });
        let ran = task.and_then(|task| self.pixels(task));
        drop(reservation);
        match ran {
            Ok(done) => {
                shared.desk.gate.pace().observe(wish.cost.cpu_us, done.share.unwrap_or_else(|| began.elapsed()));
                let unstored = Unstored::Variant { key: wish.key, done };
                assert!(self.storing.send(unstored).is_ok(), "the storing threads end after the lanes");
            }
            Err(fault) => self.end(End::Variant(wish.key, Err(Refused::Fault(fault)))),
        }
    }
}

impl Shared {
    /// Stores a variant, for which others may have to go.
    pub(super) fn keep(&self, key: Key, done: Done) -> Result<Made, Refused> {
        let outputs: Result<[lanes::Made; 1], _> = done.outputs.try_into();
        let [output] = outputs.map_err(|outputs| {
            Refused::Fault(Fault::new(Kind::Crashed, format!("one output was asked for, and {} came", outputs.len())))
        })?;
        let objects = &self.desk.objects;
        let put = objects.put(&key, &mut io::Read::take(&output.file, output.len)).map_err(Refused::Store)?;
        if let (Put::Created(bytes), Some(variants)) = (put, &self.desk.variants) {
            for gone in variants.cache.entered(key, bytes) {
                // Counted again with the next sweep, which finds it.
                if let Err(error) = objects.delete(&gone) {
                    crate::warn!("image: a variant that has to go stays for now: {error}");
                }
            }
        }
        Ok(Made { format: output.format })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;
    use std::time::Duration;

    use annulus_engine::compute::Reply;

    use super::*;
    use crate::image::dispatch::stand_in::{Rig, expected};
    use crate::image::dispatch::{DispatchOptions, Dispatcher};
    use crate::image::format::Format;
    use crate::image::queue::QueueOptions;
    use crate::image::queue::trial::{Home, header};
    use crate::image::recipe::Recipe;
    use crate::image::variants::{VariantSettings, Variants};

    type Answer = Reply<Result<Made, Refused>>;

    fn rig(home: &Home, threads: usize, takes_ms: u64, settings: VariantSettings) -> Rig {
        let mut rig = Rig::new(home.path(), threads, Duration::from_millis(takes_ms), QueueOptions::DEFAULT);
        rig.desk.variants = Some(Arc::new(Variants::new(settings)));
        rig
    }

    fn start(rig: &Rig) -> Dispatcher {
        Dispatcher::start(&rig.desk, rig.lanes.clone(), DispatchOptions::DEFAULT).unwrap()
    }

    fn variants(rig: &Rig) -> &Arc<Variants> {
        rig.desk.variants.as_ref().unwrap()
    }

    /// The wish for a variant of this content, which is in the store.
    fn wish(rig: &Rig, content: &[u8], width: u32) -> Wish {
        let original = rig.stored("a", content).work.original;
        let mut recipe = Recipe::named("variant");
        recipe.padding = [0, width, 0, 0];
        let key = rig.desk.queue.salt().variant(&original, &recipe);
        let mut wish = Wish::of(key, original, content.len() as u64, header(), recipe);
        wish.cost.peak_bytes = 100 << 20;
        wish
    }

    fn ask(rig: &Rig, content: &[u8], width: u32) -> Answer {
        variants(rig).ask(wish(rig, content, width))
    }

    const MADE: Option<Result<Made, Refused>> = Some(Ok(Made { format: Format::Jpeg }));

    #[test]
    fn many_who_ask_cost_one_making() {
        let home = Home::new("variants");
        let rig = rig(&home, 2, 20, VariantSettings::default());
        let answers: Vec<Answer> = (0..50).map(|_| ask(&rig, b"photo", 1)).collect();
        let dispatcher = start(&rig);
        for answer in answers {
            assert_eq!(answer.wait(), MADE);
        }
        dispatcher.stop();
        assert_eq!(rig.lane.runs.load(Ordering::Relaxed), 1);
        let key = wish(&rig, b"photo", 1).key;
        assert_eq!(rig.desk.objects.get(&key, 0..1000).unwrap(), expected("variant", b"photo"));
        let cache = &variants(&rig).cache;
        assert_eq!((cache.entries(), cache.bytes()), (1, 12));
        assert_eq!(rig.desk.gate.budget().used(), 0);
    }

    #[test]
    fn variants_go_first_and_the_queue_goes_on() {
        let home = Home::new("variants");
        let rig = rig(&home, 1, 5, VariantSettings::default());
        for number in 0..20 {
            rig.upload("a", format!("job {number}").as_bytes());
        }
        let answers: Vec<Answer> = (0..12).map(|width| ask(&rig, b"photo", width)).collect();
        let dispatcher = start(&rig);
        for answer in answers {
            assert_eq!(answer.wait(), MADE);
        }
        dispatcher.stop();
        // Jobs have two outputs here, variants one. One job perhaps before anybody was heard, and one after every three.
        let outputs = rig.lane.outputs.lock().unwrap();
        let last = outputs.iter().rposition(|outputs| *outputs == 1).unwrap();
        let jobs = outputs[..last].iter().filter(|outputs| **outputs == 2).count();
        assert!((3..=5).contains(&jobs), "{outputs:?}");
    }

    #[test]
    fn what_will_never_fit_is_refused_and_what_does_not_fit_now_waits() {
        let home = Home::new("variants");
        let rig = rig(&home, 2, 1, VariantSettings::default());
        let budget = rig.desk.gate.budget().clone();
        let others = [(); 2].map(|()| budget.reserve(budget.total() / 2 - (25 << 20)).unwrap());
        let dispatcher = start(&rig);
        let mut huge = wish(&rig, b"photo", 1);
        huge.cost.peak_bytes = budget.total() + 1;
        match variants(&rig).ask(huge).wait() {
            Some(Err(Refused::Fault(fault))) => assert_eq!(fault.kind, Kind::TooLarge),
            other => panic!("{other:?}"),
        }
        let waits = ask(&rig, b"photo", 2);
        drop(others);
        assert_eq!(waits.wait(), MADE);
        dispatcher.stop();
    }

    #[test]
    fn faults_are_told_and_not_tried_again_at_once() {
        let home = Home::new("variants");
        let rig = rig(&home, 1, 1, VariantSettings::default());
        let dispatcher = start(&rig);
        for (content, kind) in [(&b"bad---"[..], Kind::BadImage), (b"panics", Kind::Crashed)] {
            for _ in 0..3 {
                match ask(&rig, content, 1).wait() {
                    Some(Err(Refused::Fault(fault))) => assert_eq!(fault.kind, kind),
                    other => panic!("{other:?}"),
                }
            }
        }
        assert_eq!(rig.lane.runs.load(Ordering::Relaxed), 2);
        // The thread that ran them is there for the next one.
        assert_eq!(ask(&rig, b"photo", 1).wait(), MADE);
        dispatcher.stop();
    }

    #[test]
    fn the_oldest_leave_the_store_for_the_newest() {
        let home = Home::new("variants");
        let rig = rig(&home, 1, 1, VariantSettings { bytes_max: 24, ..VariantSettings::default() });
        let dispatcher = start(&rig);
        for width in 1..=5 {
            assert_eq!(ask(&rig, b"photo", width).wait(), MADE);
        }
        dispatcher.stop();
        let is_there = |width| rig.desk.objects.head(&wish(&rig, b"photo", width).key).unwrap().is_some();
        assert_eq!((1..=5).map(is_there).collect::<Vec<_>>(), [false, false, false, true, true]);
        let cache = &variants(&rig).cache;
        assert_eq!((cache.entries(), cache.bytes(), cache.evicted()), (2, 24, 3));
    }

    #[test]
    fn an_ending_service_tells_who_waits() {
        let home = Home::new("variants");
        let rig = rig(&home, 1, 1, VariantSettings::default());
        let options = DispatchOptions { grace: Duration::from_millis(50), ..DispatchOptions::DEFAULT };
        let dispatcher = Dispatcher::start(&rig.desk, rig.lanes.clone(), options).unwrap();
        let slow = ask(&rig, b"slow photo", 1);
        while rig.lane.running.load(Ordering::Relaxed) == 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
        let waits = ask(&rig, b"photo", 1);
        dispatcher.stop();
        assert!(matches!(slow.wait(), Some(Err(Refused::Fault(fault))) if fault.kind == Kind::Stopped));
        assert_eq!(waits.wait(), None);
    }
}
