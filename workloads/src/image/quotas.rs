//! What one tenant may take, so that none takes what is for all: section `[image.quotas]` of the configuration file.
//!
//! ```toml
//! [image.quotas.shop]
//! requests_per_second = 50         # as many at once after a quiet second
//! jobs_per_minute = 600            # uploads that begin
//! jobs_waiting_max = 1000          # jobs that have not ended
//! bytes_per_day = 10737418240      # of originals, by days of UTC
//!
//! [image.quotas."*"]               # everybody who has none of their own
//! jobs_per_minute = 60
//! ```
//!
//! Rates are kept by each node for itself, in memory. Jobs and bytes are counted by the queue, so that they outlive a restart,
//! and with Redis they are those of all nodes.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use annulus_engine::metrics::ShardMetrics;

use super::api::{Api, of_queue};
use super::job::Tenant;
use super::presets::is_name;
use super::queue::Usage;
use super::upload::whole_seconds;
use crate::config::{Value, number, table, unknown};
use crate::pace::Pace;
use crate::serve::Problem;

/// Who is meant where nobody is named.
const ALL: &str = "*";
const DAY: u64 = 86_400;
/// When someone whose jobs wait may come again, where nobody knows when one will end.
const JOBS_RETRY: Duration = Duration::from_secs(5);

/// Every key of a tenant's section.
const KEYS: &[&str] = &["requests_per_second", "jobs_per_minute", "jobs_waiting_max", "bytes_per_day"];
/// What can be refused, as metrics call it: the same.
const REFUSALS: usize = KEYS.len();

/// What a tenant may take; `None`: as much as it likes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// Requests with its key. Beyond: 429.
    pub requests_per_second: Option<u64>,
    /// Uploads that begin. Beyond: 429.
    pub jobs_per_minute: Option<u64>,
    /// Jobs that have not ended, and uploads that will be some. Beyond: 429.
    pub jobs_waiting_max: Option<u64>,
    /// Bytes of originals in a day of UTC. Beyond: 429, or 403 where one image alone is more.
    pub bytes_per_day: Option<u64>,
}

/// Quotas by tenant, as they are configured.
pub type QuotaSettings = Vec<(String, Quota)>;

/// Reads the section.
///
/// # Errors
/// What is wrong with it.
pub(super) fn read(value: &Value<'_>) -> Result<QuotaSettings, String> {
    let mut quotas = Vec::new();
    for (name, section) in table(value, "a section, as in [image.quotas.NAME]")? {
        let name = name.get_ref();
        if name != ALL && !is_name(name) {
            return Err(format!("{name:?} names no tenant: 1 to 64 letters, digits, - or _; or \"*\" for all others"));
        }
        let mut quota = Quota::default();
        for (key, value) in table(section, "a section, as in [image.quotas.NAME]")? {
            let set = set(&mut quota, key.get_ref(), value);
            set.map_err(|says| format!("{name}.{}: {says}", key.get_ref()))?;
        }
        quotas.push((name.to_string(), quota));
    }
    Ok(quotas)
}

fn set(quota: &mut Quota, key: &str, value: &Value<'_>) -> Result<(), String> {
    match key {
        "requests_per_second" => quota.requests_per_second = Some(number(value, 1, 1_000_000)?),
        "jobs_per_minute" => quota.jobs_per_minute = Some(number(value, 1, 10_000_000)?),
        "jobs_waiting_max" => quota.jobs_waiting_max = Some(number(value, 1, 1 << 32)?),
        "bytes_per_day" => quota.bytes_per_day = Some(number(value, 1024, 1 << 60)?),
        _ => return Err(unknown("key", key, KEYS)),
    }
    Ok(())
}

/// What a tenant takes.
#[derive(Debug)]
struct Tally {
    name: Arc<str>,
    quota: Quota,
    requests: Option<Pace>,
    jobs: Option<Pace>,
    /// Uploads that were let in and are no jobs yet.
    arriving: AtomicU64,
    /// As they were when they were looked at last.
    seen_waiting: AtomicU64,
    seen_bytes: AtomicU64,
    refused: [AtomicU64; REFUSALS],
}

/// All tenants' tallies, shared by all shards.
#[derive(Debug)]
pub struct Quotas {
    tallies: HashMap<Arc<str>, Arc<Tally>>,
    start: Instant,
}

/// An upload that was let in, until it is a job or was given up.
#[derive(Debug, Default)]
pub(super) struct Arriving(Option<Arc<Tally>>);

impl Drop for Arriving {
    fn drop(&mut self) {
        if let Some(tally) = &self.0 {
            tally.arriving.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

impl Quotas {
    /// For these tenants.
    pub fn new<'a>(tenants: impl Iterator<Item = &'a str>, settings: &[(String, Quota)]) -> Quotas {
        let of = |name: &str| settings.iter().find(|(other, _)| other == name).map(|(_, quota)| quota.clone());
        let tally = |name: &str| {
            let quota = of(name).or_else(|| of(ALL))?;
            let name: Arc<str> = name.into();
            Some((name.clone(), Arc::new(Tally::new(name, quota))))
        };
        Quotas { tallies: tenants.filter_map(tally).collect(), start: Instant::now() }
    }

    /// A request of this tenant.
    ///
    /// # Errors
    /// 429: there were too many.
    pub fn request(&self, tenant: &Tenant) -> Result<(), Problem> {
        let Some(tally) = self.tallies.get(&tenant.0) else { return Ok(()) };
        let Some(pace) = &tally.requests else { return Ok(()) };
        let most = tally.quota.requests_per_second.unwrap_or_default();
        pace.take(self.start.elapsed()).map_err(|wait| tally.refuses(0, &format!("{most} requests a second"), wait))
    }

    /// For Prometheus.
    pub(super) fn show(&self, metrics: &ShardMetrics) {
        for tally in self.tallies.values() {
            for (quota, count) in KEYS.iter().zip(&tally.refused) {
                let (name, help) = ("annulus_image_quota_refused_total", "Requests beyond a tenant's quota.");
                let labels = &[("tenant", &*tally.name), ("quota", *quota)];
                metrics.counter_with(name, help, labels).set(count.load(Ordering::Relaxed));
            }
            let gauge = |name, help, value: &AtomicU64| {
                metrics.gauge_with(name, help, &[("tenant", &*tally.name)]).set(value.load(Ordering::Relaxed));
            };
            let waiting = "Jobs of a tenant that had not ended when it uploaded last.";
            gauge("annulus_image_quota_jobs_waiting", waiting, &tally.seen_waiting);
            let bytes = "Bytes of a tenant's originals of the day when it uploaded last.";
            gauge("annulus_image_quota_bytes_of_day", bytes, &tally.seen_bytes);
        }
    }
}

impl Tally {
    fn new(name: Arc<str>, quota: Quota) -> Tally {
        let pace = |count, seconds| Pace::new(count, Duration::from_secs(seconds), count);
        let requests = quota.requests_per_second.map(|count| pace(count, 1));
        let jobs = quota.jobs_per_minute.map(|count| pace(count, 60));
        let [arriving, seen_waiting, seen_bytes] = [(); 3].map(|()| AtomicU64::new(0));
        let refused = [(); REFUSALS].map(|()| AtomicU64::new(0));
        Tally { name, quota, requests, jobs, arriving, seen_waiting, seen_bytes, refused }
    }

    /// Counts a refusal of what `KEYS[which]` limits.
    fn refuses(&self, which: usize, limit: &str, wait: Duration) -> Problem {
        self.refused[which].fetch_add(1, Ordering::Relaxed);
        let seconds = whole_seconds(wait);
        let detail =
            format!("The quota of the key {:?} is {limit} ({}). Send it again in {seconds} s.", self.name, KEYS[which]);
        Problem::new(429, detail)
            .of_kind("about:blank#quota", "The key's quota is used up")
            .with("retry-after", seconds.to_string())
    }

    /// Whether the queue says that another upload is too much; `len` is how long it is, where that is known.
    fn judge(&self, usage: &Usage, arriving: u64, len: Option<u64>, left_of_day: Duration) -> Result<(), Problem> {
        self.seen_waiting.store(usage.unended, Ordering::Relaxed);
        self.seen_bytes.store(usage.bytes_of_day, Ordering::Relaxed);
        if let Some(most) = self.quota.jobs_waiting_max.filter(|most| usage.unended + arriving > *most) {
            return Err(self.refuses(2, &format!("{most} jobs that have not ended"), JOBS_RETRY));
        }
        let Some(most) = self.quota.bytes_per_day else { return Ok(()) };
        let len = len.unwrap_or(0);
        if len > most {
            self.refused[3].fetch_add(1, Ordering::Relaxed);
            let detail = format!(
                "The image has {len} bytes, and the quota of the key {:?} is {most} bytes a day (bytes_per_day).",
                self.name
            );
            return Err(Problem::new(403, detail).of_kind("about:blank#quota", "The key's quota is smaller than that"));
        }
        match usage.bytes_of_day.saturating_add(len.max(1)) > most {
            true => Err(self.refuses(3, &format!("{most} bytes a day"), left_of_day)),
            false => Ok(()),
        }
    }
}

/// Until the next day of UTC begins.
fn left_of_day() -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    Duration::from_secs(DAY - now % DAY)
}

/// Before an upload of this tenant, of so many bytes where that is known. What is answered is held until it is a job.
///
/// # Errors
/// 429 or 403: a quota is used up.
pub(super) async fn upload_begins(api: &Api, tenant: &Tenant, len: Option<u64>) -> Result<Arriving, Problem> {
    let quotas = &api.keys.quotas;
    let Some(tally) = quotas.tallies.get(&tenant.0) else { return Ok(Arriving::default()) };
    if let Some(pace) = &tally.jobs {
        let most = tally.quota.jobs_per_minute.unwrap_or_default();
        pace.take(quotas.start.elapsed())
            .map_err(|wait| tally.refuses(1, &format!("{most} uploads a minute"), wait))?;
    }
    if tally.quota.jobs_waiting_max.is_none() && tally.quota.bytes_per_day.is_none() {
        return Ok(Arriving::default());
    }
    // Entered before the queue is asked, so that of several that come at once each sees the others.
    let arriving = tally.arriving.fetch_add(1, Ordering::AcqRel) + 1;
    let held = Arriving(Some(tally.clone()));
    let usage = api.desk.queue.usage(tenant).await.map_err(of_queue)?;
    tally.judge(&usage, arriving, len, left_of_day())?;
    Ok(held)
}

#[cfg(test)]
mod tests {
    use toml::de::DeTable;

    use super::*;

    #[test]
    fn jobs_and_bytes_are_judged_by_what_the_queue_says() {
        let quota = Quota { jobs_waiting_max: Some(3), bytes_per_day: Some(10_000), ..Quota::default() };
        let tally = Tally::new("shop".into(), quota);
        let day = Duration::from_secs(100);
        let judge = |unended, arriving, bytes_of_day, len| {
            tally.judge(&Usage { unended, bytes_of_day }, arriving, len, day).map_err(|problem| problem.status)
        };
        assert_eq!((judge(2, 1, 0, Some(10_000)), judge(2, 1, 9_999, None)), (Ok(()), Ok(())));
        assert_eq!((judge(3, 1, 0, None), judge(1, 3, 0, None)), (Err(429), Err(429)));
        assert_eq!((judge(0, 1, 9_000, Some(1_001)), judge(0, 1, 10_000, None)), (Err(429), Err(429)));
        assert_eq!(judge(0, 1, 0, Some(10_001)), Err(403));
        let refused = tally.judge(&Usage { unended: 0, bytes_of_day: 10_000 }, 1, None, day).unwrap_err();
        assert!(refused.detail.contains("\"shop\" is 10000 bytes a day"), "{}", refused.detail);
        assert!(refused.fields.contains(&("retry-after", "100".to_owned())));
        assert_eq!([2, 3].map(|which: usize| tally.refused[which].load(Ordering::Relaxed)), [2, 4]);
    }

    #[test]
    fn a_section_is_read() {
        let of = |text: &str| {
            let text = format!("quotas = {{ {text} }}");
            read(DeTable::parse(&text).unwrap().get_ref().get("quotas").unwrap())
        };
        let read = of("shop = { jobs_per_minute = 5 }, \"*\" = { requests_per_second = 7 }").unwrap();
        let quotas = Quotas::new(["shop", "other"].into_iter(), &read);
        assert_eq!(quotas.tallies["shop"].quota, Quota { jobs_per_minute: Some(5), ..Quota::default() });
        assert_eq!(quotas.tallies["other"].quota, Quota { requests_per_second: Some(7), ..Quota::default() });
        for (text, says) in [
            ("\"a b\" = {}", "names no tenant"),
            ("shop = { jobs = 1 }", "shop.jobs: "),
            ("shop = { jobs_per_minute = 0 }", "shop.jobs_per_minute: "),
            ("shop = 1", "expected a section"),
        ] {
            let wrong = of(text).unwrap_err();
            assert!(wrong.contains(says), "{text}: {wrong}");
        }
    }
}
