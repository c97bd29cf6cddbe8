//! The services as they are attacked: the real binary with limits as they are by default, but for times that would be waited for.
//!
//! Every attack meets a server that has just been started, so that what one leaves behind hides nothing of the next.

use super::finding::Service;
use super::forge::{self, Keys};
use super::raw::{self, Line};
use super::socket::{self, Heard, Socket};
use super::spy::Spy;
use super::witness::{Client, Outcome};
use crate::gateway::attack::hostile::Hostile;
use crate::gateway::config::{self, Choices, Upstream};
use crate::gateway::shop::Shop;
use crate::ground::Ground;
use crate::image::server as image;
use crate::process::Server;
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

/// The only origin whose pages are let in.
pub const ORIGIN: &str = "https://app.example.com";
/// The key of the chat's API.
pub const API_KEY: &str = "key-of-the-api-0123456789";
/// What the gateway may take for answers, in bytes.
pub const ANSWERS_BYTES: u64 = 48 << 20;
/// What a file outside of everything that is served says.
pub const CANARY: &str = "canary-that-nobody-serves";
/// What variants' addresses are signed with.
pub const VARIANT_KEY: &str = "variants-0123456789abcdef0123456789abcdef";
/// How often somebody asks again who is turned away, and how long after.
const AGAIN: u64 = 10;
const AGAIN_PAUSE: std::time::Duration = std::time::Duration::from_millis(200);
/// How long a job of the image service may take.
const JOB_MAX: std::time::Duration = std::time::Duration::from_secs(60);

/// What all stages share: what stands behind the services, keys, and a folder.
pub struct Yard {
    /// The services behind the gateway.
    pub shop: Shop,
    /// A backend that remembers.
    pub spy: Spy,
    /// A server that nobody must ever be led to.
    pub secret: Spy,
    /// A backend that attacks.
    pub hostile: Hostile,
    /// Keys of tokens.
    pub keys: Keys,
    /// A picture.
    pub photo: Vec<u8>,
    ground: Ground,
    count: AtomicU32,
}

impl Yard {
    /// Starts it.
    ///
    /// # Errors
    /// A sentence.
    pub fn new() -> Result<Yard, String> {
        let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let secret = Spy::start(here, None)?;
        let spy = Spy::start(here, Some(secret.address))?;
        let ground = Ground::new("attacks")?;
        write(&ground.folder.join("canary.txt"), CANARY)?;
        let keys = Keys::new()?;
        write(&ground.folder.join("keys.json"), &keys.set().to_string())?;
        Ok(Yard {
            shop: Shop::start(None, &[("latency", "0"), ("sizes", "1KB")])?,
            spy,
            secret,
            hostile: Hostile::start()?,
            keys,
            photo: crate::image::photos::small()?,
            ground,
            count: AtomicU32::new(0),
        })
    }

    /// The chat, with more lines of configuration; each a table of its own.
    ///
    /// # Errors
    /// A sentence: it ended at once.
    pub fn chat(&self, more: &str) -> Result<Server, String> {
        Server::start_chat(&chat_text(more), None)
    }

    /// The image service, with more lines, on data of its own.
    ///
    /// # Errors
    /// As [`Yard::chat`].
    pub fn image(&self, more: &str) -> Result<image::Server, String> {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let text = format!("{IMAGE}{more}\n[image.variants]\nkeys = [{VARIANT_KEY:?}]\n");
        image::Server::start(&self.ground.folder.join(format!("image-{number}")), &text)
    }

    /// The gateway.
    ///
    /// # Errors
    /// As [`Yard::chat`].
    pub fn gateway(&self) -> Result<Server, String> {
        Server::start_gateway_of(|address| self.gateway_text(address))
    }

    fn gateway_text(&self, address: SocketAddr) -> String {
        let choices = Choices {
            driver: crate::process::Driver::Auto,
            upstream: Upstream::Http1,
            backend_ms: 2000,
            all_cores: false,
            breakers: false,
            retries: false,
            apart: false,
            h2c_clients: true,
            compresses: true,
            memory_bytes: Some(ANSWERS_BYTES),
            hostile: Some(self.hostile.address),
        };
        let text = config::write(address, self.shop.address, &choices);
        let mut root: Value = serde_json::from_str(&text).unwrap_or_default();
        // A request has to be whole by then, so that nobody waits a minute for the verdict.
        root["read_timeout"] = json!(format!("{REQUEST_SECONDS}s"));
        root["extra_config"]["security/cors"] =
            json!({ "allow_origins": [ORIGIN], "allow_methods": ["GET", "POST"], "allow_credentials": true });
        let spy = |path: &str, pattern: &str, more: Value| {
            let mut backend = json!({ "host": [format!("http://{}", self.spy.address)], "url_pattern": pattern });
            if let Some(encoding) = more.get("encoding") {
                backend["encoding"] = encoding.clone();
            }
            let extra = more.get("extra").cloned().unwrap_or(json!({}));
            json!({ "endpoint": path, "method": "GET", "backend": [backend], "extra_config": extra })
        };
        let validator = json!({ "auth/validator": {
            "alg": "EdDSA", "jwk_local_path": self.ground.folder.join("keys.json").display().to_string(),
        } });
        let endpoints = root["endpoints"].as_array_mut().expect("the configuration is ours");
        endpoints.extend([
            spy("/spied", "/spied", json!({})),
            spy("/files/{name}", "/files/{name}", json!({})),
            spy("/tree/*", "/tree/{wildcard}", json!({})),
            spy("/redirect", "/redirect", json!({})),
            spy("/huge", "/huge", json!({})),
            spy("/deep", "/deep", json!({})),
            spy("/packed-bomb", "/packed", json!({})),
            spy("/bomb", "/bomb", json!({ "encoding": "xml" })),
            spy("/guarded", "/guarded", json!({ "extra": validator })),
        ]);
        // Wildcards of paths are for answers that are passed on as they come.
        for endpoint in endpoints.iter_mut().filter(|endpoint| endpoint["endpoint"] == "/tree/*") {
            endpoint["output_encoding"] = json!("no-op");
            endpoint["backend"][0]["encoding"] = json!("no-op");
        }
        let posts: Vec<Value> = endpoints.iter().filter(|endpoint| endpoint["endpoint"] == "/spied").cloned().collect();
        for mut post in posts {
            post["method"] = json!("POST");
            endpoints.push(post);
        }
        format!("{root:#}\n")
    }
}

fn write(file: &Path, text: &str) -> Result<(), String> {
    std::fs::write(file, text).map_err(|error| format!("cannot write {}: {error}", file.display()))
}

/// How long the gateway and the chat wait for a whole request, in seconds.
pub const REQUEST_SECONDS: u64 = 2;

/// The image service's settings.
const IMAGE: &str = "originals_kept = true\nbody_pause_seconds_max = 1\n";

fn chat_text(more: &str) -> String {
    format!(
        "[engine]\nshards = 1\npin = [{core}]\n\n[chat]\nallowed_origins = [{ORIGIN:?}]\nallow_own_origin = false\n\
         http_stream = true\nsse = true\nidle_seconds_max = {REQUEST_SECONDS}\n\n\
         [chat.client]\nstale_close_delay = \"2s\"\n\n\
         [chat.tokens]\nhmac_secret = {secret:?}\nrsa_public_key = {pem:?}\n\n[chat.api]\nkeys = [{API_KEY:?}]\n\n\
         [chat.compression]\n\n[chat.log]\nenabled = false\n\n[chat.database]\nenabled = false\n\n{more}",
        core = crate::placement::SERVER_CORE,
        secret = forge::SECRET,
        pem = forge::RSA_PEM,
    )
}

/// A server that is attacked.
pub struct Stage<'a> {
    /// Which it is.
    pub service: Service,
    /// Where it listens.
    pub address: SocketAddr,
    /// Its process.
    pub pid: u32,
    /// What stands around.
    pub yard: &'a Yard,
    /// Of the image service: the path of an output, and the key of its original.
    pub output: Option<(String, String)>,
    _server: Held,
}

/// Held so that it runs.
enum Held {
    Ours(#[expect(dead_code, reason = "killed when it is dropped")] Server),
    Image(#[expect(dead_code, reason = "killed when it is dropped")] image::Server),
}

impl<'a> Stage<'a> {
    /// Starts a service anew.
    ///
    /// # Errors
    /// A sentence.
    pub fn start(service: Service, yard: &'a Yard) -> Result<Stage<'a>, String> {
        let (address, pid, server) = match service {
            Service::Chat => yard.chat("").map(|server| (server.address, server.pid(), Held::Ours(server)))?,
            Service::Gateway => yard.gateway().map(|server| (server.address, server.pid(), Held::Ours(server)))?,
            Service::Image => yard.image("").map(|server| (server.address, server.pid(), Held::Image(server)))?,
        };
        let output = match service {
            Service::Image => Some(first_output(address, &yard.photo)?),
            Service::Chat | Service::Gateway => None,
        };
        Ok(Stage { service, address, pid, yard, output, _server: server })
    }

    /// Well-behaved clients of it.
    pub fn clients(&self, count: usize) -> Vec<Client> {
        let address = self.address;
        let of = |number: usize| -> Client {
            match self.service {
                Service::Chat => talker(address, number),
                Service::Gateway => reader(address, "/fanout/2".to_owned()),
                Service::Image => reader(address, self.output.clone().unwrap_or_default().0),
            }
        };
        (0..count).map(of).collect()
    }
}

/// Uploads a picture and waits; where its first output is, and the key of its original.
fn first_output(address: SocketAddr, photo: &[u8]) -> Result<(String, String), String> {
    let mut answer = image::upload(address, "web", photo)?;
    // On a busy machine it may have too much to do even now.
    for _ in 0..AGAIN {
        if !matches!(answer.status, 429 | 503) {
            break;
        }
        std::thread::sleep(AGAIN_PAUSE);
        answer = image::upload(address, "web", photo)?;
    }
    let id = answer.document()["id"].as_str().map(str::to_owned);
    let id = id.ok_or_else(|| format!("the first upload was answered with {}", answer.status))?;
    let document = image::ended(address, &id, JOB_MAX)?;
    let url =
        document["outputs"][0]["url"].as_str().ok_or_else(|| format!("the first job came to this: {document}"))?;
    let path = url.find("/v1/").map_or(url, |at| &url[at..]).to_owned();
    Ok((path, document["source"]["key"].as_str().unwrap_or_default().to_owned()))
}

/// Asks for one path again and again, on a connection that is kept. Who is turned away asks again, as everybody does.
fn reader(address: SocketAddr, path: String) -> Client {
    let mut line = None;
    Box::new(move || {
        for times in 0..=AGAIN {
            match read_once(&mut line, address, &path) {
                Ok(200) => return Outcome::Good(times),
                Ok(429 | 503) => std::thread::sleep(AGAIN_PAUSE),
                Ok(status) => return Outcome::Failed(format!("status {status}")),
                Err(why) => return Outcome::Failed(why),
            }
        }
        Outcome::Refused
    })
}

/// One request, on a connection that is made anew where there is none.
fn read_once(kept: &mut Option<Line>, address: SocketAddr, path: &str) -> Result<u16, String> {
    // Gone where anything goes wrong.
    let mut line = match kept.take() {
        Some(line) => line,
        None => Line::open(address)?,
    };
    line.send(&raw::request("GET", path, "", b""))?;
    let reply = line.reply()?;
    if !reply.field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
        *kept = Some(line);
    }
    Ok(reply.status)
}

/// Publishes to a channel of its own, and waits until it hears that itself.
fn talker(address: SocketAddr, number: usize) -> Client {
    let (mut socket, mut sent) = (None, 0u64);
    Box::new(move || {
        let mut ask = || {
            let channel = format!("witness-{number}");
            let socket = match &mut socket {
                Some(socket) => socket,
                None => socket.insert(joined(address, &format!("witness{number}"), &[&channel])?),
            };
            sent += 1;
            let command = format!(r#"{{"id":10,"publish":{{"channel":"{channel}","data":{{"n":{sent}}}}}}}"#);
            socket.send(&socket::text(&command))?;
            loop {
                match socket.hear() {
                    Heard::Line(line) if line["push"]["pub"]["data"]["n"] == sent => return Ok(()),
                    Heard::Line(line) if line.get("error").is_some() => return Err(line["error"].to_string()),
                    Heard::Line(_) => {}
                    other => return Err(other.text()),
                }
            }
        };
        match ask() {
            Ok(()) => Outcome::Good(0),
            Err(why) => {
                socket = None;
                Outcome::Failed(why)
            }
        }
    })
}

/// Where the chat's WebSockets are.
pub const WEBSOCKET: &str = "/connection/websocket";

/// A good token for a connection.
pub fn token(user: &str) -> String {
    forge::hs(&json!({ "alg": "HS256" }), &json!({ "sub": user, "exp": forge::EXPIRES }), forge::SECRET.as_bytes())
}

/// The message with which a client comes in, and subscribes to channels under ids from 2 on.
pub fn joining(user: &str, channels: &[&str]) -> String {
    let mut message = format!(r#"{{"id":1,"connect":{{"token":"{}"}}}}"#, token(user));
    for (index, channel) in channels.iter().enumerate() {
        message += &format!("\n{{\"id\":{},\"subscribe\":{{\"channel\":\"{channel}\"}}}}", index + 2);
    }
    message
}

/// A client that has come in and is subscribed.
///
/// # Errors
/// In words.
pub fn joined(address: SocketAddr, user: &str, channels: &[&str]) -> Result<Socket, String> {
    let mut socket = Socket::open(address, WEBSOCKET, "")?;
    socket.send(&socket::text(&joining(user, channels)))?;
    for id in 1..=channels.len() as u32 + 1 {
        match socket.reply(id) {
            Heard::Line(line) if line.get("error").is_none() => {}
            other => return Err(other.text()),
        }
    }
    Ok(socket)
}
