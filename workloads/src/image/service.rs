//! The image service as a whole: the machinery that all shards share, and what runs on each of them.
//!
//! ```text
//!   start: queue ─► store ─► CPU lane (first worker) ─► dispatcher, sweeper        before the first shard runs
//!   run:   a door per shard, with the API behind it                                until the engine drains
//!   stop:  dispatcher (what runs is waited for) ─► sweeper ─► queue                after the last shard has ended
//! ```

use std::fmt;
use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use annulus_engine::Shard;
use annulus_engine::plan::Grants;
use annulus_engine::tls::rustls::ServerConfig;
use annulus_engine::tls::rustls::crypto::ring;
use annulus_engine::tls::rustls::pki_types::pem::PemObject;
use annulus_engine::tls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use crossbeam_channel::{RecvTimeoutError, Sender, bounded};

use super::admission::Budget;
use super::api::Api;
use super::config::Config;
use super::dispatch::{self, Desk, Dispatcher, LaneThreads};
use super::keys::Keys;
use super::lanes::cpu::{self, CpuLane};
use super::queue::{Queue, SqliteQueue};
use super::store::{Directory, Objects};
use crate::serve::door::Door;

/// How often orphans are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(3600);
/// A work that needs more than this share of the budget runs alone with others that are small.
const GIANT_SHARE: u64 = 4;

/// The machinery, shared by all shards.
pub struct Image {
    config: Arc<Config>,
    keys: Arc<Keys>,
    desk: Desk,
    tls: Option<Arc<ServerConfig>>,
    /// Taken when the service stops.
    running: Mutex<Option<(Dispatcher, Sweeper)>>,
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Image").field("listen", &self.config.listen).finish_non_exhaustive()
    }
}

impl Image {
    /// Opens the queue and the store, and starts the lanes. Says what an operator must know.
    ///
    /// # Errors
    /// A sentence.
    pub fn start(config: Config) -> Result<Arc<Image>, String> {
        let tls = config.tls.as_ref().map(|(chain, key)| tls(chain, key)).transpose()?;
        let folder = &config.data_dir;
        std::fs::create_dir_all(folder).map_err(|error| {
            format!("image.data_dir {}: {error}. Name a directory that this user may write to", folder.display())
        })?;
        let queue: Arc<dyn Queue> =
            Arc::new(SqliteQueue::open(folder, config.queue.clone()).map_err(|error| error.to_string())?);
        let objects: Arc<dyn Objects> = Arc::new(Directory::open(folder).map_err(|error| error.to_string())?);
        let options =
            cpu::Options { isolation: config.isolation, required: config.sandbox_required, ..cpu::Options::default() };
        let lane = CpuLane::start(options).map_err(|why| format!("the image workers cannot start: {why}"))?;
        for warning in lane.warnings() {
            crate::say!("image     {warning}");
        }
        let sizing = Sizing::of(&config);
        let lanes = vec![LaneThreads { lane: Arc::new(lane), cores: sizing.cores.clone(), idle: true }];
        let budget = Budget::new(sizing.memory_bytes, sizing.memory_bytes / GIANT_SHARE);
        let desk = dispatch::desk(queue, objects, budget, config.marks.clone(), &lanes);
        let cannot = |error: std::io::Error| format!("the image service's threads cannot start: {error}");
        let dispatcher = Dispatcher::start(&desk, lanes, config.dispatch.clone()).map_err(cannot)?;
        let sweeper = Sweeper::start(desk.clone(), config.orphan_age).map_err(cannot)?;
        let keys = Arc::new(Keys::new(&config.tenants, config.admin_key.as_deref(), config.insecure));
        crate::say!("image     data in {}, {sizing}", folder.display());
        if keys.is_open() {
            let who = if config.insecure { "anybody who can reach it" } else { "everybody on this machine" };
            crate::say!("image     NO API KEYS are set ([image.tenants]): {who} may upload, see and cancel all jobs");
        }
        let running = Mutex::new(Some((dispatcher, sweeper)));
        Ok(Arc::new(Image { config: Arc::new(config), keys, desk, tls, running }))
    }

    /// Serves on one shard until the engine drains.
    ///
    /// # Errors
    /// A sentence: the port cannot be had.
    pub async fn run(self: Arc<Self>, shard: Shard) -> Result<(), String> {
        let api = Api::new(&shard, self.config.clone(), self.keys.clone(), self.desk.clone());
        let settings = self.config.settings();
        let door = Door::open(&shard, self.config.listen, settings, self.tls.clone(), Rc::new(api))?;
        if shard.index() == 0 {
            let scheme = if self.tls.is_some() { "https" } else { "http" };
            crate::say!("image     {scheme}://{}/   console: /console", door.address());
        }
        let cut_off = door.serve().await;
        if cut_off > 0 {
            crate::say!("image: {cut_off} connections were cut off after {:?}", self.config.serve.drain_max);
        }
        Ok(())
    }

    /// Ends the machinery, once all shards have ended: what runs is waited for, what waits stays in the queue.
    pub fn stop(&self) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((dispatcher, sweeper)) = running {
            dispatcher.stop();
            drop(sweeper);
        }
    }
}

/// How many works run at once, and what they may hold.
struct Sizing {
    /// One thread each.
    cores: Vec<Option<usize>>,
    memory_bytes: u64,
}

impl Sizing {
    fn of(config: &Config) -> Sizing {
        let grants = Grants::of_this_process();
        let workers = config.workers.unwrap_or_else(|| grants.usable().max(1));
        // A quota grants time on any core; else each thread has its own, and shares it with a shard.
        let core = |index: usize| grants.quota.is_none().then(|| grants.cores[index % grants.cores.len()]);
        let memory_bytes = config.memory_bytes_max.unwrap_or_else(|| memory_granted() / 2);
        Sizing { cores: (0..workers).map(core).collect(), memory_bytes }
    }
}

impl fmt::Display for Sizing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} workers, {} MiB for images in work", self.cores.len(), self.memory_bytes >> 20)
    }
}

/// Bytes that the machine or the control group grants.
fn memory_granted() -> u64 {
    const ASSUMED: u64 = 2 << 30;
    let number = |text: String| text.trim().parse::<u64>().ok();
    let group = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(number);
    let machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:").map(str::to_owned))?;
        Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
    });
    [group, machine].into_iter().flatten().min().unwrap_or(ASSUMED)
}

fn tls(chain: &Path, key: &Path) -> Result<Arc<ServerConfig>, String> {
    let named = |path: &Path, error: &dyn fmt::Display| format!("image: {}: {error}", path.display());
    let certificates = CertificateDer::pem_file_iter(chain)
        .and_then(|certificates| certificates.collect::<Result<Vec<_>, _>>())
        .map_err(|error| named(chain, &error))?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| named(key, &error))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(certificates, private))
        .map_err(|error| named(chain, &error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Removes what nothing refers to, on a thread of its own: at the start, and every hour.
struct Sweeper {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Sweeper {
    fn start(desk: Desk, age: Duration) -> std::io::Result<Sweeper> {
        let (stop, stopped) = bounded::<()>(0);
        let body = move || {
            loop {
                let mut wanted = |keys: &[super::store::Key]| {
                    desk.queue.wanted(keys.to_vec()).wait().map_err(|error| error.to_string())
                };
                match desk.objects.sweep(age, &mut wanted) {
                    Ok(swept) if swept.temporaries + swept.orphans > 0 => crate::say!(
                        "image: removed {} leftovers and {} orphans, {} MiB",
                        swept.temporaries,
                        swept.orphans,
                        swept.bytes >> 20
                    ),
                    Ok(_) => {}
                    Err(error) => crate::say!("image: the sweep ended early and is repeated later: {error}"),
                }
                if stopped.recv_timeout(SWEEP_EVERY) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("image-sweep".to_owned()).spawn(body)?;
        Ok(Sweeper { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so.
            let _ended = thread.join();
        }
    }
}
