//! The console: a page that lists the services, with links to their pages, health and metrics, and a look inside them.
//!
//! | path | |
//! |---|---|
//! | `/` | the page |
//! | `/health`, `/metrics` | of the whole process |
//! | `/debug/` | what there is below: for whom, says [`Settings`] |
//! | `/debug/flamegraph` | where processor time goes, by shard and class of task: see `profile.rs` |
//! | `/debug/attribution` | where the time of sampled messages went, by percentile |
//! | `/debug/stalls` | the last turns that took too long, with their stacks |
//! | `/debug/shards` | each shard's figures |

mod debug;
mod profile;
mod settings;

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use annulus_engine::Shard;
use annulus_engine::metrics::render;
use annulus_engine::trace::Kind;

use crate::secret::is_same;
use crate::serve::door::Door;
use crate::serve::visitor::is_foreign;
use crate::serve::{self, Body, Problem, Reply, Request};
use profile::Profiler;
pub use profile::stall_names;
pub use settings::Settings;

/// How long a connection may be silent.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// Connections per shard at once. Beyond: closed as they come.
const CONNECTIONS_MAX: usize = 64;
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'";

/// A service, as the console shows it.
#[derive(Clone, Debug)]
pub struct Service {
    /// What it is called.
    pub name: &'static str,
    /// What it is for.
    pub about: &'static str,
    /// Where it listens.
    pub address: SocketAddr,
}

/// The console of a process.
pub struct Console {
    settings: Settings,
    profiler: Profiler,
}

impl Console {
    /// A console that does nothing yet.
    pub fn new(settings: Settings) -> Arc<Console> {
        let profiler = Profiler::new(settings.sample_hz, Duration::from_secs(60) * settings.sample_minutes);
        Arc::new(Console { settings, profiler })
    }

    /// Begins to look at the shards' stacks, once they run. What stands in the way is said, and is no reason to stop.
    pub fn watch(&self) {
        if self.is_open_to_somebody() {
            self.profiler.start();
        }
    }

    /// Listens on a shard. Every shard has to.
    ///
    /// # Errors
    /// A sentence for people: why it could not.
    pub fn open(self: &Arc<Self>, shard: &Shard, services: Vec<Service>) -> Result<Door<Pages>, String> {
        let settings = serve::Settings {
            idle_max: SILENCE_MAX,
            connections_max: CONNECTIONS_MAX,
            drain_max: Duration::ZERO,
            ..serve::Settings::DEFAULT
        };
        let listen = self.settings.listen.unwrap_or(([127, 0, 0, 1], 0).into());
        let pages = Pages { shard: shard.clone(), console: self.clone(), services };
        let door = Door::open(shard, listen, settings, None, Rc::new(pages))?;
        if shard.index() == 0 {
            crate::say!("console   http://{}/", door.address());
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
    services: Vec<Service>,
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
        let reply = match path {
            "/" => html(page(&self.services)),
            "/health" => Reply::bytes(200, "application/json", b"{}".to_vec()),
            "/metrics" => {
                let text = render(self.shard.all_metrics());
                Reply::bytes(200, "text/plain; version=0.0.4", text.into_bytes())
            }
            "/debug/" => html(debug::index()),
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

fn html(text: String) -> Reply {
    Reply::bytes(200, "text/html; charset=utf-8", text.into_bytes()).with("content-security-policy", POLICY)
}

/// A page of ours around `body`.
fn document(title: &str, body: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><meta name=\"color-scheme\" content=\"light dark\">\
         <title>{title}</title><style>body{{font:16px/1.5 system-ui,sans-serif;max-width:48rem;margin:3rem auto;padding:0 1rem}}\
         table{{border-collapse:collapse;width:100%}}th,td{{text-align:left;padding:.6rem .8rem .6rem 0;border-bottom:1px solid #8884;\
         vertical-align:top}}a{{color:#c8431c}}</style>{body}</html>"
    )
}

fn page(services: &[Service]) -> String {
    let rows: String = services
        .iter()
        .map(|Service { name, about, address }| {
            let url = format!("http://{address}");
            format!(
                "<tr><th><a href=\"{url}/\">{name}</a><td>{about}<td><code>{address}</code>\
                 <td><a href=\"{url}/health\">health</a> <a href=\"{url}/metrics\">metrics</a></tr>"
            )
        })
        .collect();
    let body = format!(
        "<h1>annulus</h1><table>{rows}</table><p><a href=\"/metrics\">metrics of the whole process</a>, \
         <a href=\"/debug/\">what it is busy with</a></p>"
    );
    document("annulus console", &body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_links_each_service() {
        let service = Service { name: "chat", about: "rooms", address: ([127, 0, 0, 1], 8000).into() };
        let page = page(&[service]);
        for part in ["http://127.0.0.1:8000/\"", "http://127.0.0.1:8000/health", "http://127.0.0.1:8000/metrics"] {
            assert!(page.contains(part), "{part}");
        }
    }
}
