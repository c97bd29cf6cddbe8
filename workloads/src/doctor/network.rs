//! The kernel's network: how many connections may wait to be accepted, and from how many ports others can be made.

use super::Finding;

/// What the engine asks for when it listens; the kernel gives the lesser of this and `somaxconn`.
const BACKLOG: u64 = annulus_engine::limits::BACKLOG as u64;
/// Ports to one address of a backend, below which a gateway runs out of them: the default has 28,232.
const PORTS_FEW: u64 = 20_000;
/// Tracked connections: fewer than the connections that are meant.
const TRACKED_FEW: u64 = 65_536;

/// Looks at its settings, as `read` gives them.
pub(super) fn look(read: &dyn Fn(&str) -> Option<String>) -> Vec<Finding> {
    let number = |path: &str| read(path)?.trim().parse::<u64>().ok();
    let at_least = |name: &str, least: u64, what: &str| {
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        let value = number(&path)?;
        let says = format!("{name} {value}: {what}");
        Some(match value >= least {
            true => Finding::yes(says),
            false => {
                Finding::note(format!("{says}; beyond, a burst has to try again"), format!("sysctl -w {name}={least}"))
            }
        })
    };
    let mut findings: Vec<Finding> = [
        at_least("net.core.somaxconn", BACKLOG, "connections that wait to be accepted, of a socket"),
        at_least("net.ipv4.tcp_max_syn_backlog", BACKLOG / 4, "connections that are half open, of a socket"),
    ]
    .into_iter()
    .flatten()
    .collect();
    if let Some(range) = read("/proc/sys/net/ipv4/ip_local_port_range") {
        findings.extend(ports(&range));
    }
    // Only there where connections are tracked: by a firewall, or for containers.
    if let Some(most) = number("/proc/sys/net/netfilter/nf_conntrack_max") {
        findings.push(match most >= TRACKED_FEW {
            true => Finding::yes(format!("net.netfilter.nf_conntrack_max {most}: connections that are tracked")),
            false => Finding::note(
                format!("net.netfilter.nf_conntrack_max {most}: beyond, packets are dropped without a word"),
                "sysctl -w net.netfilter.nf_conntrack_max=1048576, or do not track the services' ports",
            ),
        });
    }
    if findings.is_empty() {
        findings
            .push(Finding::note("its settings cannot be read (/proc/sys/net)", "mount /proc where the service runs"));
    }
    findings
}

fn ports(range: &str) -> Option<Finding> {
    let mut ends = range.split_whitespace().filter_map(|end| end.parse::<u64>().ok());
    let (first, last) = (ends.next()?, ends.next()?);
    let count = (last + 1).saturating_sub(first);
    let says = format!("net.ipv4.ip_local_port_range {first} {last}: {count} connections to one address of a backend");
    Some(match count >= PORTS_FEW {
        true => Finding::yes(says),
        false => Finding::note(says, "sysctl -w net.ipv4.ip_local_port_range=\"15000 65000\""),
    })
}

#[cfg(test)]
mod tests {
    use super::super::Verdict::{Note, Yes};
    use super::*;

    #[test]
    fn settings_have_verdicts() {
        let with = |waiting: &'static str, range: &'static str| {
            move |path: &str| match path {
                "/proc/sys/net/core/somaxconn" | "/proc/sys/net/ipv4/tcp_max_syn_backlog" => Some(waiting.to_owned()),
                "/proc/sys/net/ipv4/ip_local_port_range" => Some(range.to_owned()),
                "/proc/sys/net/netfilter/nf_conntrack_max" => Some("262144\n".to_owned()),
                _ => None,
            }
        };
        let verdicts = |findings: Vec<Finding>| findings.iter().map(|finding| finding.verdict).collect::<Vec<_>>();
        assert_eq!(verdicts(look(&with("4096\n", "32768\t60999\n"))), [Yes; 4]);
        let findings = look(&with("128\n", "60000\t60999\n"));
        assert!(findings[0].remedy == "sysctl -w net.core.somaxconn=4096" && findings[2].says.contains("1000 conn"));
        assert_eq!(verdicts(findings), [Note, Note, Note, Yes]);
        assert_eq!(verdicts(look(&|_| None)), [Note]);
    }
}
