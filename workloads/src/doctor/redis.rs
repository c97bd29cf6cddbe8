//! Redis: whether it answers and may be written to, and what of what it has acknowledged a crash or a failover loses.

use std::time::Instant;

use annulus_engine::Shard;

use super::{Finding, LOOK_MAX};
use crate::redis::{Durability, Redis, ServerFacts, Settings};

/// The oldest release whose commands are all that are used here; a cluster needs 7, whose channels belong to shards.
const MAJOR_MIN: u32 = 6;

/// Looks at a server, or at one of a cluster's.
pub(super) async fn look(shard: &Shard, settings: &Settings) -> Vec<Finding> {
    let redis = Redis::start(shard, settings, "doctor");
    if shard.timeout(LOOK_MAX, redis.up()).await.is_err() {
        let says = format!("it does not let us in within {LOOK_MAX:?}; the lines above say why");
        let remedy = "start it, and let this machine reach it; name the primary, not a replica; see user and password";
        return vec![Finding::no(says, remedy)];
    }
    let begun = Instant::now();
    let mut findings = match redis.call([b"PING"]).await {
        Ok(_pong) => vec![Finding::yes(format!("it answers, within {} us", begun.elapsed().as_micros()))],
        Err(trouble) => vec![Finding::no(format!("it does not answer: {trouble}"), "see its log")],
    };
    match redis.server() {
        Some(facts) => findings.extend(judge(&facts)),
        None => findings.push(Finding::no("the connection broke while it was looked at", "see its log")),
    }
    findings
}

/// What follows from what it says of itself.
fn judge(facts: &ServerFacts) -> Vec<Finding> {
    let ServerFacts { version, is_promoted, replicas, durability, maxmemory_policy, .. } = facts;
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    let mut findings = vec![match major {
        Some(major) if major >= MAJOR_MIN => Finding::yes(format!("version {version}")),
        Some(_) => Finding::no(format!("version {version} is older than {MAJOR_MIN}"), "upgrade it"),
        None => Finding::note(
            format!("it calls its version {version:?}"),
            "see whether it is a Redis, and not only something that speaks like one",
        ),
    }];
    findings.push(match durability {
        Durability::Always => Finding::yes("a crash loses nothing that was acknowledged (appendfsync always)"),
        Durability::EverySecond => Finding::note(
            "a crash loses what was acknowledged in the last second or two (appendfsync everysec)",
            "where that must not be: CONFIG SET appendfsync always, which costs throughput",
        ),
        Durability::No => Finding::no(
            "a crash loses all that was acknowledged since the last snapshot (no append-only file, or appendfsync no)",
            "CONFIG SET appendonly yes, CONFIG SET appendfsync everysec (or always), and CONFIG REWRITE",
        ),
        Durability::Unknown => Finding::note(
            "what a crash loses is not known: it does not show us appendonly and appendfsync",
            "let this user run CONFIG GET, or see where it is hosted",
        ),
    });
    findings.push(match maxmemory_policy.as_str() {
        "noeviction" => Finding::yes("when its memory is full it refuses writes (noeviction)"),
        "" => Finding::note(
            "what it does when its memory is full is not known",
            "let this user run CONFIG GET: maxmemory-policy should be noeviction",
        ),
        policy => Finding::no(
            format!("when its memory is full it drops what we keep there (maxmemory-policy {policy})"),
            "CONFIG SET maxmemory-policy noeviction, and another server for what is only a cache",
        ),
    });
    findings.push(match replicas {
        0 => Finding::note(
            "no replica follows it: while it is away, there is nobody to fail over to",
            "a replica and Sentinel, or a cluster, where that must not be",
        ),
        several => Finding::note(
            format!("{several} replicas follow it: failing over loses what had not reached the one that is promoted"),
            "min-replicas-to-write 1 bounds that",
        ),
    });
    if *is_promoted {
        findings.push(Finding::note(
            "it was a replica once, and was promoted: what its primary had acknowledged and not replicated is gone",
            "min-replicas-to-write 1 bounds that the next time",
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::Verdict::{No, Note, Yes};
    use super::*;

    #[test]
    fn what_a_server_says_of_itself_has_verdicts() {
        let facts = ServerFacts {
            run_id: "a".to_owned(),
            version: "7.0.15".to_owned(),
            is_promoted: false,
            replicas: 0,
            durability: Durability::Always,
            maxmemory_policy: "noeviction".to_owned(),
        };
        let verdicts = |facts: &ServerFacts| judge(facts).iter().map(|finding| finding.verdict).collect::<Vec<_>>();
        assert_eq!(verdicts(&facts), [Yes, Yes, Yes, Note]);
        let weak = ServerFacts {
            version: "5.0.14".to_owned(),
            durability: Durability::No,
            maxmemory_policy: "allkeys-lru".to_owned(),
            is_promoted: true,
            replicas: 2,
            ..facts.clone()
        };
        assert_eq!(verdicts(&weak), [No, No, No, Note, Note]);
        let hidden = ServerFacts { durability: Durability::Unknown, maxmemory_policy: String::new(), ..facts };
        assert_eq!(verdicts(&hidden), [Yes, Note, Note, Note]);
    }
}
