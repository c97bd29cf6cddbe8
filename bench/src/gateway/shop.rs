//! The fake services as a child process on their cores, and their settings and counts over `/control`.

use crate::janitor;
use crate::placement;
use crate::sampler::Sample;
use crate::upstreams::service::SERVICES;
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long they may take until they accept.
const START_MAX: Duration = Duration::from_secs(10);
/// Where free ports are looked for: below the range that the kernel gives to clients.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// The running services.
pub struct Shop {
    child: Child,
    /// The port of all services.
    pub address: SocketAddr,
}

/// What the services counted since they started.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counts {
    /// Requests, over all services.
    pub requests: u64,
    /// Connections.
    pub connections: u64,
    /// Requests that came twice though they must not.
    pub repeated: u64,
    /// Answers broken off.
    pub reset: u64,
    /// Requests turned away.
    pub refused: u64,
    /// Requests by service.
    pub by_service: Vec<u64>,
}

impl Shop {
    /// Starts them with these settings (`latency`, `0`, ...), at that port or wherever there is room.
    ///
    /// # Errors
    /// A sentence: no free ports, or they ended at once.
    pub fn start(port: Option<u16>, settings: &[(&str, &str)]) -> Result<Shop, String> {
        let address = match port {
            Some(port) => SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            None => free_ports()?,
        };
        let program = std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
        let mut command = Command::new(program);
        let cores = placement::services_cores();
        let shards = cores.len().to_string();
        command.args(["upstreams", "--listen", &address.to_string(), "--shards", &shards]);
        command.args(["--pin", &placement::list(cores)]);
        for (name, value) in settings {
            command.arg(format!("--{}", name.replace('_', "-"))).arg(value);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null());
        if std::env::var_os("ANNULUS_BENCH_VERBOSE").is_none() {
            command.stderr(Stdio::null());
        }
        let child = janitor::spawn(&mut command).map_err(|error| format!("cannot start the services: {error}"))?;
        let mut shop = Shop { child, address };
        let started = Instant::now();
        let last = SocketAddr::new(address.ip(), address.port() + SERVICES.len() as u16);
        while TcpStream::connect_timeout(&last, Duration::from_millis(200)).is_err() {
            if let Ok(Some(status)) = shop.child.try_wait() {
                return Err(format!(
                    "the services ended at once ({status}); ANNULUS_BENCH_VERBOSE=1 shows what they say"
                ));
            }
            if started.elapsed() > START_MAX {
                return Err(format!("the services do not accept at {last} after {START_MAX:?}"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(shop)
    }

    /// Their process number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Their process's accounts.
    ///
    /// # Errors
    /// As [`Sample::of`].
    pub fn sample(&self) -> Result<Sample, String> {
        Sample::of(self.pid())
    }

    /// Changes settings: `{"service": "stock", "stalls": 1}`.
    ///
    /// # Errors
    /// A sentence: the services do not answer, or refuse.
    pub fn change(&self, change: &Value) -> Result<(), String> {
        control(self.address, "POST", &change.to_string()).map(drop)
    }

    /// What they counted.
    ///
    /// # Errors
    /// As [`Shop::change`].
    pub fn counts(&self) -> Result<Counts, String> {
        counts(self.address)
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        let _already_gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// What the services at that address counted.
///
/// # Errors
/// A sentence: they do not answer.
pub fn counts(address: SocketAddr) -> Result<Counts, String> {
    let page = control(address, "GET", "")?;
    let of = |value: &Value| value.as_u64().unwrap_or_default();
    let counted = |name: &str, counter: &str| of(&page["services"][name]["counts"][counter]);
    let by_service: Vec<u64> = SERVICES.iter().map(|service| counted(service.name, "requests")).collect();
    let sum = |counter: &str| SERVICES.iter().map(|service| counted(service.name, counter)).sum();
    Ok(Counts {
        requests: by_service.iter().sum(),
        connections: of(&page["connections"]),
        repeated: of(&page["repeated"]),
        reset: sum("reset"),
        refused: sum("refused"),
        by_service,
    })
}

/// What `/control` of the services at that address says: their settings and all that they count.
///
/// # Errors
/// A sentence: they do not answer, or refuse.
pub fn control(address: SocketAddr, method: &str, body: &str) -> Result<Value, String> {
    let failed = |error: std::io::Error| format!("the services at {address}: {error}");
    let mut stream = TcpStream::connect(address).map_err(failed)?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).map_err(failed)?;
    let length = body.len();
    let head = format!(
        "{method} /control HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all((head + body).as_bytes()).map_err(failed)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(failed)?;
    let (head, body) =
        answer.split_once("\r\n\r\n").ok_or_else(|| format!("the services at {address} said {answer:?}"))?;
    if !head.starts_with("HTTP/1.1 200") {
        return Err(format!("the services at {address} refused: {body}"));
    }
    serde_json::from_str(body).map_err(|error| format!("the services at {address}: {error}"))
}

/// As many free ports in a row as the services need.
fn free_ports() -> Result<SocketAddr, String> {
    let count = SERVICES.len() as u16 + 1;
    let step = usize::from(count);
    // Runs side by side begin at different places.
    let rotation = std::process::id() as usize % (PORTS.len() / step);
    let bases = PORTS.step_by(step).cycle().skip(rotation).take(PORTS.len() / step);
    for base in bases {
        let held: Vec<_> = (base..base + count).map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port))).collect();
        if held.iter().all(Result::is_ok) {
            return Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, base)));
        }
    }
    Err(format!("there are no {count} free ports in a row between {} and {}", PORTS.start, PORTS.end))
}
