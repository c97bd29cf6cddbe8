//! The console: a page that lists the services, with links to their pages, health and metrics. On shard 0 only.
//!
//! A handful of people look at it, so each connection is an async stream with a task of its own.

use std::net::SocketAddr;
use std::time::Duration;

use annulus_engine::metrics::render;
use annulus_engine::{Address, ListenOptions, Shard, Stream};
use annulus_protocols::Input;
use annulus_protocols::http1::{self, BodyLength, Exchange, Server, write_response_head};

/// How long a connection may be silent.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// Connections at once. Beyond: closed as they come.
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

/// Listens, and serves until the engine drains.
///
/// # Errors
/// A sentence for people: why it could not listen.
pub fn start(shard: &Shard, listen: SocketAddr, services: Vec<Service>) -> Result<(), String> {
    let address = Address::Ip(listen);
    let options = ListenOptions { balance: annulus_engine::Balance::LeastLoaded, ..ListenOptions::default() };
    let listening = shard.listen(&address, &options);
    let listener = listening.map_err(|error| annulus_engine::error::explain_listen(&address, &error))?;
    crate::say!("console   http://{}/", listener.address());
    let owned = shard.clone();
    drop(shard.spawn(async move {
        let open = std::rc::Rc::new(());
        while let Some(stream) = owned.until_drained(listener.accept()).await {
            if std::rc::Rc::strong_count(&open) > CONNECTIONS_MAX {
                stream.abort();
                continue;
            }
            let (shard, services, open) = (owned.clone(), services.clone(), open.clone());
            drop(owned.spawn(async move {
                // A visitor that is gone or too slow is no loss.
                let _ended = shard.until_drained(serve(&shard, stream, &services)).await;
                drop(open);
            }));
        }
    }));
    Ok(())
}

async fn serve(shard: &Shard, mut stream: Stream, services: &[Service]) -> std::io::Result<()> {
    let mut server = Server::new();
    let mut out = Vec::new();
    loop {
        let received = shard.timeout(SILENCE_MAX, stream.recv()).await;
        let Ok(Some(mut chunk)) = received.unwrap_or(Ok(None)) else { return stream.finish().await };
        let closes = requests(shard, &mut server, &mut Input::new(&mut chunk), services, &mut out);
        stream.send_copy(&[&out]).await?;
        out.clear();
        if closes {
            return stream.finish().await;
        }
    }
}

/// Answers the requests in the input. Whether the connection is to close.
fn requests(
    shard: &Shard,
    server: &mut Server,
    input: &mut Input<'_>,
    services: &[Service],
    out: &mut Vec<u8>,
) -> bool {
    let now = shard.now().as_millis() as u64;
    loop {
        match server.next_event(&http1::Limits::DEFAULT, now, input) {
            Ok(http1::Event::NeedMore) => return false,
            Ok(http1::Event::Head(head)) => {
                let exchange = head.exchange();
                let text = |kind| [("content-type", kind), ("cache-control", "no-store")];
                let closes = match (head.method(), head.path()) {
                    ("GET" | "HEAD", "/") => {
                        let fields =
                            [("content-type", "text/html; charset=utf-8"), ("content-security-policy", POLICY)];
                        answer(out, &exchange, 200, &fields, &page(services))
                    }
                    ("GET" | "HEAD", "/health") => answer(out, &exchange, 200, &text("application/json"), "{}"),
                    ("GET" | "HEAD", "/metrics") => {
                        let metrics = render(shard.all_metrics());
                        answer(out, &exchange, 200, &text("text/plain; version=0.0.4"), &metrics)
                    }
                    _ => answer(out, &exchange.closing(), 404, &text("text/plain"), "There is nothing here.\n"),
                };
                if closes {
                    return true;
                }
            }
            Ok(_) => {}
            Err(fault) => {
                let fields = [("content-type", "text/plain")];
                return answer(out, &Exchange::REFUSED, fault.status(), &fields, fault.reason());
            }
        }
    }
}

fn answer(out: &mut Vec<u8>, exchange: &Exchange, status: u16, fields: &[(&str, &str)], body: &str) -> bool {
    let mut writer = write_response_head(out, exchange, status, fields, BodyLength::Known(body.len() as u64));
    writer.write_data(out, body.as_bytes());
    writer.write_end(out)
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
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><meta name=\"color-scheme\" content=\"light dark\">\
         <title>annulus console</title><style>body{{font:16px/1.5 system-ui,sans-serif;max-width:48rem;margin:3rem auto;padding:0 1rem}}\
         table{{border-collapse:collapse;width:100%}}th,td{{text-align:left;padding:.6rem .8rem .6rem 0;border-bottom:1px solid #8884}}\
         a{{color:#c8431c}}</style><h1>annulus</h1><table>{rows}</table>\
         <p><a href=\"/metrics\">metrics of the whole process</a></p></html>"
    )
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
