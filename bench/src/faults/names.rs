//! A name server that takes its time: it answers every question for an address with 127.0.0.1, late, or never.
//!
//! Programs are led to it by a `resolv.conf` of their own, in a mount namespace (mount_namespaces(7)).

use super::finding::Trouble;
use super::service::Way;
use std::net::UdpSocket;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// An address of the loopback that nobody listens at otherwise: name servers are asked at port 53.
const ADDRESS: &str = "127.61.53.1";
/// Milliseconds that stand for never.
const NEVER: u64 = u64::MAX;

/// See the module's description.
pub struct Names {
    delay_ms: Arc<AtomicU64>,
    counts: Arc<Counts>,
    way: Way,
}

/// What a name server was asked.
#[derive(Debug, Default)]
struct Counts {
    asked: AtomicU64,
    /// Of those, answered late, and not at all.
    late: AtomicU64,
    unanswered: AtomicU64,
}

impl Names {
    /// Starts one, whose answers are good for a second.
    ///
    /// # Errors
    /// That the port, or a mount of one's own, is not allowed here.
    pub fn start(folder: &Path) -> Result<Names, Trouble> {
        let not_run = |why: String| Trouble::NotRun(format!("no name server of its own: {why}. Needs root"));
        let socket = UdpSocket::bind((ADDRESS, 53)).map_err(|error| not_run(format!("{ADDRESS}:53: {error}")))?;
        let file = folder.join("resolv.conf");
        let text = format!("nameserver {ADDRESS}\noptions timeout:1 attempts:2\n");
        std::fs::write(&file, text).map_err(|error| format!("cannot write {}: {error}", file.display()))?;
        let script = format!("mount --bind '{}' /etc/resolv.conf && exec \"$@\"", file.display());
        let before = ["unshare", "--mount", "sh", "-c", &script, "sh"].map(Into::into).to_vec();
        let tried = Command::new("unshare").args(["--mount", "sh", "-c", &script, "sh", "true"]).output();
        match tried {
            Ok(output) if output.status.success() => {}
            Ok(output) => return Err(not_run(String::from_utf8_lossy(&output.stderr).trim().to_owned())),
            Err(error) => return Err(not_run(error.to_string())),
        }
        let (delay_ms, counts) = (Arc::new(AtomicU64::new(0)), Arc::new(Counts::default()));
        let (delay, counted) = (delay_ms.clone(), counts.clone());
        std::thread::spawn(move || serve(&socket, &delay, &counted));
        Ok(Names { delay_ms, counts, way: Way { before, ..Way::default() } })
    }

    /// How somebody is started who asks it.
    pub fn way(&self) -> Way {
        self.way.clone()
    }

    /// Answers take so long from now on; none: there are none.
    pub fn set(&self, delay: Option<Duration>) {
        self.delay_ms.store(delay.map_or(NEVER, |delay| delay.as_millis() as u64), Ordering::Relaxed);
    }

    /// Questions so far.
    pub fn asked(&self) -> u64 {
        self.counts.asked.load(Ordering::Relaxed)
    }

    /// Questions that were answered late, and those that were not.
    pub fn troubled(&self) -> (u64, u64) {
        (self.counts.late.load(Ordering::Relaxed), self.counts.unanswered.load(Ordering::Relaxed))
    }
}

fn serve(socket: &UdpSocket, delay_ms: &AtomicU64, counts: &Counts) {
    let mut question = [0; 512];
    while let Ok((length, from)) = socket.recv_from(&mut question) {
        counts.asked.fetch_add(1, Ordering::Relaxed);
        let Some(answer) = answer(&question[..length]) else { continue };
        let delay = match delay_ms.load(Ordering::Relaxed) {
            NEVER => {
                counts.unanswered.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            delay => delay,
        };
        counts.late.fetch_add(u64::from(delay > 0), Ordering::Relaxed);
        let Ok(socket) = socket.try_clone() else { return };
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(delay));
            socket.send_to(&answer, from)
        });
    }
}

/// 127.0.0.1 for who asks for an address of version 4, and for others that there is none (RFC 1035 section 4.1).
fn answer(question: &[u8]) -> Option<Vec<u8>> {
    let mut end = 12;
    while *question.get(end)? != 0 {
        end += usize::from(question[end]) + 1;
    }
    end += 5;
    let kind = u16::from_be_bytes([*question.get(end - 4)?, *question.get(end - 3)?]);
    let records = u16::from(kind == 1);
    let mut answer = question[..2].to_vec();
    for word in [0x8180, 1, records, 0, 0] {
        answer.extend_from_slice(&u16::to_be_bytes(word));
    }
    answer.extend_from_slice(question.get(12..end)?);
    if records == 1 {
        answer.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 127, 0, 0, 1]);
    }
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_answered_and_other_kinds_are_not() {
        let ask = |kind| [&[7, 9, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], b"\x04shop\x04test\0\0", &[kind, 0, 1]].concat();
        let found = answer(&ask(1)).unwrap();
        assert_eq!((&found[..4], &found[found.len() - 4..]), (&[7, 9, 0x81, 0x80][..], &[127, 0, 0, 1][..]));
        assert_eq!(answer(&ask(28)).unwrap()[7], 0);
        assert_eq!(answer(&[0; 12]), None);
    }
}
