//! The console: one page of what all services of the process do, and a look inside them.
//!
//! | path | |
//! |---|---|
//! | `/` | the page, with `/page.css`, `/page.js` and `/plot.js`; no figure is in them |
//! | `/figures` | what the page shows: see `figures/`; `after=N` for what is new |
//! | `/health`, `/metrics` | of the whole process |
//! | `/debug/` | what there is below: for whom, says [`Settings`] |
//! | `/debug/flamegraph` | where processor time goes, by shard and class of task: see `profile.rs` |
//! | `/debug/attribution` | where the time of sampled messages went, by percentile |
//! | `/debug/stalls` | the last turns that took too long, with their stacks |
//! | `/debug/shards` | each shard's figures |

mod debug;
mod figures;
mod others;
mod profile;
mod settings;

use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use annulus_engine::metrics::{ShardMetrics, render};
use annulus_engine::trace::Kind;
use annulus_engine::{Engine, Shard};
use serde::Serialize;
use serde_json::{Value, json};

use crate::image::plan::memory_granted;
use crate::secret::is_same;
use crate::serve::door::Door;
use crate::serve::visitor::is_foreign;
use crate::serve::{self, Body, Problem, Reply, Request};
use figures::{Board, Past, Reading, Watch};
use profile::Profiler;
pub use profile::stall_names;
pub use settings::Settings;

/// How long a connection may be silent.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// Connections per shard at once. Beyond: closed as they come.
const CONNECTIONS_MAX: usize = 64;
/// Pages need their own script and style, figures from where they came from, and to send people to flamegraphs; nothing inline,
/// and nothing from elsewhere.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
    base-uri 'none'; form-action 'self'; frame-ancestors 'none'";
/// The page and what belongs to it.
const PAGE: [(&str, &str, &str); 4] = [
    ("/", "text/html; charset=utf-8", include_str!("page/page.html")),
    ("/page.css", "text/css; charset=utf-8", include_str!("page/page.css")),
    ("/page.js", "text/javascript; charset=utf-8", include_str!("page/page.js")),
    ("/plot.js", "text/javascript; charset=utf-8", include_str!("page/plot.js")),
];

/// A service, as the console shows it.
#[derive(Clone, Debug, Serialize)]
pub struct Service {
    /// What it is called: `chat`, `gateway` or `image`.
    pub name: &'static str,
    /// What it is for.
    pub about: &'static str,
    /// Where it is: a URL without a path.
    pub url: String,
    /// Its pages, by what they are called, with their paths.
    pub pages: Vec<(&'static str, &'static str)>,
}

/// What runs in the process, for the console to show.
pub trait Shown: Send + 'static {
    /// The services.
    fn services(&self) -> Vec<Service>;
    /// Brings up to date what is only counted when somebody looks.
    fn refresh(&self, first: &ShardMetrics);
}

/// The console of a process.
pub struct Console {
    settings: Settings,
    profiler: Profiler,
    /// When it began, in milliseconds of the Unix clock: points are numbered from there on.
    began_ms: u64,
    board: Mutex<Board>,
    /// While the services run.
    watch: Mutex<Option<Watch>>,
}

impl Console {
    /// A console that does nothing yet.
    pub fn new(settings: Settings) -> Arc<Console> {
        let profiler = Profiler::new(settings.sample_hz, Duration::from_secs(60) * settings.sample_minutes);
        let board = Mutex::new(Board::new(&settings.others));
        Arc::new(Console { settings, profiler, began_ms: figures::unix_ms(), board, watch: Mutex::default() })
    }

    /// Begins to look at the shards' figures and stacks, once they run. What stands in the way is said, and is no reason to
    /// stop. `name` is what the process is called.
    pub fn watch(self: &Arc<Self>, engine: &Engine, name: String, shown: impl Shown) {
        if self.is_open_to_somebody() {
            self.profiler.start();
        }
        let (console, shards) = (self.clone(), engine.metrics().to_vec());
        let (began, mut past) = (Instant::now(), Past::default());
        let look = move || {
            shown.refresh(&shards[0]);
            let (services, reading) = (shown.services(), Reading::of(&shards));
            let head = console.head(&name, shards.len(), began.elapsed(), &services, &reading);
            let names: Vec<&str> = services.iter().map(|service| service.name).collect();
            let point = past.point(began.elapsed(), figures::unix_ms(), reading, &names);
            lock(&console.board).put(0, &head, point.as_slice());
        };
        match Watch::start(look) {
            Ok(watch) => *lock(&self.watch) = Some(watch),
            Err(error) => crate::say!("console   no figures: no thread can be started for them: {error}"),
        }
    }

    /// Looks no more, once the services have ended.
    pub fn stop(&self) {
        let watch = lock(&self.watch).take();
        drop(watch);
    }

    /// What is told of the process besides its points.
    fn head(&self, name: &str, shards: usize, uptime: Duration, services: &[Service], reading: &Reading) -> Value {
        let (memory, limit) = memory_granted();
        let process = figures::resident_bytes().map(
            |used| json!({ "name": "process, resident", "used": used, "budget": memory, "by": limit.to_string() }),
        );
        json!({
            "name": name, "version": env!("CARGO_PKG_VERSION"), "pid": std::process::id(), "shards": shards,
            "uptime_s": uptime.as_secs(), "services": services, "stalls": reading.stalls,
            "memory": process.into_iter().chain(figures::budgets(reading)).collect::<Vec<_>>(),
            // Who may look inside, and whether there are stacks of what was.
            "inside": match (&self.settings.token, self.is_loopback()) {
                (Some(_), _) => "token",
                (None, true) => "open",
                (None, false) => "closed",
            },
            "sampled_s": self.profiler.is_running().then_some(60 * self.settings.sample_minutes),
        })
    }

    /// The document of `/figures`.
    fn figures(&self, request: &Request) -> Result<Reply, Problem> {
        let after = request.query_value("after").map_or(Ok(0), |text| text.parse());
        let after =
            after.map_err(|_| Problem::new(400, "after: expected the number `newest` of an earlier answer."))?;
        let only_own = request.query_value("own").is_some();
        let document = lock(&self.board).document(self.began_ms, figures::unix_ms(), after, only_own);
        Ok(Reply::bytes(200, "application/json", document.into_bytes()))
    }

    /// Listens on a shard. Every shard has to.
    ///
    /// # Errors
    /// A sentence for people: why it could not.
    pub fn open(self: &Arc<Self>, shard: &Shard) -> Result<Door<Pages>, String> {
        let settings = serve::Settings {
            idle_max: SILENCE_MAX,
            connections_max: CONNECTIONS_MAX,
            drain_max: Duration::ZERO,
            ..serve::Settings::DEFAULT
        };
        let listen = self.settings.listen.unwrap_or(([127, 0, 0, 1], 0).into());
        let pages = Pages { shard: shard.clone(), console: self.clone() };
        let door = Door::open(shard, listen, settings, None, Rc::new(pages))?;
        if shard.index() == 0 {
            crate::say!("console   http://{}/", door.address());
            others::follow(shard, self)?;
        }
        Ok(door)
    }

    fn is_loopback(&self) -> bool {
        self.settings.listen.is_some_and(|listen| listen.ip().is_loopback())
    }

    fn is_open_to_somebody(&self) -> bool {
        self.settings.token.is_some() || self.is_loopback()
    }

    /// Whether a request may look inside.
    fn admit(&self, request: &Request) -> Result<(), Problem> {
        let Some(token) = &self.settings.token else {
            return match self.is_loopback() && !is_foreign(|name| request.field(name), false) {
                true => Ok(()),
                false => Err(Problem::new(
                    403,
                    "Without a token this is there for programs and pages of this machine only. Set [console] token, and \
                     send it in `Authorization: Bearer TOKEN` or as ?token=TOKEN.",
                )),
            };
        };
        let in_query = request.query_value("token");
        let shown = request.bearer().or(in_query.as_deref()).unwrap_or_default();
        match is_same(shown.as_bytes(), token) {
            true => Ok(()),
            false => Err(Problem::new(
                401,
                "Show the token of [console] in `Authorization: Bearer TOKEN` or as ?token=TOKEN.",
            )
            .with("www-authenticate", "Bearer")),
        }
    }
}

/// The console on one shard.
pub struct Pages {
    shard: Shard,
    console: Arc<Console>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is kept there is whole after each step.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl serve::Service for Pages {
    const TRACED: &'static Kind = &Kind {
        name: "console request",
        about: "From the arrival of a request to the console to its answer.",
        away: "sampling and naming of stacks",
    };

    async fn answer(&self, request: &Request, _body: &mut Body<'_>) -> Reply {
        let reply = match request.reads() {
            true => self.route(request).await.unwrap_or_else(Reply::from),
            false => Problem::new(405, "The console is only read.").with("allow", "GET, HEAD").into(),
        };
        reply.with("x-content-type-options", "nosniff").with("referrer-policy", "no-referrer")
    }

    fn on_refused(&self, _status: u16) {}
}

impl Pages {
    async fn route(&self, request: &Request) -> Result<Reply, Problem> {
        let path = request.path();
        if path.starts_with("/debug/") {
            self.console.admit(request)?;
        }
        if let Some((_, kind, text)) = PAGE.iter().find(|(at, ..)| *at == path) {
            return Ok(Reply::fixed(kind, text)
                .with("content-security-policy", POLICY)
                .with("cache-control", "no-cache"));
        }
        let reply = match path {
            "/health" => Reply::bytes(200, "application/json", b"{}".to_vec()),
            "/metrics" => {
                let text = render(self.shard.all_metrics());
                Reply::bytes(200, "text/plain; version=0.0.4", text.into_bytes())
            }
            "/figures" => self.console.figures(request)?,
            "/debug/" => Reply::bytes(200, "text/html; charset=utf-8", debug::index().into_bytes())
                .with("content-security-policy", POLICY),
            "/debug/stalls" => debug::stalls(self.shard.stalls(), request)?,
            "/debug/shards" => debug::shards(&self.shard, request).await?,
            "/debug/attribution" => debug::attribution(&self.shard, request)?,
            "/debug/flamegraph" => self.console.profiler.flamegraph(request, self.shard.stalls()).await?,
            _ => {
                return Err(Problem::new(
                    404,
                    "There is nothing here. The console is at /, its insides are at /debug/.",
                ));
            }
        };
        Ok(reply.with("cache-control", "no-store"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_all_it_needs_and_nothing_from_elsewhere() {
        let page = PAGE[0].2;
        for (path, _, text) in &PAGE[1..] {
            let is_named =
                page.contains(path) || PAGE.iter().any(|(.., other)| other.contains(&format!("\".{path}\"")));
            assert!(is_named, "{path} is asked for by nobody");
            // A namespace, and a link for people.
            let known = ["http://www.w3.org/2000/svg", "http://${this.at}/"];
            let rest = known.iter().fold((*text).to_owned(), |rest, known| rest.replace(known, ""));
            assert!(!rest.contains("://"), "{path} asks elsewhere");
        }
        for inline in ["<style", "style=", "onclick", "<script>"] {
            assert!(!page.contains(inline), "{inline} would not work");
        }
        assert!(!POLICY.contains("unsafe"));
        let stall = format!("turns longer than {} ms", annulus_engine::limits::STALL.as_millis());
        assert!(page.contains(&stall), "the page says what a stall is");
    }
}
