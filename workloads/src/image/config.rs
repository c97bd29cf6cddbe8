//! What a deployment may choose of the image service: section `[image]` of the configuration file.
//!
//! ```toml
//! [image]
//! listen = "127.0.0.1:8070"
//! data_dir = "annulus-data"        # originals, outputs and the queue; made if it is not there
//! admin_key = "..."                # sees the console and all dead letters
//! default_preset = "web"           # what is made where nothing is asked
//! workers = 2                      # threads of the CPU lane; as many as the sizing rule allows: annulus image --plan
//! memory_bytes_max = 2147483648    # of all images in work together; what the rule leaves
//! isolation = "process"            # codecs in sandboxed processes, or "thread"
//! redis = "redis://10.0.0.5"       # the queue of a fleet; without it, it is in data_dir
//! bytes_max = 67108864             # of an upload; and pixels_max, side_max, ...: see the user's reference
//!
//! [image.tenants]                  # none: everybody on this machine is one tenant
//! shop = "a key of at least 16 characters"
//!
//! [image.quotas.shop]              # what a tenant may take; see quotas.rs
//! jobs_per_minute = 600
//!
//! [image.s3]                       # originals and outputs in a bucket instead; see store/s3/settings.rs
//! endpoint = "https://s3.example.com"
//! bucket = "photos"
//!
//! [image.variants]                 # what is made when it is asked for; see variants/settings.rs
//! keys = ["what signs their addresses, at least 32 characters"]
//!
//! [image.gpu]                      # where there is a GPU it is used; see lanes/gpu/settings.rs
//! mode = "auto"                    # or "off", or "required"
//!
//! [image.tus]                      # uploads that go on where they broke off; see tus/settings.rs
//! bytes_max = 17179869184
//!
//! [image.webhooks]                 # who is told how jobs ended; see webhooks/settings.rs
//! url = "https://backend.internal/images"
//! keys = ["what signs requests, at least 32 bytes"]
//!
//! [image.watermarks]               # what wm:... lays over outputs
//! logo = "logo.png"
//!
//! [image.presets]
//! card = ["small=rs:fill:320:200", "large=rs:fill:1280:800/q:85"]
//! ```

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use toml::de::DeValue;

use super::cors::Origins;
use super::dispatch::DispatchOptions;
use super::header::Limits;
use super::keys::{KEY_BYTES_MIN, OPEN_TENANT};
use super::lanes::cpu::Isolation;
use super::lanes::gpu::settings::GpuSettings;
use super::lanes::marks::{MARKS_MAX, MarkFiles};
use super::outbox::EVENTS_MAX;
use super::plan::Knobs;
use super::presets::{Presets, is_name};
use super::queue::{QueueOptions, RedisQueueSettings};
use super::quotas::{self, QuotaSettings};
use super::store::S3Settings;
use super::sweep::SweepOptions;
use super::tus::TusSettings;
use super::variants::VariantSettings;
use super::webhooks::WebhookSettings;
use crate::config::{Value, address, boolean, expected, list, number, string, table, unknown};
use crate::postgres::Target;
use crate::serve::Settings;

/// How the image service is run.
#[derive(Clone)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Where originals, outputs and the queue are, unless they are elsewhere.
    pub data_dir: PathBuf,
    /// The bucket of originals and outputs, where they are not in the directory.
    pub s3: Option<S3Settings>,
    /// The Redis of the queue, where it is not in the directory; its URL holds a password.
    pub redis: Option<RedisQueueSettings>,
    /// What the queue's keys begin with.
    redis_prefix: String,
    /// Tenants and their keys. None: one open tenant.
    pub tenants: Vec<(String, String)>,
    /// What tenants may take.
    pub quotas: QuotaSettings,
    /// The key of those who run the service.
    pub admin_key: Option<String>,
    /// Whether anybody may come without a key also from other machines.
    pub insecure: bool,
    /// Sites whose pages may ask from a browser.
    pub origins: Origins,
    /// Uploads that go on where they broke off.
    pub tus: TusSettings,
    /// What can be asked for by name.
    pub presets: Presets,
    /// What is made where nothing is asked.
    pub default_preset: String,
    /// What may be laid over outputs, by name: files.
    pub watermarks: Vec<(String, PathBuf)>,
    /// The same, read; see [`Config::load`].
    pub marks: Arc<MarkFiles>,
    /// What is made when it is asked for, if that is offered.
    pub variants: Option<VariantSettings>,
    /// Whether and how a GPU is used.
    pub gpu: GpuSettings,
    /// Limits of what is accepted.
    pub limits: Limits,
    /// What the sizing rule takes into account, and the marks of the queue's length.
    pub knobs: Knobs,
    /// Where the codecs run.
    pub isolation: Isolation,
    /// Whether the service refuses to start where the kernel lacks a wall of the sandbox.
    pub sandbox_required: bool,
    /// How patient the queue is.
    pub queue: QueueOptions,
    /// How long works may take.
    pub dispatch: DispatchOptions,
    /// Longest `Prefer: wait`. More is cut to it.
    pub wait_max: Duration,
    /// When orphans are removed.
    pub sweep: SweepOptions,
    /// Where an account of all jobs is kept; `None`: nowhere.
    pub audit: Option<Target>,
    /// Who is told how jobs ended; `None`: nobody.
    pub webhooks: Option<WebhookSettings>,
    /// The certificate chain and key for TLS, in PEM.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// How clients' connections are treated.
    pub serve: Settings,
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Keys of tenants and administrators are nobody's business.
        let names: Vec<&str> = self.tenants.iter().map(|(name, _)| &name[..]).collect();
        f.debug_struct("Config").field("listen", &self.listen).field("tenants", &names).finish_non_exhaustive()
    }
}

impl Default for Config {
    fn default() -> Config {
        Config {
            listen: ([127, 0, 0, 1], 8070).into(),
            data_dir: PathBuf::from("annulus-data"),
            s3: None,
            redis: None,
            redis_prefix: RedisQueueSettings::PREFIX.to_owned(),
            tenants: Vec::new(),
            quotas: Vec::new(),
            admin_key: None,
            insecure: false,
            origins: Origins::default(),
            tus: TusSettings::default(),
            presets: Presets::built_in(),
            default_preset: "web".to_owned(),
            watermarks: Vec::new(),
            marks: Arc::default(),
            variants: None,
            gpu: GpuSettings::default(),
            limits: Limits::DEFAULT,
            knobs: Knobs::DEFAULT,
            isolation: Isolation::Process,
            sandbox_required: false,
            queue: QueueOptions::DEFAULT,
            dispatch: DispatchOptions::DEFAULT,
            wait_max: Duration::from_secs(60),
            sweep: SweepOptions::DEFAULT,
            audit: None,
            webhooks: None,
            tls: None,
            serve: Settings::DEFAULT,
        }
    }
}

/// Every key of the section.
const KEYS: &[&str] = &[
    "listen",
    "data_dir",
    "s3",
    "redis",
    "redis_prefix",
    "tenants",
    "quotas",
    "admin_key",
    "insecure",
    "origins",
    "tus",
    "presets",
    "default_preset",
    "watermarks",
    "variants",
    "gpu",
    "bytes_max",
    "pixels_max",
    "progressive_pixels_max",
    "side_max",
    "frames_max",
    "scans_max",
    "icc_bytes_max",
    "metadata_bytes_max",
    "pixels_per_byte_max",
    "workers",
    "cores_per_worker",
    "memory_bytes_max",
    "reserved_bytes",
    "giant_bytes",
    "isolation",
    "sandbox_required",
    "job_seconds_max",
    "attempts_max",
    "lease_seconds",
    "backoff_seconds",
    "backoff_seconds_max",
    "bulk_share",
    "jobs_kept_seconds",
    "dead_kept_seconds",
    "outputs_kept_seconds",
    "originals_kept",
    "originals_kept_seconds",
    "delayed_after_seconds",
    "refused_after_seconds",
    "waiting_max",
    "disk_reserve_bytes",
    "wait_seconds_max",
    "orphan_seconds",
    "sweep_seconds",
    "audit_postgres",
    "webhooks",
    "drain_seconds",
    "idle_seconds_max",
    "body_pause_seconds_max",
    "body_bytes_per_second_min",
    "connections_max",
    "tls_certificate",
    "tls_key",
];

const DAY: u64 = 86_400;

impl Config {
    /// Sets a key of the section.
    ///
    /// # Errors
    /// What is wrong with the key or its value.
    pub fn set(&mut self, key: &str, value: &Value<'_>) -> Result<(), String> {
        let seconds = |least, most| number(value, least, most).map(Duration::from_secs);
        match key {
            "listen" => self.listen = address(value)?,
            "data_dir" => self.data_dir = path(value)?,
            "s3" => self.s3 = Some(S3Settings::read(value)?),
            "redis" => self.redis = Some(RedisQueueSettings::new(string(value, "a Redis URL")?, &self.redis_prefix)?),
            "redis_prefix" => {
                self.redis_prefix = RedisQueueSettings::checked(string(value, "a prefix")?)?;
                if let Some(redis) = &mut self.redis {
                    redis.prefix.clone_from(&self.redis_prefix);
                }
            }
            "tenants" => self.set_tenants(value)?,
            "quotas" => self.quotas = quotas::read(value)?,
            "admin_key" => self.admin_key = Some(secret(value)?),
            "insecure" => self.insecure = boolean(value)?,
            "origins" => self.origins = Origins::read(value)?,
            "tus" => self.tus = TusSettings::read(value)?,
            "presets" => self.set_presets(value)?,
            "watermarks" => self.set_watermarks(value)?,
            "variants" => self.variants = Some(VariantSettings::read(value)?),
            "gpu" => self.gpu = GpuSettings::read(value)?,
            "default_preset" => self.default_preset = string(value, "a preset's name")?.to_owned(),
            "workers" => self.knobs.workers = Some(number(value, 1, 1024)? as usize),
            "cores_per_worker" => self.knobs.cores_per_worker = number(value, 1, 1024)? as f64,
            "memory_bytes_max" => self.knobs.budget_bytes = Some(number(value, 64 << 20, 1 << 50)?),
            "reserved_bytes" => self.knobs.reserved_bytes = Some(number(value, 0, 1 << 50)?),
            "giant_bytes" => self.knobs.giant_bytes = Some(number(value, 1 << 20, 1 << 50)?),
            "isolation" => {
                self.isolation = match value.get_ref() {
                    DeValue::String(text) if text == "process" => Isolation::Process,
                    DeValue::String(text) if text == "thread" => Isolation::Thread,
                    _ => return expected("\"process\" or \"thread\""),
                };
                // Where codecs run inside the server, what ended it may have been the image.
                self.queue.lost_is_crash = self.isolation == Isolation::Thread;
            }
            "sandbox_required" => self.sandbox_required = boolean(value)?,
            "job_seconds_max" => self.dispatch.time = seconds(1, 3600)?,
            "wait_seconds_max" => self.wait_max = seconds(0, 600)?,
            "orphan_seconds" => self.sweep.age = seconds(3600, 30 * DAY)?,
            "sweep_seconds" => self.sweep.every = seconds(60, 30 * DAY)?,
            "audit_postgres" => {
                let url = string(value, "a URL such as \"postgres://user:password@host/database\"")?;
                self.audit = Some(Target::parse(url)?);
                self.queue.events_max = EVENTS_MAX;
            }
            "webhooks" => {
                let settings = WebhookSettings::read(value)?;
                self.queue.webhooks = settings.events;
                self.webhooks = Some(settings);
            }
            "drain_seconds" => {
                self.serve.drain_max = seconds(0, 3600)?;
                self.dispatch.grace = self.serve.drain_max;
            }
            "idle_seconds_max" => self.serve.idle_max = seconds(1, DAY)?,
            "body_pause_seconds_max" => self.serve.body_pause_max = seconds(1, 3600)?,
            "body_bytes_per_second_min" => self.serve.body_bytes_per_second_min = number(value, 1, 1 << 30)?,
            "connections_max" => self.serve.connections_max = number(value, 1, 1 << 20)? as usize,
            "tls_certificate" => self.tls.get_or_insert_default().0 = path(value)?,
            "tls_key" => self.tls.get_or_insert_default().1 = path(value)?,
            _ if self.set_limit(key, value)? || self.set_queue(key, value)? => {}
            _ => return Err(unknown("key", key, KEYS)),
        }
        Ok(())
    }

    /// Whether it is a limit of what is accepted.
    fn set_limit(&mut self, key: &str, value: &Value<'_>) -> Result<bool, String> {
        let limits = &mut self.limits;
        match key {
            "bytes_max" => limits.bytes_max = number(value, 1024, 1 << 40)?,
            "pixels_max" => limits.pixels_max = number(value, 1, 1 << 40)?,
            "progressive_pixels_max" => limits.progressive_pixels_max = number(value, 1, 1 << 40)?,
            "side_max" => limits.side_max = number(value, 1, 65_535)? as u32,
            "frames_max" => limits.frames_max = number(value, 1, u32::MAX.into())? as u32,
            "scans_max" => limits.scans_max = number(value, 1, u32::MAX.into())? as u32,
            "icc_bytes_max" => limits.icc_bytes_max = number(value, 0, 64 << 20)? as u32,
            "metadata_bytes_max" => limits.metadata_bytes_max = number(value, 0, 64 << 20)? as u32,
            "pixels_per_byte_max" => limits.pixels_per_byte_max = number(value, 1, u32::MAX.into())? as u32,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Whether it is an option of the queue.
    fn set_queue(&mut self, key: &str, value: &Value<'_>) -> Result<bool, String> {
        let seconds = |least, most| number(value, least, most).map(Duration::from_secs);
        let queue = &mut self.queue;
        match key {
            "attempts_max" => queue.attempts_max = number(value, 1, 100)? as u32,
            "lease_seconds" => queue.lease = seconds(2, 3600)?,
            "backoff_seconds" => queue.backoff = seconds(1, 3600)?,
            "backoff_seconds_max" => queue.backoff_max = seconds(1, DAY)?,
            "bulk_share" => queue.bulk_share = number(value, 2, 1000)? as u32,
            "jobs_kept_seconds" => queue.jobs_kept = seconds(60, 3650 * DAY)?,
            "dead_kept_seconds" => queue.dead_kept = seconds(60, 3650 * DAY)?,
            // Zero would be read as at once.
            "outputs_kept_seconds" => queue.outputs_kept = Some(seconds(60, 3650 * DAY)?),
            "originals_kept_seconds" => queue.originals_kept_for = Some(seconds(60, 3650 * DAY)?),
            "originals_kept" => queue.originals_kept = boolean(value)?,
            "delayed_after_seconds" => self.knobs.marks.soft = seconds(0, DAY)?,
            "refused_after_seconds" => self.knobs.marks.hard = seconds(1, DAY)?,
            "waiting_max" => {
                queue.waiting_max = number(value, 1, 1 << 32)?;
                self.knobs.marks.waiting_max = queue.waiting_max;
            }
            "disk_reserve_bytes" => self.knobs.marks.disk_reserve_bytes = number(value, 0, 1 << 50)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn set_tenants(&mut self, value: &Value<'_>) -> Result<(), String> {
        for (name, key) in table(value, "a section, as in [image.tenants], of names and keys")? {
            let name = name.get_ref();
            if !is_name(name) {
                return Err(format!("{name:?} cannot name a tenant: 1 to 64 letters, digits, - or _"));
            }
            let key = secret(key).map_err(|says| format!("the key of {name}: {says}"))?;
            if self.tenants.iter().any(|(_, other)| *other == key) {
                return Err(format!("{name} has the same key as another tenant"));
            }
            self.tenants.push((name.to_string(), key));
        }
        Ok(())
    }

    fn set_presets(&mut self, value: &Value<'_>) -> Result<(), String> {
        let what = "a list of outputs such as [\"small=rs:fit:256:256\", \"large=rs:fit:1600:1600\"]";
        for (name, outputs) in table(value, "a section, as in [image.presets], of names and lists of outputs")? {
            let outputs: Vec<(&str, &str)> = list(outputs, what)?
                .map(|output| string(output, what)?.split_once('=').map_or_else(|| expected(what), Ok))
                .collect::<Result<_, _>>()
                .map_err(|says| format!("{}: {says}", name.get_ref()))?;
            self.presets.add(name.get_ref(), &outputs).map_err(|fault| fault.detail)?;
        }
        Ok(())
    }

    fn set_watermarks(&mut self, value: &Value<'_>) -> Result<(), String> {
        for (name, file) in table(value, "a section, as in [image.watermarks], of names and files")? {
            let name = name.get_ref();
            if !is_name(name) {
                return Err(format!("{name:?} cannot name a watermark: 1 to 64 letters, digits, - or _"));
            }
            if self.watermarks.len() == MARKS_MAX {
                return Err(format!("more than {MARKS_MAX} watermarks"));
            }
            self.watermarks.push((name.to_string(), path(file).map_err(|says| format!("{name}: {says}"))?));
        }
        Ok(())
    }

    /// Reads the files that the service keeps in memory.
    ///
    /// # Errors
    /// A sentence.
    pub fn load(&mut self) -> Result<(), String> {
        let marks = MarkFiles::read(&self.watermarks).map_err(|why| format!("image.watermarks: {why}"))?;
        let known = marks.heads().map(|head| (head.name.clone(), head.digest.clone())).collect();
        self.presets.know_watermarks(known).map_err(|fault| format!("image.presets: {}", fault.detail))?;
        self.marks = Arc::new(marks);
        Ok(())
    }

    /// What can only be judged when everything is read.
    ///
    /// # Errors
    /// A sentence.
    pub fn check(&self) -> Result<(), String> {
        if self.presets.get(&self.default_preset).is_err() {
            return Err(format!("image.default_preset: there is no preset {:?}", self.default_preset));
        }
        if self.tls.as_ref().is_some_and(|(chain, key)| chain.as_os_str().is_empty() || key.as_os_str().is_empty()) {
            return Err("image.tls_certificate and image.tls_key belong together: set both".to_owned());
        }
        if self.tenants.iter().any(|(_, key)| Some(key) == self.admin_key.as_ref()) {
            return Err("image.admin_key is also a tenant's key: choose another".to_owned());
        }
        if let Some(s3) = &self.s3 {
            s3.check(self.limits.bytes_max)?;
        }
        if let Some(variants) = &self.variants {
            variants.check(self.queue.originals_kept)?;
        }
        if self.offers_tus() {
            self.tus.check(self.limits.bytes_max)?;
        }
        let is_tenant = |name: &str| match self.tenants.is_empty() {
            true => name == OPEN_TENANT,
            false => self.tenants.iter().any(|(other, _)| other == name),
        };
        if let Some((name, _)) = self.quotas.iter().find(|(name, _)| name != "*" && !is_tenant(name)) {
            return Err(format!("image.quotas.{name}: there is no tenant of this name in [image.tenants]"));
        }
        let is_open = self.tenants.is_empty() && self.admin_key.is_none();
        if is_open && !self.insecure && !self.listen.ip().is_loopback() {
            return Err(format!(
                "image.listen = \"{}\" can be reached from other machines, and there are no API keys. Set \
                 [image.tenants] NAME = \"KEY\", or listen on 127.0.0.1, or set image.insecure = true to let anybody in",
                self.listen
            ));
        }
        if is_open && !self.origins.is_empty() {
            return Err(
                "image.origins lets pages of other sites ask, and there are no API keys that they could show. Set \
                 [image.tenants] NAME = \"KEY\""
                    .to_owned(),
            );
        }
        Ok(())
    }

    /// Whether uploads go on where they broke off.
    pub fn offers_tus(&self) -> bool {
        self.tus.enabled.unwrap_or(self.redis.is_none())
    }

    /// How connections are treated.
    pub fn settings(&self) -> Settings {
        let mut settings = self.serve.clone();
        // Uploads have limits of their own, which are told by their names; other bodies are not read at all.
        settings.http.body_bytes_max = u64::MAX;
        settings
    }
}

fn path(value: &Value<'_>) -> Result<PathBuf, String> {
    let text = string(value, "a path")?;
    if text.is_empty() { expected("a path that is not empty") } else { Ok(PathBuf::from(text)) }
}

fn secret(value: &Value<'_>) -> Result<String, String> {
    let key = string(value, "a text")?;
    if key.len() < KEY_BYTES_MIN {
        return Err(format!("a key of fewer than {KEY_BYTES_MIN} characters can be guessed. Choose a longer one"));
    }
    if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("a key is sent in a header: it has visible ASCII characters only".to_owned());
    }
    Ok(key.to_owned())
}
