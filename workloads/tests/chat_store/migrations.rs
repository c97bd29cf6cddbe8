//! Tables and their versions, with a real server: made once by many, brought up to date, refused where they are too new.

use std::sync::Arc;
use std::time::Duration;

use annulus::postgres::migrate::{Schema, Standing, Step};
use annulus::postgres::{Pool, PoolSettings, Target};

use crate::outside::postgres::Postgres;
use crate::rig::{Feeding, Folder, MemoryLog, on_a_shard, settings, until};

const GROUP: &str = "versions of tables in PostgreSQL";

/// Long enough for all to be there before the first has ended.
const FIRST: Step = Step { words: "CREATE TABLE things (a int); SELECT pg_sleep(0.2)", least: 1 };
const SECOND: Step = Step { words: "ALTER TABLE things ADD b int NOT NULL DEFAULT 7", least: 1 };
const THIRD: Step = Step { words: "ALTER TABLE things DROP a", least: 3 };

static ONE: Schema = Schema { name: "things", table: "things", steps: &[FIRST] };
static TWO: Schema = Schema { name: "things", table: "things", steps: &[FIRST, SECOND] };
static THREE: Schema = Schema { name: "things", table: "things", steps: &[FIRST, SECOND, THIRD] };
static BROKEN: Schema = Schema {
    name: "things",
    table: "things",
    steps: &[FIRST, Step { words: "ALTER TABLE things ADD c int; ALTER TABLE nothing ADD d int", least: 1 }],
};

/// Brings the tables of a server up to date, and looks.
fn ensure(url: &str, schema: &'static Schema) -> Result<Standing, String> {
    let url: Arc<str> = url.into();
    on_a_shard(move |shard| {
        let url = url.clone();
        async move {
            let settings = PoolSettings {
                sessions_max: 1,
                waiting_max: 1,
                answer_max: Duration::from_secs(30),
                idle_max: Duration::from_secs(30),
                schema: None,
            };
            let pool = Pool::new(&shard, &Target::parse(&url).unwrap(), settings).unwrap();
            let work = async |session: &mut annulus::postgres::Session| {
                schema.ensure(session).await?;
                schema.look(session).await
            };
            pool.with(work).await.map_err(|refusal| refusal.to_string())
        }
    })
}

#[test]
fn many_that_start_at_once_make_the_tables_once_and_later_ones_go_on_from_there() {
    let Some(postgres) = Postgres::start(GROUP) else { return };
    let url = postgres.url();
    let standings: Vec<_> = std::thread::scope(|scope| {
        let starting: Vec<_> = (0..4).map(|_| scope.spawn(|| ensure(&url, &ONE))).collect();
        starting.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let ours = |version, least| Ok::<_, String>(Standing::Ours { version, least });
    assert_eq!(standings, [ours(1, 1), ours(1, 1), ours(1, 1), ours(1, 1)]);
    postgres.sql("INSERT INTO things VALUES (1)");

    // A step that fails leaves nothing behind.
    let broken = ensure(&url, &BROKEN).unwrap_err();
    assert!(broken.contains("42P01"), "{broken}");
    assert_eq!(postgres.sql("SELECT version FROM annulus_schema WHERE name = 'things'"), "1");
    assert_eq!(postgres.sql("SELECT count(*) FROM information_schema.columns WHERE table_name = 'things'"), "1");

    // Two releases start at once: the older goes on beside the newer one, whoever comes first.
    std::thread::scope(|scope| {
        let (new, old) = (scope.spawn(|| ensure(&url, &TWO)), scope.spawn(|| ensure(&url, &ONE)));
        assert_eq!(new.join().unwrap(), ours(2, 1));
        assert!(old.join().unwrap().is_ok());
    });
    assert_eq!(postgres.sql("SELECT a, b FROM things"), "1|7");
    // This one needs all others to know it.
    assert_eq!(ensure(&url, &THREE), ours(3, 3));
    let refused = ensure(&url, &TWO).unwrap_err();
    assert!(refused.contains("of a newer annulus") && refused.contains("Fix:"), "{refused}");
    assert_eq!(ensure(&url, &THREE), ours(3, 3));
    // Whoever may only use the tables can see their version.
    postgres.sql("CREATE ROLE reader LOGIN");
    assert_eq!(ensure(&url.replace("annulus@", "reader@"), &THREE), ours(3, 3));
}

#[test]
fn tables_of_another_time_are_refused_or_taken_over() {
    let Some(postgres) = Postgres::start(GROUP) else { return };
    let (folder, log) = (Folder::new(), MemoryLog::of(10, 3));
    // The tables are made at the start, not with the first row.
    let empty = MemoryLog::default();
    let feeding = Feeding::start(settings(&folder.0, &postgres.url()), &empty);
    until("they are there", || postgres.sql("SELECT to_regclass('annulus_publications') IS NOT NULL") == "t");
    feeding.stop();
    postgres.sql("UPDATE annulus_schema SET version = 9, least = 9");
    let other = Folder::new();
    let feeding = Feeding::start(settings(&other.0, &postgres.url()), &log);
    until("it is told", || feeding.state.last_error().is_some_and(|error| error.contains("of a newer annulus")));
    assert_eq!(postgres.sql("SELECT count(*) FROM annulus_publications"), "0");
    // A newer one that only adds something is no hindrance.
    postgres.sql("UPDATE annulus_schema SET least = 1");
    feeding.settle(&log);
    feeding.stop();
    // Of a release that kept its version in a comment.
    postgres.sql("DROP TABLE annulus_schema");
    let third = Folder::new();
    let feeding = Feeding::start(settings(&third.0, &postgres.url()), &log.again());
    until("all is there already", || feeding.state.repeated.load(std::sync::atomic::Ordering::Relaxed) == 10);
    feeding.stop();
}
