//! Peer of annulus-bench: the best that axum and reqwest give in an expert's hands.
//!
//! Against the one that most would write: answers are checked (UTF-8, JSON grammar) but never built, and their bytes are
//! copied once, into the merged answer; addresses are parsed at start; one timer serves a whole request instead of one
//! per upstream; redirects, proxies and referers are off; windows are large enough that no answer of the bench waits for
//! credit or is cut into small frames; small writes leave at once; memory comes from mimalloc; connections are served by
//! hyper's HTTP/1 directly.

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use reqwest::redirect::Policy;
use reqwest::{Client, Url};
use serde::de::IgnoredAny;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The widest fan-out.
const FANOUT_MAX: usize = 10;
/// How long an upstream may take.
const TIMEOUT: Duration = Duration::from_secs(2);
/// HTTP/2 credit per stream: more than the largest body of the bench.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
/// HTTP/2 credit per connection.
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// Largest HTTP/2 frame taken: the default of 16 KiB cuts a body of 100 KB into pieces, at a fifth more processor time.
const FRAME_BYTES_MAX: u32 = 256 << 10;
/// Idle HTTP/1.1 connections kept per upstream.
const IDLE_CONNECTIONS_MAX: usize = 1024;

struct App {
    client: Client,
    /// The address of each service, without a query.
    services: Vec<Url>,
}

impl App {
    async fn call(&self, service: usize, query: Option<&str>) -> Option<Bytes> {
        let mut url = self.services[service].clone();
        if query.is_some() {
            url.set_query(query);
        }
        let answer = self.client.get(url).send().await.ok()?;
        if answer.status() != StatusCode::OK {
            return None;
        }
        let body = answer.bytes().await.ok()?;
        let text = simdutf8::basic::from_utf8(&body).ok()?;
        serde_json::from_str::<IgnoredAny>(text).ok()?;
        Some(body)
    }

    /// The answers that come in time.
    async fn gather(&self, count: usize, query: Option<&str>) -> [Option<Bytes>; FANOUT_MAX] {
        let mut answers = [const { None }; FANOUT_MAX];
        let mut calls: FuturesUnordered<_> =
            (0..count).map(|service| async move { (service, self.call(service, query).await) }).collect();
        let all = async {
            while let Some((service, answer)) = calls.next().await {
                answers[service] = answer;
            }
        };
        let _late_ones_stay_none = tokio::time::timeout(TIMEOUT, all).await;
        answers
    }
}

fn merge(answers: &[Option<Bytes>]) -> Vec<u8> {
    let room = answers.iter().flatten().map(|body| body.len() + r#""s0":,"#.len()).sum::<usize>() + 2;
    let mut merged = Vec::with_capacity(room);
    merged.push(b'{');
    for (service, body) in answers.iter().enumerate().filter_map(|(service, body)| Some((service, body.as_ref()?))) {
        if merged.len() > 1 {
            merged.push(b',');
        }
        merged.extend_from_slice(&[b'"', b's', b'0' + service as u8, b'"', b':']);
        merged.extend_from_slice(body);
    }
    merged.push(b'}');
    merged
}

async fn fanout(State(app): State<Arc<App>>, Path(count): Path<usize>, RawQuery(query): RawQuery) -> Response {
    if !(1..=FANOUT_MAX).contains(&count) {
        return StatusCode::NOT_FOUND.into_response();
    }
    let answers = app.gather(count, query.as_deref()).await;
    let arrived = answers.iter().flatten().count();
    let mut response = Response::new(Body::from(merge(&answers)));
    if arrived == 0 {
        *response.status_mut() = StatusCode::BAD_GATEWAY;
    }
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let completed = if arrived == count { "true" } else { "false" };
    headers.insert("x-completed", HeaderValue::from_static(completed));
    response
}

fn client(h2c: bool) -> Client {
    let client = Client::builder().no_proxy().redirect(Policy::none()).referer(false).tcp_nodelay(true);
    let client = if h2c {
        client
            .http2_prior_knowledge()
            .http2_initial_stream_window_size(STREAM_WINDOW_BYTES)
            .http2_initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .http2_max_frame_size(FRAME_BYTES_MAX)
    } else {
        client.http1_only().pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
    };
    client.build().expect("a client")
}

fn option(name: &str, default: &str) -> String {
    let words: Vec<String> = std::env::args().collect();
    words.windows(2).find(|pair| pair[0] == name).map_or_else(|| default.to_owned(), |pair| pair[1].clone())
}

async fn serve(router: Router) {
    let address = option("--listen", "127.0.0.1:8080");
    let listener = TcpListener::bind(&address).await.expect("a free address");
    println!("listening {address}");
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let _kept = stream.set_nodelay(true);
        let service = TowerToHyperService::new(router.clone());
        tokio::spawn(async move {
            let _closed = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

fn main() {
    let core = option("--pin", "0").parse().expect("--pin takes a core number");
    core_affinity::set_for_current(core_affinity::CoreId { id: core });
    let upstreams = option("--upstream", "127.0.0.1:9100");
    let upstreams: Vec<&str> = upstreams.split(',').collect();
    let url = |service: usize| {
        let upstream = upstreams[service % upstreams.len()];
        format!("http://{upstream}/s/{service}").parse().expect("--upstream takes addresses")
    };
    let app =
        App { client: client(option("--protocol", "http1") == "h2c"), services: (0..FANOUT_MAX).map(url).collect() };
    let router = Router::new().route("/fanout/{count}", get(fanout)).with_state(Arc::new(app));
    let mut runtime = match option("--threads", "1").parse().expect("--threads takes a number") {
        1 => tokio::runtime::Builder::new_current_thread(),
        threads => {
            let mut runtime = tokio::runtime::Builder::new_multi_thread();
            runtime.worker_threads(threads);
            runtime
        }
    };
    runtime.enable_all().build().expect("a runtime").block_on(serve(router));
}
