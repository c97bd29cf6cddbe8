//! A way to a server on which the weather is ours: slow, losing, holding everything back, or breaking off.
//!
//! ```text
//!   client ─► pieces, each with the time when it may arrive ─► server        and back, likewise
//! ```
//!
//! What is lost of a TCP connection comes again after the sender's time-out, and everything behind it waits for it (RFC 6298).
//! So a loss is here a piece that comes 200 ms later, the least that Linux waits.

use crate::process::free_address;
use crate::random::Random;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What a lost segment costs at least.
const LOST: Duration = Duration::from_millis(200);
const PIECE_BYTES: usize = 16 << 10;

/// How it is on the road.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Weather {
    /// How long each piece takes, one way.
    pub delay: Duration,
    /// And at random up to that much more.
    pub jitter: Duration,
    /// The share of pieces that are lost, and come later.
    pub loss: f64,
    /// Nothing arrives, and nobody is told.
    pub black: bool,
    /// Who comes is sent away.
    pub closed: bool,
}

struct Shared {
    weather: Mutex<Weather>,
    alive: Mutex<Vec<TcpStream>>,
}

impl Shared {
    fn weather(&self) -> Weather {
        *self.weather.lock().expect("nobody panics with it")
    }
}

/// See the module's description.
pub struct Road {
    /// Where it begins.
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

impl Road {
    /// A road to `server`, in fine weather. It is there until the program ends.
    ///
    /// # Errors
    /// A sentence: there is no port for it.
    pub fn to(server: SocketAddr) -> Result<Road, String> {
        let address = free_address()?;
        let listener = TcpListener::bind(address).map_err(|error| format!("no road at {address}: {error}"))?;
        let shared = Arc::new(Shared { weather: Mutex::default(), alive: Mutex::default() });
        let road = Road { address, shared: shared.clone() };
        std::thread::spawn(move || {
            for (number, client) in listener.incoming().enumerate() {
                let Ok(client) = client else { continue };
                if shared.weather().closed {
                    continue;
                }
                let Ok(server) = TcpStream::connect(server) else { continue };
                let _travellers = (client.set_nodelay(true), server.set_nodelay(true));
                travel(&shared, client, server, number as u64);
            }
        });
        Ok(road)
    }

    /// Changes the weather.
    pub fn set(&self, weather: Weather) {
        *self.shared.weather.lock().expect("nobody panics with it") = weather;
    }

    /// Breaks off all connections that are there.
    pub fn cut(&self) {
        for stream in self.shared.alive.lock().expect("nobody panics with it").drain(..) {
            let _already_gone = stream.shutdown(Shutdown::Both);
        }
    }
}

fn travel(shared: &Arc<Shared>, client: TcpStream, server: TcpStream, number: u64) {
    let (Ok(client_too), Ok(server_too), Ok(handle)) = (client.try_clone(), server.try_clone(), client.try_clone())
    else {
        return;
    };
    shared.alive.lock().expect("nobody panics with it").push(handle);
    for (from, to, seed) in [(client, server_too, 2 * number), (server, client_too, 2 * number + 1)] {
        let (sender, pieces) = channel();
        let (there, here) = (shared.clone(), shared.clone());
        std::thread::spawn(move || load(&there, from, &sender, seed));
        std::thread::spawn(move || unload(&here, to, &pieces));
    }
}

/// A piece, and when it may arrive.
type Piece = (Instant, Vec<u8>);

fn load(shared: &Shared, mut from: TcpStream, pieces: &Sender<Piece>, seed: u64) {
    let mut random = Random::new(2 * seed + 1);
    let mut last = Instant::now();
    let mut buffer = vec![0; PIECE_BYTES];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        let weather = shared.weather();
        let mut takes = weather.delay + weather.jitter.mul_f64(random.uniform());
        if random.happens(weather.loss) {
            takes += LOST;
        }
        // In order, so one that is late holds up all behind it.
        last = last.max(Instant::now() + takes);
        if pieces.send((last, buffer[..read].to_vec())).is_err() {
            break;
        }
    }
}

fn unload(shared: &Shared, mut to: TcpStream, pieces: &Receiver<Piece>) {
    for (due, piece) in pieces {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        while shared.weather().black {
            std::thread::sleep(Duration::from_millis(5));
        }
        if to.write_all(&piece).is_err() {
            break;
        }
    }
    let _already_gone = to.shutdown(Shutdown::Both);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                std::thread::spawn(move || {
                    let mut there = stream.try_clone().unwrap();
                    let _until_its_end = std::io::copy(&mut stream, &mut there);
                });
            }
        });
        address
    }

    fn ask(stream: &mut TcpStream) -> std::io::Result<Duration> {
        let asked = Instant::now();
        stream.write_all(b"ping")?;
        stream.read_exact(&mut [0; 4])?;
        Ok(asked.elapsed())
    }

    #[test]
    fn weather_is_felt_both_ways_and_changes_while_somebody_travels() {
        let road = Road::to(echo()).unwrap();
        let mut stream = TcpStream::connect(road.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        assert!(ask(&mut stream).unwrap() < Duration::from_millis(200));
        road.set(Weather { delay: Duration::from_millis(40), ..Weather::default() });
        let took = ask(&mut stream).unwrap();
        assert!(took >= Duration::from_millis(80), "{took:?}");
        road.set(Weather { black: true, ..Weather::default() });
        assert!(ask(&mut stream).is_err(), "nothing arrives");
        road.set(Weather::default());
        stream.read_exact(&mut [0; 4]).unwrap();
        road.cut();
        assert!(ask(&mut stream).is_err());
        road.set(Weather { closed: true, ..Weather::default() });
        let mut turned_away = TcpStream::connect(road.address).unwrap();
        assert!(ask(&mut turned_away).is_err());
    }
}
