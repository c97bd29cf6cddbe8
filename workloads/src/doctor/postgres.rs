//! PostgreSQL: who lets us in and takes writes, what its word is worth, and whether our tables and connections fit.

use std::net::IpAddr;
use std::time::Instant;

use annulus_engine::Shard;

use super::{Finding, LOOK_MAX, Verdict};
use crate::chat::store::{archive, postgres};
use crate::image::audit;
use crate::postgres::migrate::{Schema, Standing};
use crate::postgres::url::Host;
use crate::postgres::{Dialer, Session, SessionAttrs, SslMode, Target, Trouble};

/// The oldest release that our tests run with, and that its authors still cared for when this was written: 13.
const VERSION_MIN: i64 = 130_000;

/// All that is asked in one question.
const FACTS: &str = "
SELECT current_setting('server_version'), current_setting('server_version_num'),
    pg_is_in_recovery() OR current_setting('default_transaction_read_only')::boolean,
    current_setting('fsync'), current_setting('synchronous_commit'), current_setting('synchronous_standby_names'),
    current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int,
    (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()),
    (SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user),
    (SELECT datconnlimit FROM pg_database WHERE datname = current_database()),
    coalesce((SELECT version FROM pg_stat_ssl WHERE ssl AND pid = pg_backend_pid()), ''),
    coalesce(current_schema(), ''), coalesce(has_schema_privilege(current_schema(), 'CREATE'), false),
    current_setting('full_page_writes')";

/// Looks at all servers of a URL.
pub(super) async fn look(shard: &Shard, target: &Target, connections: usize) -> Vec<Finding> {
    let (mut findings, mut writable) = (Vec::new(), 0);
    for host in &target.hosts {
        let alone = Target { hosts: vec![host.clone()], session_attrs: SessionAttrs::Any, ..target.clone() };
        match shard.timeout(LOOK_MAX, look_at(shard, &alone, host, connections)).await {
            Ok((of_host, takes_writes)) => {
                findings.extend(of_host);
                writable += usize::from(takes_writes);
            }
            Err(_elapsed) => findings.push(Finding::no(
                format!("{host} has not answered within {LOOK_MAX:?}"),
                "see whether it is overloaded, or whether its tables are locked (pg_stat_activity)",
            )),
        }
    }
    if target.hosts.len() > 1 {
        findings.push(match writable {
            1 => Finding::yes("one of them takes writes: that is where sessions go"),
            0 => Finding::no("none of them takes writes", "promote one, or name the primary in the URL"),
            several => Finding::no(
                format!("{several} of them take writes: rows would go to whichever is found first"),
                "name the servers of one cluster only: a primary and its standbys",
            ),
        });
    }
    findings
}

/// What one server says, and whether it takes writes.
async fn look_at(shard: &Shard, target: &Target, host: &Host, connections: usize) -> (Vec<Finding>, bool) {
    let begun = Instant::now();
    let opened = match Dialer::new(shard, target) {
        Ok(dialer) => Session::open(&dialer).await.map(|session| (dialer, session)),
        Err(error) => Err(Trouble::setup(error)),
    };
    let (dialer, mut session) = match opened {
        Ok(opened) => opened,
        Err(trouble) => {
            let says = trouble.to_string();
            let usual = "start it, and let this machine reach it: its address, listen_addresses, firewalls";
            let (says, remedy) = says.split_once(" Fix: ").unwrap_or((&says, usual));
            return (vec![Finding::no(says, remedy)], false);
        }
    };
    let took = begun.elapsed().as_millis();
    let mut findings = vec![Finding::yes(format!("{host} lets us in, within {took} ms"))];
    let takes_writes = match facts(&mut session).await {
        Ok(facts) => {
            facts.judge(target, host, connections, &mut findings);
            for (schema, what) in [
                (&postgres::SCHEMA, "the chat's publications"),
                (&archive::SCHEMA, "histories that were removed"),
                (&audit::SCHEMA, "the account of image jobs"),
            ] {
                findings.push(tables(&mut session, schema, what, facts.may_create).await);
            }
            !facts.is_read_only
        }
        Err(trouble) => {
            findings.push(Finding::no(
                format!("its settings cannot be read: {trouble}"),
                "see its own log: who may connect may read them",
            ));
            false
        }
    };
    session.close(&dialer).await;
    (findings, takes_writes)
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Facts {
    version: String,
    version_number: i64,
    is_read_only: bool,
    fsync: bool,
    full_page_writes: bool,
    synchronous_commit: String,
    standbys: String,
    connections_max: i64,
    connections: i64,
    role_limit: i64,
    database_limit: i64,
    tls: String,
    schema: String,
    may_create: bool,
}

async fn facts(session: &mut Session) -> Result<Facts, Trouble> {
    let rows = session.query(FACTS).await?;
    let row = rows.first().ok_or_else(|| Trouble::protocol("no answer to a question"))?;
    let text = |index: usize| row.text(index).map(str::to_owned);
    let number = |index: usize| {
        let text = row.text(index)?;
        text.parse::<i64>().map_err(|_| Trouble::protocol(&format!("{text:?} is no number")))
    };
    Ok(Facts {
        version: text(0)?,
        version_number: number(1)?,
        is_read_only: row.text(2)? == "t",
        fsync: row.text(3)? == "on",
        synchronous_commit: text(4)?,
        standbys: text(5)?,
        connections_max: number(6)?,
        connections: number(7)?,
        role_limit: number(8)?,
        database_limit: number(9)?,
        tls: text(10)?,
        schema: text(11)?,
        may_create: row.text(12)? == "t",
        full_page_writes: row.text(13)? == "on",
    })
}

impl Facts {
    /// What follows from them.
    fn judge(&self, target: &Target, host: &Host, connections: usize, findings: &mut Vec<Finding>) {
        findings.push(match self.version_number >= VERSION_MIN {
            true => Finding::yes(format!("PostgreSQL {}", self.version)),
            false => Finding::no(
                format!("PostgreSQL {} is older than {}", self.version, VERSION_MIN / 10_000),
                "upgrade it: its authors mend it no more",
            ),
        });
        findings.push(self.encryption(target, host));
        findings.push(match self.is_read_only {
            false => Finding::yes("it takes writes"),
            true if target.hosts.len() == 1 => Finding::note(
                "it takes no writes: a standby, or default_transaction_read_only = on",
                "as the only server in a URL it is of no use: name the primary, or all servers (postgres://user@one,two/db)",
            ),
            true => Finding::note("it takes no writes: a standby, or default_transaction_read_only = on", "nothing, as long as another one does"),
        });
        findings.push(self.durability());
        findings.push(self.room(connections));
    }

    fn encryption(&self, target: &Target, host: &Host) -> Finding {
        let is_near = host.is_local()
            || host.name == "localhost"
            || host.name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        match (self.tls.as_str(), target.ssl_mode) {
            ("", _) if is_near => Finding::yes("no TLS, on this machine"),
            ("", _) => Finding::no(
                "no TLS: passwords and publications cross the network as they are",
                "turn it on at the server (ssl = on), and set sslmode=verify-full in the URL",
            ),
            (version, SslMode::VerifyFull) => Finding::yes(format!("{version}, with a certificate of its name")),
            (version, _) if is_near => Finding::yes(format!("{version}, on this machine")),
            (version, _) => Finding::note(
                format!("{version}, with whoever answers at that address"),
                "sslmode=verify-full, and sslrootcert=FILE where its authority is your own",
            ),
        }
    }

    /// What a crash or a failover takes back of what was committed.
    fn durability(&self) -> Finding {
        let Facts { fsync, full_page_writes, synchronous_commit, standbys, .. } = self;
        if !fsync || !full_page_writes {
            let says = "fsync or full_page_writes is off: a power cut may leave nothing of the database";
            return Finding::no(says, "fsync = on and full_page_writes = on in postgresql.conf");
        }
        match (synchronous_commit.as_str(), standbys.as_str()) {
            ("off", _) => Finding::no(
                "synchronous_commit = off: a crash loses what was committed in the last moments, \"ack\": \"db\" included",
                "synchronous_commit = on, for this user at least: ALTER ROLE ... SET synchronous_commit = on",
            ),
            (level, "") => Finding::note(
                format!(
                    "synchronous_commit = {level} and no synchronous standby: a crash loses nothing; failing over to a \
                     standby loses what that had not received"
                ),
                "where that must not be: synchronous_standby_names",
            ),
            ("local", _) => Finding::note(
                "synchronous_commit = local: failing over to a standby loses what that had not received",
                "synchronous_commit = on",
            ),
            (level, standbys) => Finding::yes(format!(
                "synchronous_commit = {level} with {standbys:?}: neither a crash nor failing over loses what was committed"
            )),
        }
    }

    fn room(&self, connections: usize) -> Finding {
        let limits = [self.connections_max, self.role_limit, self.database_limit];
        let most = limits.into_iter().filter(|limit| *limit >= 0).min().unwrap_or(0);
        let free = most - self.connections;
        let wanted = i64::try_from(connections).unwrap_or(i64::MAX);
        let says =
            format!("of {most} connections {} are in use, and one node wants up to {connections}", self.connections);
        match free >= wanted {
            true => Finding::yes(says),
            false => Finding::no(
                says,
                "raise max_connections (or the role's or database's limit), or lower chat.database.connections",
            ),
        }
    }
}

/// Tables of ours.
async fn tables(session: &mut Session, schema: &Schema, what: &str, may_create: bool) -> Finding {
    let standing = match schema.look(session).await {
        Ok(standing) => standing,
        Err(trouble) => return Finding::no(format!("tables of {what}: {trouble}"), "let this user read them"),
    };
    match (schema.is_fit(standing), standing) {
        (Err(trouble), _) => {
            let says = trouble.to_string();
            let usual = "name another database in the URL, or move those tables away";
            let (says, remedy) = says.split_once(" Fix: ").unwrap_or((&says, usual));
            Finding::no(says, remedy)
        }
        (Ok(true), Standing::Ours { version, .. }) => Finding::yes(format!("tables of {what}: version {version}")),
        (Ok(_), standing) => {
            let says = match standing {
                Standing::Ours { version, .. } => {
                    format!(
                        "tables of {what}: version {version}, to be brought to {} at the next start",
                        schema.version()
                    )
                }
                _ => format!("tables of {what}: none yet, made when they are needed"),
            };
            match may_create {
                true => Finding::yes(says),
                false => Finding {
                    verdict: Verdict::Note,
                    says: format!("{says}; this user may not"),
                    remedy: "GRANT CREATE ON SCHEMA ... to this user, or start once with one who may".to_owned(),
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            version: "17.2".to_owned(),
            version_number: 170_002,
            fsync: true,
            full_page_writes: true,
            synchronous_commit: "on".to_owned(),
            connections_max: 97,
            connections: 3,
            role_limit: -1,
            database_limit: -1,
            ..Facts::default()
        }
    }

    fn verdict(finding: &Finding) -> Verdict {
        assert!(finding.verdict != Verdict::No || !finding.remedy.is_empty(), "{finding}");
        finding.verdict
    }

    #[test]
    fn settings_have_verdicts() {
        use Verdict::{No, Note, Yes};
        assert_eq!(verdict(&facts().durability()), Note);
        let synchronous = Facts { standbys: "ANY 1 (a, b)".to_owned(), ..facts() };
        assert_eq!(verdict(&synchronous.durability()), Yes);
        assert_eq!(verdict(&Facts { synchronous_commit: "local".to_owned(), ..synchronous }.durability()), Note);
        assert_eq!(verdict(&Facts { synchronous_commit: "off".to_owned(), ..facts() }.durability()), No);
        assert_eq!(verdict(&Facts { fsync: false, ..facts() }.durability()), No);
        assert_eq!((verdict(&facts().room(94)), verdict(&facts().room(95))), (Yes, No));
        assert_eq!(verdict(&Facts { role_limit: 10, ..facts() }.room(8)), No);
        for (url, tls, expected) in [
            ("postgres://a@127.0.0.1/b", "", Yes),
            ("postgres://a@/b?host=/run", "", Yes),
            ("postgres://a@db.example/b", "", No),
            ("postgres://a@db.example/b?sslmode=require", "TLSv1.3", Note),
            ("postgres://a@db.example/b?sslmode=verify-full", "TLSv1.3", Yes),
        ] {
            let target = Target::parse(url).unwrap();
            let finding = Facts { tls: tls.to_owned(), ..facts() }.encryption(&target, &target.hosts[0]);
            assert_eq!(verdict(&finding), expected, "{url}");
        }
    }
}
