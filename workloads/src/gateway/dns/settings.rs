//! Whom to ask: `/etc/resolv.conf` and `/etc/hosts`, as `resolv.conf(5)` and `hosts(5)` describe them.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::name::Name;

/// Name servers that are used; more are ignored, as in every resolver.
pub const SERVERS_MAX: usize = 3;
/// Domains that short names are looked up in; more are ignored.
pub const SEARCH_MAX: usize = 32;

/// Whom to ask, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Name servers, asked in this order.
    pub servers: Vec<SocketAddr>,
    /// Domains that short names are looked up in.
    pub search: Vec<Name>,
    /// A name with fewer dots than this is looked up in the search domains first.
    pub ndots: usize,
    /// How long one server has for one answer.
    pub timeout: Duration,
    /// How often all servers are asked.
    pub attempts: u32,
    /// The servers take turns in being asked first.
    pub rotate: bool,
    /// Ask over TCP only.
    pub tcp: bool,
    /// Addresses that need no server.
    pub hosts: HashMap<Name, Vec<IpAddr>>,
    /// Lines that were not understood, for the log.
    pub ignored: Vec<String>,
}

/// The files that settings come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// Whom to ask.
    pub resolv_conf: PathBuf,
    /// Addresses that need no server.
    pub hosts: PathBuf,
    /// Name servers instead of those in the file; empty: the file's.
    pub servers: Vec<SocketAddr>,
}

/// When the two files were changed last, as far as they are there.
pub type Dates = [Option<SystemTime>; 2];

impl Files {
    /// This machine's.
    pub fn of_system() -> Files {
        Files { resolv_conf: "/etc/resolv.conf".into(), hosts: "/etc/hosts".into(), servers: Vec::new() }
    }

    /// Reads them. One that cannot be read counts as empty, as in every resolver: a container may have none.
    pub fn read(&self) -> Settings {
        let text = |path: &Path| {
            let bytes = std::fs::read(path).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let mut settings = Settings::parse(&text(&self.resolv_conf), &text(&self.hosts));
        if !self.servers.is_empty() {
            settings.servers.clone_from(&self.servers);
        }
        settings
    }

    /// Their dates.
    pub fn dates(&self) -> Dates {
        [&self.resolv_conf, &self.hosts].map(|path| std::fs::metadata(path).and_then(|about| about.modified()).ok())
    }
}

impl Default for Settings {
    /// What holds where the files say nothing.
    fn default() -> Settings {
        Settings {
            servers: Vec::new(),
            search: Vec::new(),
            ndots: 1,
            timeout: Duration::from_secs(5),
            attempts: 2,
            rotate: false,
            tcp: false,
            hosts: HashMap::new(),
            ignored: Vec::new(),
        }
    }
}

impl Settings {
    /// Those that the two files' texts describe. Without a server, it is the one on this machine.
    pub fn parse(resolv_conf: &str, hosts: &str) -> Settings {
        let mut settings = Settings::default();
        for line in resolv_conf.lines() {
            let line = line.trim();
            // Comments begin a line; a `#` elsewhere belongs to a value.
            if !line.is_empty() && !line.starts_with(['#', ';']) && !settings.take_line(line) {
                settings.ignored.push(line.to_owned());
            }
        }
        if settings.servers.is_empty() {
            settings.servers.push((Ipv4Addr::LOCALHOST, 53).into());
        }
        hosts.lines().for_each(|line| settings.take_host(line));
        settings
    }

    fn take_line(&mut self, line: &str) -> bool {
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        match word {
            "nameserver" => match rest.trim().parse::<IpAddr>() {
                Ok(address) if self.servers.len() < SERVERS_MAX => self.servers.push((address, 53).into()),
                _ => return false,
            },
            // The last of these lines counts, and a dot stands for the root.
            "search" | "domain" => {
                let names = rest.split_whitespace().filter(|name| *name != ".");
                let search: Option<Vec<Name>> = names.take(SEARCH_MAX).map(Name::new).collect();
                match search {
                    Some(search) => self.search = search,
                    None => return false,
                }
            }
            // All of them are taken, also behind one that is not understood.
            "options" => return rest.split_whitespace().filter(|option| !self.take_option(option)).count() == 0,
            _ => return false,
        }
        true
    }

    /// Limits are those of `resolv.conf(5)`.
    fn take_option(&mut self, option: &str) -> bool {
        let (word, value) = option.split_once(':').unwrap_or((option, ""));
        match (word, value.parse::<u64>()) {
            ("ndots", Ok(dots)) => self.ndots = dots.min(15) as usize,
            ("timeout", Ok(seconds)) => self.timeout = Duration::from_secs(seconds.clamp(1, 30)),
            ("attempts", Ok(attempts)) => self.attempts = attempts.clamp(1, 5) as u32,
            ("rotate", _) => self.rotate = true,
            ("use-vc", _) => self.tcp = true,
            // They hold for us anyway, or concern what we do not do.
            ("edns0" | "trust-ad" | "single-request" | "single-request-reopen" | "no-reload", _) => {}
            _ => return false,
        }
        true
    }

    fn take_host(&mut self, line: &str) {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_whitespace();
        let Some(address) = words.next() else { return };
        match address.parse::<IpAddr>() {
            Ok(address) => {
                for name in words.filter_map(Name::new) {
                    let known = self.hosts.entry(name).or_default();
                    if !known.contains(&address) {
                        known.push(address);
                    }
                }
            }
            Err(_) => self.ignored.push(line.to_owned()),
        }
    }

    /// What is known without asking: this machine's own names (RFC 6761 section 6.3), and those in the hosts file.
    pub fn known(&self, name: &Name) -> Option<Vec<IpAddr>> {
        let own = || name.as_str() == "localhost" || name.as_str().ends_with(".localhost");
        let loopback = || vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        self.hosts.get(name).cloned().or_else(|| own().then(loopback))
    }

    /// The complete names that `host` may stand for, in the order in which they are looked up.
    pub fn candidates(&self, host: &str) -> Vec<Name> {
        let Some(name) = Name::new(host) else { return Vec::new() };
        if host.ends_with('.') {
            return vec![name];
        }
        let mut names: Vec<Name> = self.search.iter().filter_map(|domain| name.within(domain)).collect();
        let at = if name.dots() >= self.ndots { 0 } else { names.len() };
        names.insert(at, name);
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    #[test]
    fn a_cluster_s_file_is_understood() {
        let text = "# made by kubelet\nsearch shop.svc.cluster.local svc.cluster.local\nnameserver 10.96.0.10\n\
            nameserver fd00::a\noptions ndots:5 timeout:2 attempts:9 edns0 rotate\n";
        let settings = Settings::parse(text, "");
        assert_eq!(settings.servers, ["10.96.0.10:53".parse().unwrap(), "[fd00::a]:53".parse().unwrap()]);
        assert_eq!((settings.ndots, settings.timeout, settings.attempts), (5, Duration::from_secs(2), 5));
        assert!(settings.rotate && !settings.tcp && settings.ignored.is_empty());
        let candidates: Vec<String> = settings.candidates("cart.shop").iter().map(Name::to_string).collect();
        assert_eq!(candidates, ["cart.shop.shop.svc.cluster.local", "cart.shop.svc.cluster.local", "cart.shop"]);
        assert_eq!(settings.candidates("cart.shop."), [name("cart.shop")]);
        assert_eq!(settings.candidates("a.b.c.d.e.f")[0], name("a.b.c.d.e.f"));
        assert_eq!(settings.candidates("not a name"), []);
    }

    #[test]
    fn what_is_not_understood_is_named_and_the_rest_counts() {
        let text = "nameserver 10.0.0.1\nnameserver fe80::1%eth0\nnameserver 10.0.0.2\nnameserver 10.0.0.3\n\
            nameserver 10.0.0.4\nsortlist 1.2.3.4\noptions ndots:x use-vc\n;comment\nsearch a..b\nsearch .\n";
        let settings = Settings::parse(text, "10.1.1.1 a\nnonsense b\n");
        assert_eq!(settings.servers.len(), 3);
        assert!(settings.tcp && settings.ndots == 1 && settings.search.is_empty());
        let ignored = [
            "nameserver fe80::1%eth0",
            "nameserver 10.0.0.4",
            "sortlist 1.2.3.4",
            "options ndots:x use-vc",
            "search a..b",
            "nonsense b",
        ];
        assert_eq!(settings.ignored, ignored);
        assert_eq!(Settings::parse("", "").servers, ["127.0.0.1:53".parse().unwrap()]);
    }

    #[test]
    fn hosts_need_no_server() {
        let settings =
            Settings::parse("", "10.0.0.1 Cart cart.shop # the cart\n::1 cart\n\n#10.0.0.2 cart\n10.0.0.1 cart\n");
        let addresses = |text: &str| settings.known(&name(text)).map(|all| all.iter().map(IpAddr::to_string).collect());
        assert_eq!(addresses("cart"), Some(vec!["10.0.0.1".into(), "::1".into()]));
        assert_eq!(addresses("cart.shop"), Some(vec!["10.0.0.1".into()]));
        assert_eq!(addresses("localhost"), Some(vec!["127.0.0.1".into(), "::1".into()]));
        assert_eq!(addresses("the"), None);
    }
}
