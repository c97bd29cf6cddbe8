//! `annulus fetch`: a small client on the machines that the gateway uses, for looking at servers.
//!
//! ```text
//! annulus fetch [--http1|--http2|--h2c] [--insecure] [-i] [-f] [-X METHOD] [-H 'Name: value'] [-d BODY] URL...
//! ```
//!
//! URLs of one origin share a connection. Bodies go to standard output in the order of the URLs. What a server does wrong
//! is told, and the exit status is 1 then.

use std::cell::Cell;
use std::collections::HashMap;
use std::io::Write;
use std::rc::Rc;
use std::time::Duration;

use annulus_engine::{Engine, Shard};

use crate::command::words::Words;
use crate::gateway::config::model::{ClientTls, TlsVersion};
use crate::gateway::fetching::{
    Call, Dialer, Failure, FieldList, Origin, Phase, Protocol, Settings, Upstream, is_hop_by_hop, system_resolver,
};

/// Longest answer that is shown, in bytes.
const BODY_BYTES_MAX: usize = 1 << 30;
/// How long connecting may take.
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// What to fetch, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch {
    urls: Vec<Url>,
    method: String,
    fields: Vec<(String, String)>,
    body: Option<String>,
    include: bool,
    fail: bool,
    insecure: bool,
    seconds: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Url {
    text: String,
    origin: Origin,
    authority: String,
    target: String,
}

impl Fetch {
    /// Takes the words after `fetch`.
    ///
    /// # Errors
    /// A sentence: what is wrong and what was expected.
    pub fn read(words: &Words) -> Result<Fetch, String> {
        let body = words.value("-d").map(str::to_owned);
        let method = words.value("-X").unwrap_or(if body.is_some() { "POST" } else { "GET" }).to_owned();
        let mut protocol = Protocol::Auto;
        for (flag, _) in words.given() {
            match flag {
                "--http1" => protocol = Protocol::Http1,
                "--http2" | "--h2c" => protocol = Protocol::Http2,
                _ => {}
            }
        }
        if words.operands().is_empty() {
            return Err("fetch what? For example: annulus fetch http://127.0.0.1:8080/__health".to_owned());
        }
        Ok(Fetch {
            urls: words.operands().iter().map(|text| Url::read(text, protocol)).collect::<Result<_, _>>()?,
            method,
            fields: words.values("-H").map(read_field).collect::<Result<_, _>>()?,
            body,
            include: words.has("--include"),
            fail: words.has("--fail"),
            insecure: words.has("--insecure"),
            seconds: words.parsed("--seconds", "a number")?.unwrap_or(30),
        })
    }

    /// Fetches everything. Whether all went well.
    ///
    /// # Errors
    /// The engine does not start.
    pub fn run(self) -> Result<bool, String> {
        let main = move |shard: Shard| {
            let fetch = self.clone();
            async move { fetch.all(&shard).await }
        };
        let ended = Engine::builder().shards(1).run(main).map_err(|error| error.to_string())?;
        ended.into_iter().try_fold(true, |all, one| one.map(|one| all && one))
    }

    async fn all(self, shard: &Shard) -> Result<bool, String> {
        let tls = ClientTls {
            allow_insecure_connections: self.insecure,
            ca_certs: Vec::new(),
            // Reading it costs more than a fetch without TLS.
            system_ca_pool: self.urls.iter().any(|url| url.origin.tls),
            min_version: TlsVersion::Tls12,
            max_version: TlsVersion::Tls13,
            client_certs: Vec::new(),
        };
        let tls = crate::gateway::fetching::client_config(&tls)?;
        let resolver = system_resolver(shard, &[], Duration::from_secs(60));
        let dialer = Rc::new(Dialer::new(shard, resolver, &tls, CONNECT_MAX));
        let settings = Rc::new(Settings::default());
        let mut upstreams: HashMap<Origin, Rc<Upstream>> = HashMap::new();
        let fetch = Rc::new(self);
        let tasks: Vec<_> = fetch
            .urls
            .iter()
            .enumerate()
            .map(|(index, url)| {
                let make = || Upstream::new(shard, dialer.clone(), url.origin.clone(), settings.clone());
                let upstream = upstreams.entry(url.origin.clone()).or_insert_with(make).clone();
                let (fetch, on) = (fetch.clone(), shard.clone());
                let one = async move {
                    let patience = Duration::from_secs(fetch.seconds);
                    match on.timeout(patience, fetch.one(&upstream, &fetch.urls[index])).await {
                        Ok(outcome) => {
                            outcome.map_err(|failure| format!("{}: {}", failure.phase.name(), failure.cause))
                        }
                        Err(_elapsed) => Err(format!("no answer within {patience:?}")),
                    }
                };
                shard.spawn(one)
            })
            .collect();
        let mut good = true;
        for (task, url) in tasks.into_iter().zip(&fetch.urls) {
            match task.await.unwrap_or_else(|_| Err("the request ended by a panic".into())) {
                Ok((status, bytes)) => {
                    std::io::stdout().write_all(&bytes).map_err(|error| error.to_string())?;
                    if fetch.fail && status >= 400 {
                        good = false;
                        eprintln!("annulus fetch: {}: status {status}", url.text);
                    }
                }
                Err(why) => {
                    good = false;
                    eprintln!("annulus fetch: {}: {why}", url.text);
                }
            }
        }
        Ok(good)
    }

    /// An answer: its status, and what is shown of it.
    async fn one(&self, upstream: &Rc<Upstream>, url: &Url) -> Result<(u16, Vec<u8>), Failure> {
        // A Host of one's own is whom the request names; the URL remains whom it goes to.
        let own_host = self.fields.iter().rfind(|(name, _)| name == "host").map(|(_, host)| &host[..]);
        let mut fields = FieldList::new();
        for (name, value) in self.fields.iter().filter(|(name, _)| name != "host") {
            fields.push(name, value.as_bytes());
        }
        for (name, value) in [("user-agent", concat!("annulus-fetch/", env!("CARGO_PKG_VERSION"))), ("accept", "*/*")] {
            if fields.get(name).is_none() {
                fields.push(name, value.as_bytes());
            }
        }
        let body = self.body.as_deref().map(str::as_bytes);
        let (method, target, authority) = (&self.method[..], &url.target[..], own_host.unwrap_or(&url.authority));
        let progress = Cell::new(Phase::Admission);
        let call = Call { method, target, authority, fields: &fields, body, inflow: None, progress: &progress };
        let answer = upstream.call(&call).await?;
        let mut out = Vec::new();
        if self.include {
            out.extend_from_slice(format!("{}\n", answer.status).as_bytes());
            for (name, value) in answer.fields.iter() {
                out.extend_from_slice(name.as_bytes());
                out.extend_from_slice(b": ");
                out.extend_from_slice(value);
                out.push(b'\n');
            }
            out.push(b'\n');
        }
        let status = answer.status;
        out.extend_from_slice(&answer.collect(BODY_BYTES_MAX).await?);
        Ok((status, out))
    }
}

/// Reads `Name: value`, and refuses what no server may be sent.
fn read_field(field: &str) -> Result<(String, String), String> {
    let (name, value) = field.split_once(':').ok_or(format!("-H {field}: expected 'Name: value'"))?;
    let (name, value) = (name.trim().to_ascii_lowercase(), value.trim().to_owned());
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(is_token) {
        return Err(format!("-H {field}: {name:?} is no field name"));
    }
    if value.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t') {
        return Err(format!("-H {field:?}: a value has no control characters"));
    }
    if is_hop_by_hop(&name) || name == "content-length" {
        return Err(format!("-H {field}: {name} is the connection's own affair, which fetch sees to"));
    }
    Ok((name, value))
}

impl Url {
    fn read(text: &str, protocol: Protocol) -> Result<Url, String> {
        let wrong = || format!("{text}: expected a URL such as http://127.0.0.1:8080/__health");
        let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
        let tls = match scheme {
            "http" => false,
            "https" => true,
            _ => return Err(wrong()),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        let target = target.split('#').next().unwrap_or_default();
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        let after_bracket = authority.rfind(']').map_or(0, |at| at + 1);
        let (host, port) = match authority[after_bracket..].split_once(':') {
            Some((_, port)) => (&authority[..authority.len() - port.len() - 1], port.parse().map_err(|_| wrong())?),
            None => (authority, if tls { 443 } else { 80 }),
        };
        if host.is_empty() || target.bytes().any(|byte| !byte.is_ascii_graphic()) {
            return Err(wrong());
        }
        let origin = Origin { tls, host: host.to_ascii_lowercase(), port, protocol };
        Ok(Url { text: text.to_owned(), origin, authority: authority.to_owned(), target })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::commands::find;

    fn url(text: &str) -> Url {
        Url::read(text, Protocol::Auto).unwrap()
    }

    #[test]
    fn urls_are_taken_apart() {
        let plain = url("http://Example.com/a?b#c");
        assert_eq!((&plain.origin.host[..], plain.origin.port, &plain.target[..]), ("example.com", 80, "/a?b"));
        let odd = url("https://[::1]:8443?x");
        assert_eq!(
            (&odd.origin.host[..], odd.origin.port, odd.origin.tls, &odd.target[..]),
            ("[::1]", 8443, true, "/?x")
        );
        for wrong in ["example.com", "ftp://a/", "http://", "http://a:x/", "http://a/ b"] {
            assert!(Url::read(wrong, Protocol::Auto).is_err(), "{wrong}");
        }
    }

    #[test]
    fn options_are_read() {
        let read = |line: &str| {
            Words::read(find("fetch").unwrap(), line.split_whitespace().map(str::to_owned))
                .and_then(|words| Fetch::read(&words))
        };
        let fetch = read("--h2c -i -H A:b -d x http://a/ http://a/b").unwrap();
        assert_eq!((&fetch.method[..], fetch.include, fetch.urls.len()), ("POST", true, 2));
        assert_eq!(fetch.urls[0].origin, fetch.urls[1].origin);
        assert_eq!(fetch.fields, [("a".to_owned(), "b".to_owned())]);
        for (line, says) in [
            ("", "fetch what"),
            ("--http3 http://a/", "no option"),
            ("-H x http://a/", "Name: value"),
            ("-H :x http://a/", "no field name"),
            ("-H a(b):x http://a/", "no field name"),
            ("-H a:\u{1}x http://a/", "control characters"),
            ("-H Connection:close http://a/", "own affair"),
            ("-X", "needs a value"),
        ] {
            assert!(read(line).unwrap_err().contains(says), "{line}");
        }
    }
}
