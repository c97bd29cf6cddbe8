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

use annulus_engine::Shard;
use annulus_engine::metrics::ShardMetrics;
use annulus_engine::plan::Plan;
use annulus_engine::tls::rustls::crypto::ring;
use annulus_engine::tls::rustls::pki_types::pem::PemObject;
use annulus_engine::tls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use annulus_engine::tls::rustls::{ClientConfig, ServerConfig};

use super::api::Api;
use super::audit;
use super::config::Config;
use super::dispatch::{self, Account, Desk, Dispatcher, LaneThreads, Telling};
use super::fault::{Fault, Kind};
use super::header::{self, Progress};
use super::keys::Keys;
use super::lanes::Lane;
use super::lanes::cpu::{self, CpuLane};
use super::lanes::gpu::GpuLane;
use super::lanes::gpu::both::BothLanes;
use super::lanes::gpu::settings::Mode;
use super::meters;
use super::outbox::Outbox;
use super::plan::{Gpu, ImagePlan, Machine, measure};
use super::purge::Purger;
use super::queue::{Queue, RedisQueue, SqliteQueue};
use super::store::{Directory, Objects, S3};
use super::sweep::Sweeper;
use super::tus::{self, Tus};
use super::variants::Variants;
use super::webhooks;
use crate::outbound::trusted;
use crate::serve::door::Door;

/// The machinery, shared by all shards.
pub struct Image {
    config: Arc<Config>,
    keys: Arc<Keys>,
    desk: Desk,
    tls: Option<Arc<ServerConfig>>,
    /// What the server is verified by that is told how jobs ended.
    trusted: Option<Arc<ClientConfig>>,
    /// Taken when the service stops.
    running: Mutex<Option<(Dispatcher, Sweeper)>>,
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Image").field("listen", &self.config.listen).finish_non_exhaustive()
    }
}

impl Image {
    /// Whether the service could start, as far as that is known without its queue: another process may have that still.
    ///
    /// # Errors
    /// A sentence.
    pub fn check(config: &Config) -> Result<(), String> {
        config.clone().load()?;
        config.tls.as_ref().map(|(chain, key)| tls(chain, key)).transpose()?;
        config.webhooks.as_ref().map(|_| trusted()).transpose().map(drop)
    }

    /// Opens the queue and the store, and starts the lanes on what the engine's plan leaves. Says what an operator must
    /// know.
    ///
    /// # Errors
    /// A sentence.
    pub fn start(mut config: Config, engine: &Plan) -> Result<Arc<Image>, String> {
        config.load()?;
        let tls = config.tls.as_ref().map(|(chain, key)| tls(chain, key)).transpose()?;
        let trusted = config.webhooks.as_ref().map(|_| trusted()).transpose()?;
        let (queue, outbox) = queue(&config)?;
        let objects = objects(&config)?;
        let cpu = cpu_lane(&config)?;
        for warning in cpu.warnings() {
            crate::warn!("image     {warning}");
        }
        let (gpu, facts) = gpu_lane(&config)?;
        let staging = gpu.as_ref().map_or(0, GpuLane::host_bytes);
        let plan = ImagePlan::new(&Machine::of_this_process(facts, staging), &config.knobs);
        let (cores, idle) = plan.cores(engine);
        let cpu: Arc<dyn Lane> = Arc::new(cpu);
        let both = gpu.map(|gpu| Arc::new(BothLanes::new(cpu.clone(), Some(gpu), config.gpu.lane, plan.workers)));
        let lanes = match both.clone() {
            // Its threads mostly wait for the device, so they are many, and the system places them.
            Some(both) => {
                LaneThreads { cores: vec![None; both.concurrency()], lane: both, idle, workers: plan.workers }
            }
            None => LaneThreads { lane: cpu, cores, idle, workers: plan.workers },
        };
        let lanes = vec![lanes];
        let mut desk = dispatch::desk(queue, objects, plan.budget(), config.knobs.marks.clone(), &lanes);
        desk.both = both;
        desk.variants = config.variants.clone().map(|settings| Arc::new(Variants::new(settings)));
        desk.tus = config
            .offers_tus()
            .then(|| Tus::open(&config.data_dir, config.tus.clone(), config.limits.bytes_max))
            .transpose()?;
        desk.audit = config.audit.is_some().then(|| Account { outbox: outbox.clone(), figures: Arc::default() });
        desk.webhooks = config.webhooks.is_some().then(|| Telling { outbox, figures: Arc::default() });
        let purger = Purger::start(desk.objects.clone(), desk.variants.clone(), desk.queue.salt().clone());
        desk.purger = Some(purger.map_err(|error| format!("the image service's threads cannot start: {error}"))?);
        let cannot = |error: std::io::Error| format!("the image service's threads cannot start: {error}");
        let dispatcher = Dispatcher::start(&desk, lanes, config.dispatch.clone()).map_err(cannot)?;
        let sweeper = Sweeper::start(&desk, config.sweep).map_err(cannot)?;
        let keys = Arc::new(Keys::new(&config.tenants, config.admin_key.as_deref(), config.insecure, &config.quotas));
        if config.redis.is_none() || config.s3.is_none() {
            crate::say!("image     data in {}", config.data_dir.display());
        }
        if let Some(target) = &config.audit {
            crate::say!("image     an account of all jobs in {target}");
        }
        if let Some(settings) = &config.webhooks {
            crate::say!("image     ends of jobs are told to {}", settings.endpoint);
        }
        for line in plan.to_string().lines() {
            crate::say!("image     {line}");
        }
        if keys.is_open() {
            let who = if config.insecure { "anybody who can reach it" } else { "everybody on this machine" };
            crate::warn!("image     NO API KEYS are set ([image.tenants]): {who} may upload, see and cancel all jobs");
        }
        if config.variants.as_ref().is_some_and(|variants| variants.unsigned) {
            crate::warn!(
                "image     variants need NO SIGNATURE (image.variants.unsigned): whoever knows an original's key may make \
                 whatever they like of it"
            );
        }
        let running = Mutex::new(Some((dispatcher, sweeper)));
        Ok(Arc::new(Image { config: Arc::new(config), keys, desk, tls, trusted, running }))
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
            if let (Some(target), Some(account)) = (self.config.audit.clone(), self.desk.audit.clone()) {
                let sending = audit::send(shard.clone(), account.outbox, target, account.figures);
                drop(shard.spawn_background(async move {
                    if let Err(sentence) = sending.await {
                        crate::warn!("image: NO account of jobs is kept: {sentence}");
                    }
                }));
            }
            if let (Some(settings), Some(telling), Some(trusted)) =
                (&self.config.webhooks, &self.desk.webhooks, &self.trusted)
            {
                let sender = webhooks::Sender::new(&shard, &self.desk.queue, telling, settings, trusted);
                drop(shard.spawn_background(sender.run()));
            }
            if let Some(tus) = &self.desk.tus {
                drop(shard.spawn_background(tus::sweep(shard.clone(), tus.clone())));
            }
            let scheme = if self.tls.is_some() { "https" } else { "http" };
            crate::say!("image     {scheme}://{}/   console: /console", door.address());
        }
        let cut_off = door.serve().await;
        if cut_off > 0 {
            crate::warn!("image: {cut_off} connections were cut off after {:?}", self.config.serve.drain_max);
        }
        Ok(())
    }

    /// Where it is, a URL without a path, as it was configured.
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.config.listen)
    }

    /// Shows in the first shard's metrics what all shards share: the queue, the lanes, the memory. From any thread.
    pub fn show(&self, metrics: &ShardMetrics) {
        meters::show(metrics, &self.desk);
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

/// The plan as text: every limit with its terms, and which one binds. With a directory of images, also what they took and
/// what follows.
///
/// # Errors
/// A sentence.
pub fn plan(config: &Config, images: Option<&Path>) -> Result<String, String> {
    let (gpu, facts) = gpu_lane(config)?;
    let staging = gpu.as_ref().map_or(0, GpuLane::host_bytes);
    let plan = ImagePlan::new(&Machine::of_this_process(facts, staging), &config.knobs);
    drop(gpu);
    let Some(images) = images else { return Ok(plan.to_string()) };
    let mut config = config.clone();
    config.load()?;
    let lane = cpu_lane(&config)?;
    let recipes = config.presets.get(&config.default_preset).map_err(|fault| fault.detail)?;
    let read = |bytes: &[u8]| match header::read(bytes, Some(bytes.len() as u64), &config.limits)? {
        Progress::Header(header) => Ok(header),
        Progress::NeedMore { .. } => Err(Fault::new(Kind::BadImage, "it ends in the middle of its header")),
    };
    let measured = measure(&plan, images, recipes, &lane, &read)?;
    Ok(format!("{plan}\n\nmade of each: the preset {}\n{measured}", config.default_preset))
}

/// A queue, and what is to be told of it.
type Accounted = (Arc<dyn Queue>, Arc<dyn Outbox>);

/// The queue that is configured.
fn queue(config: &Config) -> Result<Accounted, String> {
    if let Some(settings) = &config.redis {
        let queue = Arc::new(RedisQueue::open(settings, config.queue.clone()).map_err(|error| error.to_string())?);
        queue.told().iter().for_each(|line| crate::say!("image     {line}"));
        return Ok((queue.clone(), queue));
    }
    let folder = &config.data_dir;
    std::fs::create_dir_all(folder).map_err(|error| {
        format!("image.data_dir {}: {error}. Name a directory that this user may write to", folder.display())
    })?;
    let queue = Arc::new(SqliteQueue::open(folder, config.queue.clone()).map_err(|error| error.to_string())?);
    Ok((queue.clone(), queue))
}

/// The store that is configured.
fn objects(config: &Config) -> Result<Arc<dyn Objects>, String> {
    let Some(settings) = &config.s3 else {
        return Ok(Arc::new(Directory::open(&config.data_dir).map_err(|error| error.to_string())?));
    };
    let store = S3::open(settings.clone()).map_err(|error| format!("the image store cannot be used: {error}"))?;
    store.told().iter().for_each(|line| crate::say!("image     {line}"));
    Ok(Arc::new(store))
}

/// The GPU's lane where there is one, and what the plan is to know of it: the GPU, or why there is none.
fn gpu_lane(config: &Config) -> Result<(Option<GpuLane>, Result<Gpu, String>), String> {
    let settings = &config.gpu;
    if settings.mode == Mode::Off {
        return Ok((None, Err("image.gpu.mode = \"off\"".to_owned())));
    }
    let started = GpuLane::start(settings.options.clone());
    let facts = started.as_ref().map_err(Clone::clone).and_then(Gpu::of);
    match (started, &facts) {
        (_, Err(why)) if settings.mode == Mode::Required => {
            Err(format!("image.gpu.mode = \"required\", and the GPU cannot be used: {why}"))
        }
        (lane, _) => Ok((lane.ok(), facts)),
    }
}

fn cpu_lane(config: &Config) -> Result<CpuLane, String> {
    let (isolation, required) = (config.isolation, config.sandbox_required);
    let marks = config.marks.clone();
    let options = cpu::Options { isolation, required, marks, ..cpu::Options::default() };
    CpuLane::start(options).map_err(|why| format!("the image workers cannot start: {why}"))
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
