//! A slow road to a server: every piece waits, and sometimes a connection is cut in the middle.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// See the module's description.
pub struct Proxy {
    pub port: u16,
    random: Arc<AtomicU64>,
    alive: Arc<Mutex<Vec<TcpStream>>>,
}

impl Proxy {
    /// A road to `port` on which answers take `delay_ms`.
    pub fn start(port: u16, delay_ms: Range<u64>) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy =
            Proxy { port: listener.local_addr().unwrap().port(), random: Arc::default(), alive: Arc::default() };
        let (random, alive) = (proxy.random.clone(), proxy.alive.clone());
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(("127.0.0.1", port))) else { continue };
                alive.lock().unwrap().push(client.try_clone().unwrap());
                let (back, forth) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                let (random, delay_ms) = (random.clone(), delay_ms.clone());
                std::thread::spawn(move || carry(client, server, || 0));
                std::thread::spawn(move || carry(back, forth, move || within(&random, &delay_ms)));
            }
        });
        proxy
    }

    /// Cuts one of the connections that are there, any.
    pub fn cut(&self) {
        let mut alive = self.alive.lock().unwrap();
        if !alive.is_empty() {
            let index = within(&self.random, &(0..alive.len() as u64)) as usize;
            let _gone = alive.swap_remove(index).shutdown(Shutdown::Both);
        }
    }
}

fn within(random: &AtomicU64, range: &Range<u64>) -> u64 {
    let word = random.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
    range.start + (word.wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 33) % (range.end - range.start)
}

/// Until either side ends, and then both do.
fn carry(mut from: TcpStream, mut to: TcpStream, delay_ms: impl Fn() -> u64) {
    let mut piece = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut piece) {
        std::thread::sleep(Duration::from_millis(delay_ms()));
        if to.write_all(&piece[..read]).is_err() {
            break;
        }
    }
    let _gone = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}
