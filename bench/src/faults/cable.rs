//! A network of its own at the end of a cable, which can be cut: nothing is refused then, and nothing answered.
//!
//! ```text
//!   this machine, 10.213.N.1 ══ cable ══ 10.213.N.2, whoever is started there
//! ```

use super::finding::Trouble;
use super::service::Way;
use crate::ground;
use crate::janitor::{self, Left};
use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};

/// Names of networks: several may be there at once.
static COUNT: AtomicU8 = AtomicU8::new(1);

/// See the module's description. Removed when dropped.
pub struct Cable {
    name: String,
    link: String,
    subnet: u8,
}

impl Cable {
    /// Lays one.
    ///
    /// # Errors
    /// That it is not allowed here.
    pub fn new() -> Result<Cable, Trouble> {
        let subnet = COUNT.fetch_add(1, Ordering::Relaxed).wrapping_add(std::process::id() as u8) | 1;
        let name = ground::name(&subnet.to_string());
        // Fifteen characters at most (netdevice(7)).
        let link = format!("anf{}n{subnet}", std::process::id() % 100_000);
        janitor::note(&Left::Network(name.clone()));
        janitor::note(&Left::Link(link.clone()));
        let cable = Cable { name, link, subnet };
        let denied = |why: String| Trouble::NotRun(format!("no network of its own: {why}. Needs CAP_NET_ADMIN and ip"));
        cable.lay().map_err(denied)?;
        Ok(cable)
    }

    fn lay(&self) -> Result<(), String> {
        let (name, link) = (&self.name, &self.link);
        ip(&["netns", "add", name])?;
        ip(&["-n", name, "link", "set", "lo", "up"])?;
        ip(&["link", "add", link, "type", "veth", "peer", "name", "cable", "netns", name])?;
        ip(&["address", "add", &format!("{}/24", self.near()), "dev", link])?;
        ip(&["link", "set", link, "up"])?;
        ip(&["-n", name, "address", "add", &format!("{}/24", self.far()), "dev", "cable"])?;
        ip(&["-n", name, "link", "set", "cable", "up"])
    }

    /// This end's address.
    pub fn near(&self) -> IpAddr {
        Ipv4Addr::new(10, 213, self.subnet, 1).into()
    }

    /// The other end's.
    pub fn far(&self) -> IpAddr {
        Ipv4Addr::new(10, 213, self.subnet, 2).into()
    }

    /// How something is started there.
    pub fn way(&self) -> Way {
        let before = ["ip", "netns", "exec", &self.name].map(Into::into).to_vec();
        Way { before, ..Way::default() }
    }

    /// Cuts it.
    ///
    /// # Errors
    /// A sentence.
    pub fn cut(&self) -> Result<(), String> {
        ip(&["-n", &self.name, "link", "set", "cable", "down"])
    }

    /// Mends it.
    ///
    /// # Errors
    /// A sentence.
    pub fn mend(&self) -> Result<(), String> {
        ip(&["-n", &self.name, "link", "set", "cable", "up"])
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        let _with_it_goes_the_cable = ip(&["link", "delete", &self.link]);
        let _kept_until_the_last_process_there_ends = ip(&["netns", "delete", &self.name]);
    }
}

fn ip(words: &[&str]) -> Result<(), String> {
    let output = Command::new("ip").args(words).output().map_err(|error| format!("cannot run ip: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("ip {}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr).trim())),
    }
}
