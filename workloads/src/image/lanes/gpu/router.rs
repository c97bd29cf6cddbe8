//! Which lane a job goes to: the one that is expected to have it done sooner, by what both have taken so far and by what
//! waits before them. Pure: whoever asks brings the state, and gets the reason in words.

use std::fmt;
use std::time::Duration;

use super::supervisor::DOWN;

/// How much a new measurement weighs in a mean.
const WEIGHT: f64 = 0.05;
/// How much of what speaks against the GPU is forgotten with each job that the CPU does: whoever is never asked cannot show
/// that it has recovered. A tenth of a measurement's weight, so that one that is still slow gets few jobs.
const FORGOTTEN: f64 = 0.005;
/// What the GPU is credited with at the start, in microseconds of its own time per megapixel and job. Measured on an
/// H100 with three outputs: 3 ms for 24 megapixels; a slower device corrects it within some batches.
const GPU_US_PER_MEGAPIXEL: f64 = 130.0;
/// Jobs from which on a lane is busy: then times tell of its pace, and with fewer of what a batch takes.
const CROWD: usize = 14;
/// What a batch takes from being sent to being done, at the start.
const GPU_LATENCY_US: f64 = 100_000.0;

/// Why a job went the way that it went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// Its outputs, or the configuration, ask for that lane.
    Asked,
    /// That lane was expected to have it done sooner.
    Sooner {
        /// When the GPU was expected to be done.
        gpu: Duration,
        /// And the CPU.
        cpu: Duration,
    },
    /// The other lane is for others.
    Unsuited(String),
    /// The GPU lane is down or full, or its worker's result made no sense, or was lost before it had begun.
    Down(String),
    /// It was under way when the GPU's worker was lost.
    Lost(String),
    /// Workers were lost with it before.
    Suspect,
}

impl Why {
    /// All labels.
    pub const LABELS: [&'static str; 6] = ["asked", "sooner", "unsuited", "down", "lost", "suspect"];

    /// A word for metrics: the place of it in [`Why::LABELS`].
    pub fn label(&self) -> usize {
        match self {
            Why::Asked => 0,
            Why::Sooner { .. } => 1,
            Why::Unsuited(_) => 2,
            Why::Down(_) => 3,
            Why::Lost(_) => 4,
            Why::Suspect => 5,
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Asked => f.write_str("this lane was asked for"),
            Why::Sooner { gpu, cpu } => {
                let ms = |time: &Duration| time.as_secs_f64() * 1e3;
                write!(f, "expected: gpu {:.0} ms, cpu {:.0} ms", ms(gpu), ms(cpu))
            }
            Why::Unsuited(why) | Why::Down(why) | Why::Lost(why) => f.write_str(why),
            Why::Suspect => f.write_str("the GPU's workers were lost with this image before"),
        }
    }
}

/// A lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The CPU lane.
    Cpu,
    /// The GPU lane.
    Gpu,
}

/// What waits before a job.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct State {
    /// Microseconds of one core that are begun or wait in the CPU lane, as predicted.
    pub cpu_us: u64,
    /// Cores that work it off.
    pub cores: usize,
    /// Megapixels that are begun or wait in the GPU lane.
    pub gpu_megapixels: f64,
    /// Whether the GPU lane is up.
    pub gpu_up: bool,
}

/// A job, as the router sees it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Load {
    /// Microseconds of one core, as predicted from the header.
    pub cpu_us: u64,
    /// Megapixels of the source.
    pub megapixels: f64,
}

/// What was learned.
#[derive(Clone, Debug)]
pub struct Router {
    /// Measured by predicted time of the CPU lane.
    cpu_factor: f64,
    gpu_us_per_megapixel: f64,
    gpu_latency_us: f64,
}

impl Default for Router {
    fn default() -> Router {
        Router { cpu_factor: 1.0, gpu_us_per_megapixel: GPU_US_PER_MEGAPIXEL, gpu_latency_us: GPU_LATENCY_US }
    }
}

impl Router {
    /// Decides for a job that the GPU could do, and says why.
    pub fn choose(&self, load: Load, state: State) -> (Way, Why) {
        if !state.gpu_up {
            return (Way::Cpu, Why::Down(DOWN.to_owned()));
        }
        let (cpu, gpu) = (self.expect_cpu(load, state), self.expect_gpu(load, state));
        (if gpu < cpu { Way::Gpu } else { Way::Cpu }, Why::Sooner { gpu, cpu })
    }

    /// When the CPU lane would be done with it.
    fn expect_cpu(&self, load: Load, state: State) -> Duration {
        let waits = state.cpu_us as f64 / state.cores.max(1) as f64;
        micros((waits + load.cpu_us as f64) * self.cpu_factor)
    }

    /// When the GPU lane would be: behind what waits, and not sooner than a batch takes.
    fn expect_gpu(&self, load: Load, state: State) -> Duration {
        let waits = (state.gpu_megapixels + load.megapixels) * self.gpu_us_per_megapixel;
        micros(waits.max(self.gpu_latency_us))
    }

    /// Learns from a job of the CPU lane.
    pub fn on_cpu(&mut self, load: Load, took: Duration) {
        let forget = |learned: &mut f64, credited: f64| *learned -= FORGOTTEN * (*learned - credited).max(0.0);
        forget(&mut self.gpu_latency_us, GPU_LATENCY_US);
        forget(&mut self.gpu_us_per_megapixel, GPU_US_PER_MEGAPIXEL);
        if load.cpu_us > 0 {
            let factor = took.as_secs_f64() * 1e6 / load.cpu_us as f64;
            self.cpu_factor += WEIGHT * (factor.clamp(0.1, 20.0) - self.cpu_factor);
        }
    }

    /// Learns from a job of the GPU lane: how long it took, and how many others were there at the same time.
    pub fn on_gpu(&mut self, load: Load, took: Duration, at_once: usize) {
        if load.megapixels > 0.0 {
            let took = took.as_secs_f64() * 1e6;
            // What a lane does in a time is what is in it by how long that stays (Little's law).
            let share = took / at_once.max(1) as f64 / load.megapixels;
            if at_once >= CROWD {
                self.gpu_us_per_megapixel += WEIGHT * (share - self.gpu_us_per_megapixel);
            } else {
                self.gpu_latency_us += WEIGHT * (took - self.gpu_latency_us);
            }
        }
    }
}

fn micros(us: f64) -> Duration {
    Duration::from_secs_f64(us.max(0.0) / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PHOTO: Load = Load { cpu_us: 160_000, megapixels: 24.0 };
    const THUMBNAIL: Load = Load { cpu_us: 50_000, megapixels: 24.0 };

    fn state(cpu_jobs: u64, gpu_jobs: f64) -> State {
        State { cpu_us: cpu_jobs * 160_000, cores: 16, gpu_megapixels: gpu_jobs * 24.0, gpu_up: true }
    }

    #[test]
    fn the_sooner_lane_is_chosen_and_the_reason_is_told() {
        let router = Router::default();
        assert_eq!(router.choose(THUMBNAIL, state(0, 0.0)).0, Way::Cpu);
        let (way, why) = router.choose(PHOTO, state(16, 0.0));
        assert_eq!((way, why.to_string().as_str()), (Way::Gpu, "expected: gpu 100 ms, cpu 320 ms"));
        assert_eq!(router.choose(PHOTO, state(16, 400.0)).0, Way::Cpu);
        assert_eq!(router.choose(PHOTO, State { gpu_up: false, ..state(500, 0.0) }).0, Way::Cpu);
    }

    #[test]
    fn a_slow_gpu_is_found_out_and_forgiven() {
        let mut router = Router::default();
        for _ in 0..100 {
            router.on_gpu(PHOTO, Duration::from_secs(5), 1);
        }
        assert_eq!(router.choose(PHOTO, state(16, 0.0)).0, Way::Cpu);
        for _ in 0..100 {
            router.on_gpu(PHOTO, Duration::from_millis(60), 3);
        }
        assert_eq!(router.choose(PHOTO, state(16, 0.0)).0, Way::Gpu);
    }

    #[test]
    fn a_gpu_that_was_slow_is_asked_again_in_the_end() {
        let mut router = Router::default();
        for _ in 0..100 {
            router.on_gpu(PHOTO, Duration::from_secs(5), 1);
        }
        let mut jobs = 0;
        while router.choose(PHOTO, state(16, 0.0)).0 == Way::Cpu {
            router.on_cpu(PHOTO, Duration::from_millis(160));
            jobs += 1;
        }
        assert!((100..1000).contains(&jobs), "after {jobs} jobs");
        // Still slow, it is left alone again after one.
        router.on_gpu(PHOTO, Duration::from_secs(5), 1);
        assert_eq!(router.choose(PHOTO, state(16, 0.0)).0, Way::Cpu);
    }

    #[test]
    fn the_pace_of_a_busy_gpu_is_learned() {
        let mut router = Router::default();
        assert_eq!(router.choose(PHOTO, state(32, 60.0)).0, Way::Gpu);
        for _ in 0..100 {
            router.on_gpu(PHOTO, Duration::from_secs(2), 60);
        }
        assert_eq!(router.choose(PHOTO, state(32, 60.0)).0, Way::Cpu);
        assert_eq!(router.choose(PHOTO, state(32, 1.0)).0, Way::Gpu);
    }

    #[test]
    fn a_slow_cpu_is_found_out() {
        let mut router = Router::default();
        assert_eq!(router.choose(THUMBNAIL, state(0, 0.0)).0, Way::Cpu);
        for _ in 0..100 {
            router.on_cpu(THUMBNAIL, Duration::from_millis(500));
        }
        assert_eq!(router.choose(THUMBNAIL, state(0, 0.0)).0, Way::Gpu);
    }
}
