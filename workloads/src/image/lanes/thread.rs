//! The pipeline in the lane's own thread, for those who choose `isolation = "thread"`: no process to start or to
//! switch to, and no wall around the codecs. A crash of one is a crash of the server, and memory has no limit.

use std::any::Any;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::child::{memory_file, seal};
use super::cpu::Options;
use super::wire::tame;
use super::worker::{cancelled, timed_out};
use super::{Done, Made, Stop, Task, Told};
use crate::image::fault::{Fault, Kind};
use crate::image::pipeline::pixels::Pool;
use crate::image::pipeline::watermark::Marks;
use crate::image::pipeline::{Output, Wanted, Watch};

/// Warm buffers, one pool per thread that ever ran at the same time.
#[derive(Debug)]
pub(super) struct Threads {
    idle: Mutex<Vec<Pool>>,
    marks: Marks,
}

impl Threads {
    /// None have run yet.
    pub fn new(marks: Marks) -> Threads {
        Threads { idle: Mutex::default(), marks }
    }

    /// Does a task here and now.
    pub fn run(&self, task: &Task, options: &Options) -> Result<Done, Fault> {
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let warm = idle().pop();
        let mut pool = warm.unwrap_or_else(|| Pool::new(options.pool_bytes_max as usize));
        let ended = catch_unwind(AssertUnwindSafe(|| process(task, options, &self.marks, &mut pool)));
        let ended = ended.unwrap_or_else(|panic| {
            Err(Fault::new(Kind::Crashed, format!("the pipeline panicked: {}", tame(words(&*panic)))))
        });
        idle().push(pool);
        ended
    }
}

fn process(task: &Task, options: &Options, marks: &Marks, pool: &mut Pool) -> Result<Done, Fault> {
    let io = |what: &'static str| move |error: std::io::Error| Fault::new(Kind::Io, format!("{what}: {error}"));
    let watch = Watching { stop: &task.stop, until: Instant::now() + task.time_max, time_max: task.time_max };
    pool.count_from_here();
    let mut bytes = pool.take(task.len as usize);
    task.input.read_exact_at(&mut bytes, 0).map_err(io("the original could not be read"))?;
    let mut outputs: Vec<Option<Made>> = task.recipes.iter().map(|_| None).collect();
    let mut made = |output: Output| {
        let (Some(recipe), Some(place)) = (task.recipes.get(output.index), outputs.get_mut(output.index)) else {
            return Err(Fault::new(Kind::Io, "an output that nobody asked for"));
        };
        let len = output.bytes.len() as u64;
        if len > options.output_bytes_max {
            let max = options.output_bytes_max;
            let sentence = format!("an output of {len} bytes is beyond output_bytes_max = {max}");
            return Err(Fault::new(Kind::TooLarge, sentence));
        }
        let file = memory_file().map_err(io("a memory file"))?;
        file.write_all_at(&output.bytes, 0).map_err(io("an output could not be written"))?;
        seal(&file).map_err(io("an output cannot be sealed"))?;
        let Output { format, width, height, placeholders, .. } = output;
        *place = Some(Made { name: recipe.name.clone(), format, width, height, file, len, placeholders });
        Ok(())
    };
    let wanted = Wanted { header: &task.header, recipes: &task.recipes, marks };
    let processed = options.processor.process(&bytes, wanted, pool, &watch, &mut made);
    pool.give(bytes);
    let timings = processed?;
    let outputs: Option<Vec<Made>> = outputs.into_iter().collect();
    let outputs = outputs.ok_or_else(|| Fault::new(Kind::Crashed, "the pipeline left an output out"))?;
    let peak_bytes = pool.peak_bytes() as u64 + outputs.iter().map(|output| output.len).sum::<u64>();
    Ok(Done { outputs, timings, peak_bytes, told: Told::CPU, share: None })
}

/// What a panic said.
fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("something that is no text")
}

struct Watching<'a> {
    stop: &'a Stop,
    until: Instant,
    time_max: Duration,
}

impl Watch for Watching<'_> {
    fn check(&self) -> Result<(), Fault> {
        if self.stop.is_stopped() {
            return Err(cancelled());
        }
        if Instant::now() >= self.until { Err(timed_out(self.time_max)) } else { Ok(()) }
    }
}
