//! The processes behind a port of this machine, and the cores that they run on.

use crate::observe::tree;
use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, SocketAddr};

/// Listening, in `/proc/net/tcp` (`TCP_LISTEN`).
const LISTENING: &str = "0A";

/// The processes that hold listening sockets for this address, without those whose parent is one of them; empty where
/// they are somebody else's, or on another machine.
pub fn processes_at(address: SocketAddr) -> Vec<u32> {
    if !is_ours(address.ip()) {
        return Vec::new();
    }
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|file| fs::read_to_string(file).unwrap_or_default());
    let inodes: BTreeSet<String> =
        tables.iter().flat_map(|table| listening_inodes(table, address.port())).map(|inode| inode.to_owned()).collect();
    let wanted: BTreeSet<String> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
    let mut holders = BTreeSet::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let holds = |link: fs::DirEntry| {
            fs::read_link(link.path()).is_ok_and(|to| to.to_str().is_some_and(|to| wanted.contains(to)))
        };
        if pid != std::process::id() && fs::read_dir(entry.path().join("fd")).into_iter().flatten().flatten().any(holds)
        {
            holders.insert(pid);
        }
    }
    holders.iter().copied().filter(|pid| parent_of(*pid).is_none_or(|parent| !holders.contains(&parent))).collect()
}

/// Whether an address is this machine's: bound to by somebody who can be looked at here.
pub fn is_ours(address: IpAddr) -> bool {
    address.is_loopback() || std::net::UdpSocket::bind((address, 0)).is_ok()
}

/// The inodes of sockets that listen on a port, out of a table of the kernel's.
fn listening_inodes(table: &str, port: u16) -> impl Iterator<Item = &str> {
    table.lines().skip(1).filter_map(move |line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let (_, local) = fields.get(1)?.rsplit_once(':')?;
        let is_it = u16::from_str_radix(local, 16).ok()? == port && *fields.get(3)? == LISTENING;
        fields.get(9).copied().filter(|_| is_it)
    })
}

fn parent_of(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}

/// The cores on which the processes and their descendants work: those to which threads are pinned where some are, else
/// those on which they may run. Processes that only watch over children that do the work are left out.
pub fn cores_of(roots: &[u32], machine: usize) -> BTreeSet<usize> {
    let mut all = Vec::new();
    roots.iter().for_each(|&root| tree(root, &mut all));
    let parents: BTreeSet<u32> = all.iter().filter_map(|&pid| parent_of(pid)).collect();
    let (mut pinned, mut anywhere) = (BTreeSet::new(), BTreeSet::new());
    for pid in all.iter().filter(|pid| !parents.contains(pid)) {
        for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
            let Some(list) = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")) else { continue };
            let cores = parse_list(list).unwrap_or_default();
            if cores.len() < machine { pinned.extend(cores) } else { anywhere.extend(cores) }
        }
    }
    if pinned.is_empty() { anywhere } else { pinned }
}

/// Cores out of `0,2,4-7`.
///
/// # Errors
/// A sentence.
pub fn parse_list(text: &str) -> Result<Vec<usize>, String> {
    let wrong = || format!("{text:?} is no list of cores: write 0,2,4-7");
    let mut cores = Vec::new();
    for part in text.trim().split(',') {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (from, to): (usize, usize) =
            (from.trim().parse().map_err(|_| wrong())?, to.trim().parse().map_err(|_| wrong())?);
        if from > to || to > 4096 {
            return Err(wrong());
        }
        cores.extend(from..=to);
    }
    cores.sort_unstable();
    cores.dedup();
    Ok(cores)
}

/// Where the load's own threads run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// One core for each thread.
    pub threads: Vec<usize>,
    /// The cores of whoever only watches.
    pub watchers: Vec<usize>,
    /// Whether the server may run there too.
    pub is_shared: bool,
}

/// Chooses cores for so many threads: those asked for, or the highest that the server leaves free.
///
/// # Errors
/// A sentence: a core was asked for that is not ours.
pub fn place(
    threads: usize,
    ours: &[usize],
    servers: &BTreeSet<usize>,
    asked: Option<&[usize]>,
) -> Result<Placed, String> {
    if let Some(wrong) = asked.into_iter().flatten().find(|core| !ours.contains(core)) {
        let list = ours.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
        return Err(format!("--generator-cores: core {wrong} is not there, or not for us: use some of {list}"));
    }
    let free: Vec<usize> = ours.iter().copied().filter(|core| !servers.contains(core)).collect();
    let from: Vec<usize> = match asked {
        Some(asked) => asked.to_vec(),
        None if free.is_empty() => ours.iter().rev().copied().collect(),
        None => free.iter().rev().copied().collect(),
    };
    let chosen: Vec<usize> = (0..threads).map(|index| from[index % from.len()]).collect();
    let used: BTreeSet<usize> = chosen.iter().copied().collect();
    let is_shared = used.len() < threads || used.iter().any(|core| servers.contains(core));
    let idle: Vec<usize> = free.iter().copied().filter(|core| !used.contains(core)).collect();
    let watchers = if idle.is_empty() { used.into_iter().collect() } else { idle };
    Ok(Placed { threads: chosen, watchers, is_shared })
}

/// Lets this thread run on these cores only.
pub fn pin(cores: &[usize]) {
    // The crate pins to one core; among several the first serves as well.
    if let Some(&id) = cores.first() {
        core_affinity::set_for_current(core_affinity::CoreId { id });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::process::{Command, Stdio};

    #[test]
    fn listeners_are_found_in_the_kernels_table() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 x\n\
            1: 0100007F:1F90 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 x\n\
            2: 0100007F:1F91 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4713 1 x\n";
        assert_eq!(listening_inodes(table, 8080).collect::<Vec<_>>(), ["4711"]);
        assert_eq!(listening_inodes("", 8080).count(), 0);
    }

    #[test]
    fn the_process_behind_a_port_is_found() {
        // A child inherits the socket as its standard input, and nobody looks for ourselves.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let held = Stdio::from(std::os::fd::OwnedFd::from(listener));
        let mut child = Command::new("sleep").arg("30").stdin(held).spawn().unwrap();
        assert_eq!(processes_at(address), [child.id()]);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(processes_at(address), [0; 0]);
        assert_eq!(processes_at("203.0.113.1:80".parse().unwrap()), [0; 0]);
    }

    #[test]
    fn pinned_cores_are_seen() {
        let mut child = Command::new("taskset").args(["-c", "0", "sleep", "30"]).spawn().unwrap();
        let since = std::time::Instant::now();
        let machine = std::thread::available_parallelism().map_or(1, usize::from).max(2);
        while cores_of(&[child.id()], machine) != [0].into() {
            assert!(since.elapsed().as_secs() < 10, "{:?}", cores_of(&[child.id()], machine));
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn lists_of_cores_are_read() {
        assert_eq!(parse_list("0,2,4-6\n"), Ok(vec![0, 2, 4, 5, 6]));
        for wrong in ["", "a", "3-1", "1-", "0,,1", "0-99999"] {
            assert!(parse_list(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn threads_go_where_the_server_is_not() {
        let placed = |threads, servers: &[usize], asked: Option<&[usize]>| {
            place(threads, &[0, 1, 2, 3], &servers.iter().copied().collect(), asked)
        };
        let wanted = |threads: &[usize], watchers: &[usize], is_shared| {
            Ok(Placed { threads: threads.to_vec(), watchers: watchers.to_vec(), is_shared })
        };
        assert_eq!(placed(1, &[0], None), wanted(&[3], &[1, 2], false));
        assert_eq!(placed(3, &[0], None), wanted(&[3, 2, 1], &[1, 2, 3], false));
        assert_eq!(placed(4, &[0], None), wanted(&[3, 2, 1, 3], &[1, 2, 3], true));
        assert_eq!(placed(1, &[0, 1, 2, 3], None), wanted(&[3], &[3], true));
        assert_eq!(placed(1, &[0], Some(&[0])), wanted(&[0], &[1, 2, 3], true));
        assert!(placed(1, &[0], Some(&[9])).unwrap_err().contains("0,1,2,3"));
    }
}
