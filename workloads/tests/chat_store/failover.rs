//! Several servers in one URL: the one that takes writes is found, and left when it takes none any more.

use std::sync::atomic::Ordering;

use crate::outside::postgres::Postgres;
use crate::rig::{Feeding, Folder, MemoryLog, check, message, settings, until};

const GROUP: &str = "the chat's feed to PostgreSQL, failing over";
const CHANNELS: u64 = 7;

fn rows(postgres: &Postgres) -> u64 {
    postgres.sql("SELECT count(*) FROM annulus_publications").parse().unwrap()
}

#[test]
fn a_promoted_standby_is_found_and_no_row_is_missing() {
    let Some(mut primary) = Postgres::start(GROUP) else { return };
    let standby = primary.standby();
    let (folder, log) = (Folder::new(), MemoryLog::of(1000, CHANNELS));
    // The standby comes first, lets us in, and is not what is wanted.
    let url = format!(
        "postgres://annulus@127.0.0.1:{},127.0.0.1:{}/annulus?sslmode=disable&connect_timeout=2",
        standby.port, primary.port
    );
    let feeding = Feeding::start(settings(&folder.0, &url), &log);
    feeding.settle(&log);
    assert_eq!(rows(&primary), 1000);
    until("the standby has it all", || rows(&standby) == 1000);

    primary.crash();
    (1000..2000).for_each(|number| log.push(message(number, CHANNELS)));
    until("neither takes it", || feeding.state.last_error().is_some_and(|error| error.contains("takes no writes")));
    let error = feeding.state.last_error().unwrap();
    assert!(error.contains(&primary.port.to_string()) && error.contains(&standby.port.to_string()), "{error}");
    assert_eq!(standby.sql("SELECT pg_promote()"), "t");
    feeding.settle(&log);
    feeding.stop();
    check(&standby, 2000, CHANNELS);
}

#[test]
fn a_server_that_takes_no_writes_any_more_is_left() {
    let Some(first) = Postgres::start(GROUP) else { return };
    let Some(second) = Postgres::start(GROUP) else { return };
    let (folder, log) = (Folder::new(), MemoryLog::of(100, CHANNELS));
    let url = format!(
        "postgres://annulus@127.0.0.1:{},127.0.0.1:{}/annulus?sslmode=disable&connect_timeout=2",
        first.port, second.port
    );
    let feeding = Feeding::start(settings(&folder.0, &url), &log);
    feeding.settle(&log);
    assert_eq!(rows(&first), 100);
    first.sql("ALTER SYSTEM SET default_transaction_read_only = on");
    first.sql("SELECT pg_reload_conf()");
    until("it takes no writes", || first.sql("SHOW default_transaction_read_only") == "on");
    (100..300).for_each(|number| log.push(message(number, CHANNELS)));
    feeding.settle(&log);
    // Rows of lanes that had a session there came to an error and went on to the other; none is on both or on neither.
    assert_eq!((rows(&first), rows(&second)), (100, 200));
    assert!(feeding.state.retries.load(Ordering::Relaxed) > 0);
    feeding.stop();
}
