//! A name server on loopback that says what the test wants, and changes its mind.

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Priority, weight, port, host.
pub type Service = (u16, u16, u16, &'static str);

const A: u8 = 1;
const SRV: u8 = 33;

/// A zone and how often it was asked for services.
#[derive(Default)]
struct Zone {
    services: Mutex<HashMap<String, Vec<Service>>>,
    asked: Mutex<Vec<String>>,
    ended: AtomicBool,
}

/// Hosts whose names end with `.here` are on 127.0.0.1, services are where [`Names::tell`] says, for a second.
pub struct Names {
    pub address: SocketAddr,
    zone: Arc<Zone>,
}

impl Names {
    pub fn start() -> Names {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let (address, zone) = (socket.local_addr().unwrap(), Arc::<Zone>::default());
        let shared = zone.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 512];
            while !shared.ended.load(Ordering::Relaxed) {
                if let Ok((len, peer)) = socket.recv_from(&mut buffer) {
                    socket.send_to(&shared.answer(&buffer[..len]), peer).unwrap();
                }
            }
        });
        Names { address, zone }
    }

    /// From now on, these are the services of this name.
    pub fn tell(&self, name: &str, services: &[Service]) {
        self.zone.services.lock().unwrap().insert(name.to_owned(), services.to_vec());
    }

    /// How often a name's services were asked for.
    pub fn asked(&self, name: &str) -> usize {
        self.zone.asked.lock().unwrap().iter().filter(|asked| *asked == name).count()
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        self.zone.ended.store(true, Ordering::Relaxed);
    }
}

impl Zone {
    fn answer(&self, message: &[u8]) -> Vec<u8> {
        let (mut at, mut labels) = (12, Vec::new());
        while message[at] > 0 {
            let len = message[at] as usize;
            labels.push(String::from_utf8(message[at + 1..at + 1 + len].to_vec()).unwrap());
            at += len + 1;
        }
        let (name, kind, end) = (labels.join("."), message[at + 2], at + 5);
        let is_host = name.ends_with(".here");
        let records: Vec<Vec<u8>> = match kind {
            A if is_host => vec![vec![127, 0, 0, 1]],
            SRV => {
                self.asked.lock().unwrap().push(name.clone());
                let services = self.services.lock().unwrap();
                services.get(&name).map_or(&[][..], Vec::as_slice).iter().map(service).collect()
            }
            _ => Vec::new(),
        };
        let missing = if records.is_empty() && !is_host { 3 } else { 0 };
        let mut out = message[..2].to_vec();
        for word in [0x8180 | missing, 1, records.len() as u16, 0, 0] {
            out.extend_from_slice(&word.to_be_bytes());
        }
        out.extend_from_slice(&message[12..end]);
        for record in records {
            // The question's name, the class of the internet, a second.
            out.extend_from_slice(&[0xc0, 12, 0, kind, 0, 1, 0, 0, 0, 1]);
            out.extend_from_slice(&(record.len() as u16).to_be_bytes());
            out.extend_from_slice(&record);
        }
        out
    }
}

fn service(&(priority, weight, port, host): &Service) -> Vec<u8> {
    let mut out: Vec<u8> = [priority, weight, port].iter().flat_map(|word| word.to_be_bytes()).collect();
    for label in host.split('.') {
        out.push(label.len() as u8);
        out.extend_from_slice(label.as_bytes());
    }
    out.push(0);
    out
}
