//! A few sessions for many questions, with a real server: limits, time-outs, sessions that died meanwhile.

use std::time::Duration;

use annulus::postgres::pool::Refusal;
use annulus::postgres::{Pool, PoolSettings, Session, Target, Trouble};

use crate::outside::postgres::Postgres;
use crate::rig::{on_a_shard, until};

const GROUP: &str = "questions to PostgreSQL";

fn settings() -> PoolSettings {
    PoolSettings {
        sessions_max: 2,
        waiting_max: 1,
        answer_max: Duration::from_millis(600),
        idle_max: Duration::from_secs(30),
        schema: None,
    }
}

async fn number(session: &mut Session, words: &str) -> Result<i64, Trouble> {
    let mut number = 0;
    session
        .ask(words, &[Some("20"), None], |row| {
            number = row.int8(0)?;
            Ok(())
        })
        .await?;
    Ok(number)
}

const SUM: &str = "SELECT $1::int8 + 1 WHERE $2::text IS NULL";

#[test]
fn questions_are_answered_limited_and_given_up() {
    let Some(postgres) = Postgres::start(GROUP) else { return };
    let target = Target::parse(&postgres.url()).unwrap();
    on_a_shard(move |shard| {
        let target = target.clone();
        async move {
            let pool = Pool::new(&shard, &target, settings()).unwrap();
            let sum = async |session: &mut Session| number(session, SUM).await;
            assert_eq!(pool.with(sum).await.unwrap(), 21);
            assert_eq!(pool.sessions(), 1);
            // What the server refuses ends the question, not the session.
            let wrong =
                async |session: &mut Session| number(session, "SELECT $1::int8 / 0 WHERE $2::text IS NULL").await;
            let Err(Refusal::Trouble(trouble)) = pool.with(wrong).await else { panic!("nothing is divided by 0") };
            assert!(trouble.to_string().contains("22012"), "{trouble}");
            assert_eq!((pool.with(sum).await.unwrap(), pool.sessions()), (21, 1));
            // Two sleep, one waits behind them, and one more is too many.
            let sleep = "SELECT pg_sleep(30), $1::int8, $2::text";
            let (one, two) = (pool.clone(), pool.clone());
            let mut sleeping: Vec<_> = [one, two]
                .map(|pool| {
                    shard.spawn(async move {
                        let sleep = async |session: &mut Session| number(session, sleep).await;
                        matches!(pool.with(sleep).await, Err(Refusal::Late))
                    })
                })
                .into();
            shard.sleep(Duration::from_millis(100)).await;
            let waits = pool.clone();
            sleeping.push(shard.spawn(async move {
                let sum = async |session: &mut Session| number(session, SUM).await;
                matches!(waits.with(sum).await, Ok(21))
            }));
            shard.sleep(Duration::from_millis(50)).await;
            assert!(matches!(pool.with(sum).await, Err(Refusal::Busy)));
            for task in sleeping {
                assert!(task.await.unwrap());
            }
            // What nobody waits for any more is not done either.
            let busy = "SELECT count(*) + $1::int8 - 20 FROM pg_stat_activity WHERE state = 'active' AND $2::text IS NULL \
                        AND pid <> pg_backend_pid() AND query LIKE '%pg_sleep(30)%'";
            let busy = async |session: &mut Session| number(session, busy).await;
            let end = shard.precise_now() + Duration::from_secs(20);
            while pool.with(busy).await.unwrap() > 0 {
                assert!(shard.precise_now() < end, "the sleepers were not cancelled");
                shard.sleep(Duration::from_millis(20)).await;
            }
        }
    });
}

#[test]
fn a_session_that_died_is_replaced_unnoticed() {
    let Some(postgres) = Postgres::start(GROUP) else { return };
    let target = Target::parse(&postgres.url()).unwrap();
    // The server ends all sessions but the one that asks for it.
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'annulus'";
    let asked = std::sync::Arc::new(std::sync::Barrier::new(2));
    let ended = asked.clone();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            on_a_shard(move |shard| {
                let (target, asked) = (target.clone(), asked.clone());
                async move {
                    let pool = Pool::new(&shard, &target, settings()).unwrap();
                    let sum = async |session: &mut Session| number(session, SUM).await;
                    assert_eq!(pool.with(sum).await.unwrap(), 21);
                    asked.wait();
                    asked.wait();
                    assert_eq!((pool.with(sum).await.unwrap(), pool.sessions()), (21, 1));
                }
            });
        });
        ended.wait();
        postgres.sql(end);
        let left = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'annulus'";
        until("it has ended", || postgres.sql(left) == "0");
        ended.wait();
    });
}
