//! A Redis server of a test's own: in a temporary folder, on a port that nobody has, ended with the test.
//!
//! ```ignore
//! let Some(mut redis) = Redis::start(Durability::Always) else { return };
//! redis.url();                       // redis://127.0.0.1:PORT
//! redis.cli(&["INCR", "counter"]);   // what redis-cli prints
//! redis.kill();                      // as a crash of it would
//! redis.start_again();               // in the same folder, on the same port
//! ```

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::certificates::{Authority, Certified};

static FOLDERS: AtomicUsize = AtomicUsize::new(0);

/// How long starting may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the server promises of what it acknowledges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// `appendonly yes`, `appendfsync always`.
    Always,
    /// `appendonly yes`, `appendfsync everysec`.
    EverySecond,
    /// `appendonly no`, and no snapshots: after a crash it is empty.
    None,
}

/// A server.
pub struct Redis {
    folder: PathBuf,
    pub port: u16,
    options: Vec<String>,
    certificate: Option<(PathBuf, Certified)>,
    /// What `cli` logs in with: `["--user", "a", "--pass", "b"]`.
    pub login: Vec<String>,
    process: Option<Child>,
}

impl Redis {
    /// A new server; or nothing where Redis is not installed, and then that is reported.
    pub fn start(durability: Durability) -> Option<Redis> {
        Redis::start_with(durability, &[])
    }

    /// A new server with further options, as on its command line: `["--maxmemory", "10mb"]`.
    pub fn start_with(durability: Durability, options: &[&str]) -> Option<Redis> {
        let mut redis = Redis::prepare(durability, options)?;
        redis.start_again();
        Some(redis)
    }

    /// A new server that speaks TLS only, as `localhost`.
    pub fn start_tls(durability: Durability, authority: &Authority) -> Option<Redis> {
        let mut redis = Redis::prepare(durability, &[])?;
        redis.certificate = Some((authority.certificate(), authority.issue("localhost")));
        redis.start_again();
        Some(redis)
    }

    fn prepare(durability: Durability, options: &[&str]) -> Option<Redis> {
        if !super::has("redis-server", "what needs Redis") {
            return None;
        }
        let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("annulus-redis-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let kept: &[&str] = match durability {
            Durability::Always => &["--appendonly", "yes", "--appendfsync", "always"],
            Durability::EverySecond => &["--appendonly", "yes", "--appendfsync", "everysec"],
            Durability::None => &["--appendonly", "no"],
        };
        let options = kept.iter().chain(options).map(|option| option.to_string()).collect();
        Some(Redis { folder, port: free_port(), options, certificate: None, login: Vec::new(), process: None })
    }

    /// Where it is, for who needs no password.
    pub fn url(&self) -> String {
        match &self.certificate {
            None => format!("redis://127.0.0.1:{}", self.port),
            Some((authority, _)) => format!("rediss://localhost:{}?ca={}", self.port, authority.display()),
        }
    }

    /// Lets only this user in, with what the operating guide's line for it allows, and nobody else; where it is, for that
    /// user. Until it is started again.
    pub fn let_in_only(&mut self, user: &str) -> String {
        const GUIDE: &str = include_str!("../../docs/fleet.md");
        let line = GUIDE.lines().find(|line| line.starts_with(&format!("ACL SETUSER {user} "))).unwrap();
        let line = line.replace(">PASSWORD", ">secret");
        assert_eq!(self.cli(&line.split(' ').collect::<Vec<_>>()), "OK", "{line}");
        assert_eq!(self.cli(&["ACL", "SETUSER", "root", "on", ">secret", "~*", "&*", "+@all"]), "OK");
        assert_eq!(self.cli(&["ACL", "SETUSER", "default", "off"]), "OK");
        self.login = ["--user", "root", "--pass", "secret"].map(str::to_owned).to_vec();
        format!("redis://{user}:secret@127.0.0.1:{}", self.port)
    }

    /// Where its data is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Ends the server at once, as a crash of it would.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// Starts it in its folder and on its port, and waits until it has loaded its data.
    pub fn start_again(&mut self) {
        self.kill();
        let log = fs::File::create(self.folder.join("log")).unwrap();
        let mut server = Command::new("redis-server");
        server.args(["--bind", "127.0.0.1", "--save", "", "--dir", self.folder.to_str().unwrap()]);
        let port = self.port.to_string();
        match &self.certificate {
            None => server.args(["--port", &port]),
            Some((authority, certified)) => server
                .args(["--port", "0", "--tls-port", &port, "--tls-auth-clients", "no"])
                .args(["--tls-ca-cert-file".as_ref(), authority.as_os_str()])
                .args(["--tls-cert-file".as_ref(), certified.chain.as_os_str()])
                .args(["--tls-key-file".as_ref(), certified.key.as_os_str()]),
        };
        server.args(&self.options).stdin(Stdio::null()).stdout(log).stderr(Stdio::null());
        self.process = Some(server.spawn().unwrap());
        let until = Instant::now() + PATIENCE;
        while !self.log().contains("Ready to accept connections") {
            let ended = self.process.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none() && Instant::now() < until, "Redis did not start: {}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Lets it stand still, as a machine that hangs does: connections stay, nothing is answered.
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let process = self.process.as_ref().expect("it runs").id().to_string();
        assert!(Command::new("kill").args([signal, &process]).status().unwrap().success());
    }

    /// Runs a command; what `redis-cli` prints of its answer, an error included.
    pub fn cli(&self, command: &[&str]) -> String {
        let mut cli = Command::new("redis-cli");
        cli.args(["--no-auth-warning", "-p", &self.port.to_string()]).args(&self.login);
        if let Some((authority, _)) = &self.certificate {
            cli.args(["-h", "localhost", "--tls", "--cacert", authority.to_str().unwrap()]);
        }
        let output = cli.args(command).output().unwrap();
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// What it has said since it was started.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
        let _temporary = fs::remove_dir_all(&self.folder);
    }
}

/// A Redis Cluster of a test's own: primaries that divide the slots among themselves evenly, in order.
pub struct Cluster {
    pub nodes: Vec<Redis>,
}

/// Slots of a cluster.
const SLOTS: usize = 16_384;

impl Cluster {
    /// A new cluster; or nothing where Redis is not installed, and then that is reported.
    pub fn start(primaries: usize, durability: Durability) -> Option<Cluster> {
        Cluster::start_with_replicas(primaries, &[], durability)
    }

    /// A new cluster with a replica of each of these primaries, behind the primaries among the nodes.
    pub fn start_with_replicas(primaries: usize, replicas_of: &[usize], durability: Durability) -> Option<Cluster> {
        let nodes: Option<Vec<Redis>> = (0..primaries + replicas_of.len()).map(|_| Cluster::node(durability)).collect();
        let cluster = Cluster { nodes: nodes? };
        for (number, node) in cluster.nodes.iter().enumerate() {
            // Nodes that give themselves the same rank would argue.
            node.cli(&["CLUSTER", "SET-CONFIG-EPOCH", &(number + 1).to_string()]);
            if number < primaries {
                let (from, to) = (SLOTS * number / primaries, SLOTS * (number + 1) / primaries - 1);
                assert_eq!(node.cli(&["CLUSTER", "ADDSLOTSRANGE", &from.to_string(), &to.to_string()]), "OK");
            }
        }
        cluster.nodes[1..].iter().for_each(|node| cluster.introduce(node));
        for (of, node) in replicas_of.iter().zip(&cluster.nodes[primaries..]) {
            let primary = cluster.id(*of);
            Cluster::wait("a replica knows its primary", || node.cli(&["CLUSTER", "REPLICATE", &primary]) == "OK");
            Cluster::wait("it follows", || node.cli(&["INFO", "replication"]).contains("master_link_status:up"));
        }
        cluster.settle();
        Some(cluster)
    }

    fn node(durability: Durability) -> Option<Redis> {
        let bus = free_port().to_string();
        let options = ["--cluster-enabled", "yes", "--cluster-port", &bus, "--cluster-node-timeout", "1500"];
        Redis::start_with(durability, &options)
    }

    /// Where one of its nodes is.
    pub fn url(&self) -> String {
        format!("redis+cluster://127.0.0.1:{}", self.nodes[0].port)
    }

    /// Moves a slot with its keys, as an operator does it: it is answered from both in between.
    pub fn migrate(&self, slot: usize, from: usize, to: usize, in_between: impl FnOnce()) {
        let (slot, source, target) = (slot.to_string(), &self.nodes[from], &self.nodes[to]);
        let setslot = |node: &Redis, how: &[&str]| {
            assert_eq!(node.cli(&[&["CLUSTER", "SETSLOT", &slot], how].concat()), "OK");
        };
        setslot(target, &["IMPORTING", &self.id(from)]);
        setslot(source, &["MIGRATING", &self.id(to)]);
        in_between();
        loop {
            let keys = source.cli(&["CLUSTER", "GETKEYSINSLOT", &slot, "10"]);
            if keys.is_empty() {
                break;
            }
            let port = target.port.to_string();
            let words = ["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
            source.cli(&[&words[..], &keys.lines().collect::<Vec<_>>()].concat());
        }
        [target, source].iter().for_each(|node| setslot(node, &["NODE", &self.id(to)]));
    }

    fn id(&self, number: usize) -> String {
        self.nodes[number].cli(&["CLUSTER", "MYID"])
    }

    fn introduce(&self, node: &Redis) {
        let first = &self.nodes[0];
        let bus = first.options.iter().skip_while(|option| *option != "--cluster-port").nth(1).unwrap();
        assert_eq!(node.cli(&["CLUSTER", "MEET", "127.0.0.1", &first.port.to_string(), bus]), "OK");
    }

    /// Waits until all nodes know all slots and each other.
    fn settle(&self) {
        let count = format!("cluster_known_nodes:{}", self.nodes.len());
        Cluster::wait("all nodes agree", || {
            let mut infos = self.nodes.iter().map(|node| node.cli(&["CLUSTER", "INFO"]));
            infos.all(|info| info.contains("cluster_state:ok") && info.contains(&count))
        });
    }

    fn wait(what: &str, is_so: impl Fn() -> bool) {
        let until = Instant::now() + PATIENCE;
        while !is_so() {
            assert!(Instant::now() < until, "{what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A port that nobody has, and that nobody is given soon: below those of outgoing connections.
fn free_port() -> u16 {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    for _ in 0..10_000 {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 12_000 + ((std::process::id() as usize * 131 + number * 7) % 18_000) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port is free");
}
