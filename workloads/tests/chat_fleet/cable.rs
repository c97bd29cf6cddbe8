//! Two networks of a test's own with one cable between them, which can be cut: nothing is refused then, and nothing answered.
//!
//! ```ignore
//! let Some(network) = Network::new("what needs it") else { return };
//! network.near.within(|| start_a_server_at(Network::NEAR));
//! network.far.within(|| start_its_client());
//! network.cut();
//! network.mend();
//! ```

use std::fs::File;
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::outside::{has, not_run};

static NETWORKS: AtomicUsize = AtomicUsize::new(0);

/// The cable, and what is at its ends.
pub struct Network {
    pub near: Place,
    pub far: Place,
}

/// A network namespace (namespaces(7)) with a loopback of its own, removed with the test.
pub struct Place {
    name: String,
    file: File,
}

impl Network {
    /// The near end's address.
    pub const NEAR: &str = "10.213.7.1";
    /// The far end's.
    pub const FAR: &str = "10.213.7.2";

    /// New ones; or nothing where they cannot be made, and then that is reported.
    pub fn new(group: &str) -> Option<Network> {
        if !has("ip", group) {
            return None;
        }
        let number = NETWORKS.fetch_add(1, Ordering::Relaxed);
        let place = |end: &str| Place::new(&format!("annulus-{}-{number}-{end}", std::process::id()));
        let (Some(near), Some(far)) = (place("near"), place("far")) else {
            not_run(group, "only root may make network namespaces");
            return None;
        };
        let network = Network { near, far };
        let (near, far) = (&network.near.name, &network.far.name);
        ip(&["link", "add", "cable", "netns", near, "type", "veth", "peer", "name", "cable", "netns", far]);
        for (name, address) in [(near, Network::NEAR), (far, Network::FAR)] {
            ip(&["-n", name, "address", "add", &format!("{address}/24"), "dev", "cable"]);
            ip(&["-n", name, "link", "set", "cable", "up"]);
        }
        Some(network)
    }

    /// Cuts the cable: whatever the far end sends is lost, and it is told nothing.
    pub fn cut(&self) {
        ip(&["-n", &self.near.name, "link", "set", "cable", "down"]);
    }

    /// Mends it.
    pub fn mend(&self) {
        ip(&["-n", &self.near.name, "link", "set", "cable", "up"]);
    }
}

impl Place {
    fn new(name: &str) -> Option<Place> {
        let made = Command::new("ip").args(["netns", "add", name]).output().unwrap().status.success();
        let file = made.then(|| File::open(format!("/run/netns/{name}")).unwrap())?;
        ip(&["-n", name, "link", "set", "lo", "up"]);
        Some(Place { name: name.to_owned(), file })
    }

    /// Does something there: sockets and processes that it makes belong there, and stay there afterwards.
    pub fn within<T>(&self, what: impl FnOnce() -> T) -> T {
        let here = File::open("/proc/thread-self/ns/net").unwrap();
        let enter = |file: &File| move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        enter(&self.file);
        let made = what();
        enter(&here);
        made
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Processes that are still in it keep it until they end.
        let _removed = Command::new("ip").args(["netns", "delete", &self.name]).output();
    }
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().unwrap();
    assert!(output.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}
