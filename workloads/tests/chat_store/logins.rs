//! Logging in to PostgreSQL: every way that is offered, with and without TLS, and what is said when it does not work.

use std::sync::atomic::Ordering;
use std::time::Duration;

use annulus::chat::store::PostgresSettings;

use crate::outside::certificates::Authority;
use crate::outside::postgres::Postgres;
use crate::rig::{Feeding, Folder, MemoryLog, check, settings, until};

const GROUP: &str = "the chat's logins to PostgreSQL";
const USERS: &str = "SET password_encryption = 'scram-sha-256'; CREATE ROLE scram LOGIN SUPERUSER PASSWORD 'p:ä ss'; \
                     CREATE ROLE clear LOGIN SUPERUSER PASSWORD 'open'; SET password_encryption = 'md5'; \
                     CREATE ROLE digest LOGIN SUPERUSER PASSWORD 'old'";
const RULES: &str = "hostssl annulus scram 127.0.0.1/32 scram-sha-256\nhostnossl annulus scram 127.0.0.1/32 scram-sha-256\n\
                     host annulus clear 127.0.0.1/32 password\nhost annulus digest 127.0.0.1/32 md5\n";

fn feeds(url: &str) {
    let (folder, log) = (Folder::new(), MemoryLog::of(50, 3));
    let feeding = Feeding::start(settings(&folder.0, url), &log);
    feeding.settle(&log);
    feeding.stop();
}

fn says(url: &str, words: &[&str]) {
    let (folder, log) = (Folder::new(), MemoryLog::of(50, 3));
    let feeding = Feeding::start(settings(&folder.0, url), &log);
    until(&format!("{url} says {words:?}"), || feeding.state.last_error().is_some());
    let error = feeding.state.last_error().unwrap();
    words.iter().for_each(|word| assert!(error.contains(word), "{url}: {word}: {error}"));
    assert!(!error.contains("wrong password"), "{error}");
    feeding.stop();
}

#[test]
fn passwords_in_every_way_and_wrong_ones() {
    let Some(mut postgres) = Postgres::start(GROUP) else { return };
    postgres.sql(USERS);
    postgres.let_in(RULES);
    postgres.restart();
    let at = format!("127.0.0.1:{}/annulus", postgres.port);
    // Percent-encoded: p:ä ss.
    feeds(&format!("postgres://scram:p%3A%C3%A4%20ss@{at}"));
    feeds(&format!("postgres://digest:old@{at}?sslmode=disable"));
    feeds(&format!("postgres://clear:open@{at}?sslmode=prefer"));
    feeds(
        &format!("postgres://annulus@/annulus?host={}", postgres.folder().display())
            .replace("/annulus?", &format!(":{}/annulus?", postgres.port)),
    );
    for user in ["scram", "digest", "clear"] {
        let words = ["password authentication failed", "SQLSTATE 28P01", "Fix: put the right user and password"];
        says(&format!("postgres://{user}:wrong%20password@{at}"), &words);
    }
    says(&format!("postgres://scram@{at}"), &["asks for a password", "Fix:"]);
    says(&format!("postgres://nobody:x@{at}"), &["SQLSTATE 28000"]);
    let nowhere = at.replace("/annulus", "/nowhere");
    says(&format!("postgres://annulus@{nowhere}"), &["SQLSTATE 3D000", "Fix: create the database"]);
    says(&format!("postgres://annulus@{at}?sslmode=require"), &["offers no TLS"]);
    says("postgres://annulus@127.0.0.1:1/annulus", &["connecting to postgres://annulus@127.0.0.1:1/annulus"]);
}

/// Lanes that may not come in ask one at a time, and slowly.
#[test]
fn one_lane_knocks_for_all() {
    let Some(mut postgres) = Postgres::start(GROUP) else { return };
    postgres.sql(USERS);
    postgres.let_in(RULES);
    postgres.restart();
    let url = format!("postgres://scram:wrong@127.0.0.1:{}/annulus", postgres.port);
    let (folder, log) = (Folder::new(), MemoryLog::of(1000, 100));
    let settings = PostgresSettings { connections: 50, ..settings(&folder.0, &url) };
    let feeding = Feeding::start(settings, &log);
    std::thread::sleep(Duration::from_secs(3));
    let refused = postgres.log().matches("FATAL:  password authentication failed").count();
    // Four at once at first, then one after waits of up to 2, 4, 8 ... seconds.
    assert!((1..20).contains(&refused), "{refused}");
    postgres.sql("SET password_encryption = 'scram-sha-256'; ALTER ROLE scram PASSWORD 'wrong'");
    feeding.settle(&log);
    assert!(feeding.state.connected.load(Ordering::Relaxed) > 30);
    feeding.stop();
    check(&postgres, 1000, 100);
}

#[test]
fn tls_and_whom_it_believes() {
    let Some(mut postgres) = Postgres::start(GROUP) else { return };
    let Some(authority) = Authority::new(GROUP) else { return };
    let certified = authority.issue("localhost");
    let (chain, key) = (postgres.give(&certified.chain, "server.crt"), postgres.give(&certified.key, "server.key"));
    let files = format!("ssl_cert_file = '{}'\nssl_key_file = '{}'\n", chain.display(), key.display());
    postgres.configure(&format!("ssl = on\n{files}"));
    postgres.sql(USERS);
    postgres
        .let_in("hostnossl annulus annulus 127.0.0.1/32 reject\nhostssl annulus scram 127.0.0.1/32 scram-sha-256\n");
    postgres.restart();
    let port = postgres.port;
    feeds(&format!("postgres://annulus@127.0.0.1:{port}/annulus?sslmode=require"));
    feeds(&format!("postgres://annulus@127.0.0.1:{port}/annulus"));
    feeds(&format!("postgres://scram:p%3A%C3%A4%20ss@127.0.0.1:{port}/annulus?sslmode=require"));
    let root = authority.certificate();
    let verified = format!("/annulus?sslmode=verify-full&sslrootcert={}", root.display());
    feeds(&format!("postgres://annulus@localhost:{port}{verified}"));
    // The certificate is for localhost, and its authority is not the system's.
    says(&format!("postgres://annulus@127.0.0.1:{port}{verified}"), &["certificate"]);
    says(&format!("postgres://annulus@localhost:{port}/annulus?sslmode=verify-full"), &["certificate"]);
    says(&format!("postgres://annulus@127.0.0.1:{port}/annulus?sslmode=disable"), &["SQLSTATE 28000"]);
}
