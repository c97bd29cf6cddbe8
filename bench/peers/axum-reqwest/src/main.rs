//! Peer of annulus-bench: the aggregator that most would write with axum and reqwest.
//!
//! One shared client, one future per upstream, answers parsed to `serde_json::Value` and merged in a map. Nothing is
//! tuned, and nothing is done badly on purpose.

use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use futures_util::future::join_all;
use reqwest::Client;
use serde_json::{Map, Value};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

/// The widest fan-out.
const FANOUT_MAX: usize = 10;
/// How long an upstream may take.
const TIMEOUT: Duration = Duration::from_secs(2);

struct App {
    client: Client,
    upstreams: Vec<String>,
}

impl App {
    async fn call(&self, service: usize, query: &str) -> reqwest::Result<Value> {
        let upstream = &self.upstreams[service % self.upstreams.len()];
        let url = format!("http://{upstream}/s/{service}{query}");
        self.client.get(url).send().await?.error_for_status()?.json().await
    }
}

async fn fanout(State(app): State<Arc<App>>, Path(count): Path<usize>, RawQuery(query): RawQuery) -> Response {
    if !(1..=FANOUT_MAX).contains(&count) {
        return StatusCode::NOT_FOUND.into_response();
    }
    let query = query.map_or_else(String::new, |query| format!("?{query}"));
    let answers = join_all((0..count).map(|service| app.call(service, &query))).await;
    let mut merged = Map::new();
    for (service, answer) in answers.into_iter().enumerate() {
        if let Ok(value) = answer {
            merged.insert(format!("s{service}"), value);
        }
    }
    let completed = if merged.len() == count { "true" } else { "false" };
    let status = if merged.is_empty() { StatusCode::BAD_GATEWAY } else { StatusCode::OK };
    (status, [("x-completed", completed)], Json(merged)).into_response()
}

fn option(name: &str, default: &str) -> String {
    let words: Vec<String> = std::env::args().collect();
    words.windows(2).find(|pair| pair[0] == name).map_or_else(|| default.to_owned(), |pair| pair[1].clone())
}

fn main() {
    let core = option("--pin", "0").parse().expect("--pin takes a core number");
    core_affinity::set_for_current(core_affinity::CoreId { id: core });
    let mut client = Client::builder().timeout(TIMEOUT);
    if option("--protocol", "http1") == "h2c" {
        client = client.http2_prior_knowledge();
    }
    let app = App {
        client: client.build().expect("a client"),
        upstreams: option("--upstream", "127.0.0.1:9100").split(',').map(str::to_owned).collect(),
    };
    let router = Router::new().route("/fanout/{count}", get(fanout)).with_state(Arc::new(app));
    let mut runtime = match option("--threads", "1").parse().expect("--threads takes a number") {
        1 => tokio::runtime::Builder::new_current_thread(),
        threads => {
            let mut runtime = tokio::runtime::Builder::new_multi_thread();
            runtime.worker_threads(threads);
            runtime
        }
    };
    runtime.enable_all().build().expect("a runtime").block_on(async move {
        let address = option("--listen", "127.0.0.1:8080");
        let listener = TcpListener::bind(&address).await.expect("a free address");
        println!("listening {address}");
        axum::serve(listener, router).await.expect("a listener that stays");
    });
}
