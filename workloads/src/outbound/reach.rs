//! Which addresses somebody else's server may have: those of the public network, unless more is allowed.
//!
//! A URL of a webhook often comes from someone who may not reach what this process reaches: its own machine, its neighbours,
//! the cloud's metadata. What counts is the address that is connected to, and not what the name meant when somebody looked:
//! a name may mean another address the next time (DNS rebinding).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Endpoint;
use crate::gateway::fetching::{Network, network};

/// Networks that can be allowed by name, at most.
const NETWORKS_MAX: usize = 64;

/// Where connections may go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    /// To addresses of the public network.
    #[default]
    Public,
    /// To those, and into these networks.
    Networks(Vec<Network>),
    /// Anywhere.
    Anywhere,
}

impl Reach {
    /// Reads what `allow_private` says: all networks, or none, or these.
    ///
    /// # Errors
    /// What is no network.
    pub fn read(all: Option<bool>, networks: &[&str]) -> Result<Reach, String> {
        if networks.len() > NETWORKS_MAX {
            return Err(format!("more than {NETWORKS_MAX} networks"));
        }
        let read = |text: &&str| network(text).map_err(|says| format!("{text:?} is not a network: {says}"));
        match all {
            Some(true) => Ok(Reach::Anywhere),
            Some(false) => Ok(Reach::Public),
            None => networks.iter().map(read).collect::<Result<_, _>>().map(Reach::Networks),
        }
    }

    /// Whether a connection may go to this address.
    pub fn allows(&self, address: IpAddr) -> bool {
        match self {
            Reach::Anywhere => true,
            Reach::Public => is_public(address),
            Reach::Networks(networks) => networks.iter().any(|network| network.contains(address)) || is_public(address),
        }
    }

    /// What is wrong with an endpoint that says itself where it is. Names are judged when they are connected to.
    ///
    /// # Errors
    /// A sentence.
    pub fn check(&self, endpoint: &Endpoint) -> Result<(), String> {
        let host = endpoint.origin.host.trim_matches(['[', ']']);
        let address = match host {
            "localhost" => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            _ => host.parse().ok(),
        };
        match address.filter(|address| !self.allows(*address)) {
            Some(address) => Err(format!("{endpoint}: {}", refusal(address))),
            None => Ok(()),
        }
    }
}

/// What is said of an address that is not connected to.
pub fn refusal(address: IpAddr) -> String {
    format!(
        "{address} is not an address of the public network. Set allow_private = [\"{address}\"], or its network, or true, if \
         what is asked there may be asked by this server"
    )
}

/// Whether an address is one of the public network: not this machine's, not a private network's, no link's, no group's, and
/// not one of those at which clouds tell machines their secrets.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_4(address),
        IpAddr::V6(address) => match carried(address) {
            Some(inner) => is_public_4(inner),
            None => is_public_6(address),
        },
    }
}

/// The registry of special addresses of IPv4 (RFC 6890), and one of a cloud.
fn is_public_4(address: Ipv4Addr) -> bool {
    const SPECIAL: [(u32, u32); 14] = [
        (0x0000_0000, 8),  // this network
        (0x0a00_0000, 8),  // private, RFC 1918
        (0x6440_0000, 10), // shared behind a carrier's NAT, RFC 6598; a cloud's metadata, too
        (0x7f00_0000, 8),  // loopback
        (0xa9fe_0000, 16), // link-local, RFC 3927; most clouds' metadata
        (0xac10_0000, 12), // private
        (0xc000_0000, 24), // protocol assignments; a cloud's metadata, too
        (0xc000_0200, 24), // documentation
        (0xc0a8_0000, 16), // private
        (0xc612_0000, 15), // benchmarks, RFC 2544
        (0xc633_6400, 24), // documentation
        (0xcb00_7100, 24), // documentation
        (0xe000_0000, 3),  // groups, reserved, broadcast
        (0xa83f_8110, 32), // 168.63.129.16: a cloud's agent for its machines
    ];
    let bits = address.to_bits();
    !SPECIAL.iter().any(|(network, prefix)| (bits ^ network) >> (32 - prefix) == 0)
}

/// Addresses of IPv6 that are handed out to the public are those of 2000::/3 (RFC 4291 section 2.4), without what of that is
/// for tunnels, documentation and protocols.
fn is_public_6(address: Ipv6Addr) -> bool {
    let [first, second, ..] = address.segments();
    match (first, second) {
        // Protocol assignments (RFC 2928), Teredo, benchmarks, ORCHID.
        (0x2001, 0x0000..=0x01ff) => false,
        // Documentation (RFC 3849, RFC 9637).
        (0x2001, 0x0db8) | (0x3fff, 0x0000..=0x0fff) => false,
        _ => first & 0xe000 == 0x2000,
    }
}

/// The address of IPv4 that one of IPv6 stands for: mapped or compatible (RFC 4291 section 2.5.5), translated (RFC 6052), or a
/// tunnel's (RFC 3056).
fn carried(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let bits = address.to_bits();
    let low = Ipv4Addr::from_bits(bits as u32);
    match address.segments() {
        [0, 0, 0, 0, 0, 0xffff, ..] => Some(low),
        // The unspecified address and loopback among them, which then are in 0.0.0.0/8.
        [0, 0, 0, 0, 0, 0, ..] => Some(low),
        [0x64, 0xff9b, 0, 0, 0, 0, ..] => Some(low),
        [0x2002, ..] => Some(Ipv4Addr::from_bits((bits >> 80) as u32)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn only_the_public_network_is_reached() {
        let private = "0.0.0.0 10.0.0.1 10.255.255.255 100.64.0.1 100.100.100.200 127.0.0.1 127.255.255.254 169.254.169.254 \
                       172.16.0.1 172.31.255.255 192.0.0.192 192.168.1.1 198.18.0.1 198.19.255.255 192.0.2.1 224.0.0.1 \
                       240.0.0.1 255.255.255.255 168.63.129.16 :: ::1 ::127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 \
                       64:ff9b::a00:1 64:ff9b:1::1 2002:7f00:1:: 2002:c0a8:101::1 fc00::1 fd00:ec2::254 fe80::1 febf::1 fec0::1 \
                       ff02::1 2001::1 2001:db8::1 100::1 4000::1";
        for text in private.split_whitespace() {
            assert!(!Reach::Public.allows(ip(text)) && Reach::Anywhere.allows(ip(text)), "{text}");
        }
        let public = "1.1.1.1 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.1 126.255.255.255 128.0.0.1 169.253.255.255 \
                      169.255.0.0 172.15.255.255 172.32.0.1 192.167.255.255 192.169.0.1 223.255.255.255 168.63.129.17 \
                      2606:4700::1111 2001:4860:4860::8888 2a00::1 ::ffff:1.1.1.1 64:ff9b::101:101 2002:101:101::1";
        for text in public.split_whitespace() {
            assert!(Reach::Public.allows(ip(text)), "{text}");
        }
    }

    #[test]
    fn networks_are_allowed_by_name() {
        let reach = Reach::read(None, &["10.1.0.0/16", "::1"]).unwrap();
        assert!(reach.allows(ip("10.1.2.3")) && reach.allows(ip("::ffff:10.1.2.3")) && reach.allows(ip("::1")));
        assert!(reach.allows(ip("1.1.1.1")) && !reach.allows(ip("10.2.0.1")) && !reach.allows(ip("127.0.0.1")));
        assert_eq!(Reach::read(Some(true), &[]), Ok(Reach::Anywhere));
        assert_eq!(Reach::read(Some(false), &[]), Ok(Reach::Public));
        assert!(Reach::read(None, &["10.0.0/8"]).unwrap_err().contains("not a network"));
        assert!(Reach::read(None, &vec!["::1"; 65]).unwrap_err().contains("more than 64"));
        for (url, is_fine) in [
            ("http://127.0.0.1:80/a", false),
            ("http://localhost/a", false),
            ("http://[::ffff:7f00:1]/a", false),
            ("http://169.254.169.254/latest/meta-data", false),
            ("https://example.com/a", true),
            ("https://1.1.1.1/a", true),
            ("https://10.1.0.9/a", true),
        ] {
            assert_eq!(reach.check(&Endpoint::read(url).unwrap()).is_ok(), is_fine, "{url}");
        }
    }
}
