//! Rate limits of two gateways and one Redis: what both let through together is bounded, also while Redis is gone, and it is
//! one limit again when it is back.

use std::time::{Duration, Instant};

use crate::gateway_rig::{Answer, Gateway, Upstream, config};
use crate::outside::redis::{Durability, Redis};

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// What passes of four requests at each gateway while they are alone: half of five, rounded up, on each shard. The first gateway
/// has two.
const HALVES: std::ops::RangeInclusive<usize> = 6..=7;

fn metric(gateway: &Gateway, name: &str) -> u64 {
    let page = gateway.get("/metrics").body;
    let lines = page.lines().filter(|line| line.starts_with(name));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64).sum()
}

fn ask(gateway: &Gateway, path: &str, client: &str) -> Answer {
    gateway.ask(&format!("GET {path} HTTP/1.1\r\nHost: shop.example\r\nX-Key: {client}\r\n"), b"")
}

/// How many of four requests at each gateway pass.
fn passed(gateways: &[Gateway; 2], client: &str) -> usize {
    let rounds = (0..4).flat_map(|_| gateways);
    rounds.filter(|gateway| ask(gateway, "/few", client).status == 200).count()
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn what_the_guide_lets_a_gateway_do_at_redis_is_all_that_it_needs() {
    let Some(mut redis) = Redis::start(Durability::None) else { return };
    let url = redis.let_in_only("gateway");
    let upstream = Upstream::start(|_| Upstream::json("{}"));
    let endpoint = format!(
        r#"{{"endpoint": "/few", "backend": [{{"host": ["http://{}"], "url_pattern": "/x"}}],
            "extra_config": {{"qos/ratelimit/router": {{"max_rate": 5, "every": "1h"}}}}}}"#,
        upstream.address
    );
    let store =
        format!(r#", "extra_config": {{"annulus": {{"compat": "annulus", "rate_limit": {{"redis": "{url}"}}}}}}"#);
    let gateway = Gateway::start(&config(&endpoint, &store));
    until("Redis gives tokens", || {
        ask(&gateway, "/few", "nobody");
        metric(&gateway, "annulus_gateway_quota_tokens_total") > 0
    });
    assert!(!gateway.log.lock().unwrap().contains("NOPERM"));
}

#[test]
fn two_gateways_keep_one_limit() {
    let Some(mut redis) = Redis::start(Durability::None) else { return };
    let upstream = Upstream::start(|_| Upstream::json("{}"));
    let endpoint = |path: &str, limit: &str| {
        let host = upstream.address;
        format!(
            r#"{{"endpoint": "{path}", "backend": [{{"host": ["http://{host}"], "url_pattern": "/x"}}],
                "extra_config": {{"qos/ratelimit/router": {limit}}}}}"#
        )
    };
    let few = r#"{"client_max_rate": 5, "client_capacity": 5, "every": "1h", "strategy": "header", "key": "X-Key"}"#;
    let url = redis.url();
    let file = |rate: u32| {
        let many = format!(r#"{{"max_rate": {rate}, "capacity": 100, "every": "1s"}}"#);
        let store = format!(
            r#", "extra_config": {{"annulus": {{"compat": "annulus", "rate_limit": {{"redis": "{url}", "gateways": 2}}}}}}"#
        );
        config(&[endpoint("/few", few), endpoint("/many", &many)].join(","), &store)
    };
    let text = file(100);
    let gateways = [Gateway::start_on(&text, "2", "auto"), Gateway::start(&text)];
    until("both have Redis", || {
        // Each by a client of its own: one gateway could have taken all of a client's tokens before the other has Redis.
        gateways.iter().zip(["nobody", "nobody else"]).all(|(gateway, client)| {
            ask(gateway, "/few", client);
            metric(gateway, "annulus_gateway_quota_tokens_total") > 0
        })
    });

    // Few tokens: exactly as many as there are, wherever the requests land.
    assert_eq!(passed(&gateways, "a"), 5);
    let refused = ask(&gateways[0], "/few", "a");
    assert_eq!(refused.status, 429);
    let wait = refused.head.lines().find_map(|line| line.strip_prefix("retry-after: ")).unwrap();
    assert!((600..=720).contains(&wait.parse::<u32>().unwrap()), "five an hour are one in 720 s: {wait}");

    // Many requests: what the bucket holds, and what it gains meanwhile, and Redis is asked for few of them.
    let before: u64 = gateways.iter().map(|gateway| metric(gateway, "annulus_gateway_quota_fetches_total")).sum();
    let began = Instant::now();
    let tallies: Vec<(u64, u64)> = std::thread::scope(|scope| {
        let asking = |gateway| {
            scope.spawn(move || {
                let (mut asked, mut passed) = (0, 0);
                while began.elapsed() < Duration::from_millis(1500) {
                    asked += 1;
                    passed += u64::from(ask(gateway, "/many", "x").status == 200);
                }
                (asked, passed)
            })
        };
        let threads: Vec<_> = gateways.iter().flat_map(|gateway| [asking(gateway), asking(gateway)]).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let took = began.elapsed().as_secs_f64();
    let (asked, passed_all) = tallies.iter().fold((0, 0), |sum, tally| (sum.0 + tally.0, sum.1 + tally.1));
    let gains = 100.0 * took;
    assert!(asked as f64 > 2.0 * (100.0 + gains), "only {asked} requests were made: not enough to see a limit");
    assert!(passed_all as f64 <= 100.0 + gains + 25.0, "{passed_all} of {asked} passed in {took} s");
    assert!(passed_all as f64 >= 0.7 * (100.0 + gains), "{passed_all} of {asked} passed in {took} s");
    let fetches: u64 = gateways.iter().map(|gateway| metric(gateway, "annulus_gateway_quota_fetches_total")).sum();
    println!("{asked} requests in {took:.2} s: {passed_all} passed, Redis was asked {} times", fetches - before);
    assert!(fetches - before < asked / 2, "{} questions for {asked} requests", fetches - before);

    // Redis is gone: each gateway keeps its half alone, and nobody waits.
    redis.kill();
    let began = Instant::now();
    let alone = passed(&gateways, "b");
    assert!(HALVES.contains(&alone), "{alone} of eight passed");
    assert!(began.elapsed() < Duration::from_secs(2), "eight requests took {:?}", began.elapsed());
    assert!(gateways.iter().all(|gateway| metric(gateway, "annulus_gateway_quota_local_total") > 0));
    assert!(gateways[0].logged("rate limits are kept locally: "));

    // It is back, and so is the one limit.
    redis.start_again();
    let mut client = 0;
    until("they keep one limit again", || {
        client += 1;
        passed(&gateways, &format!("c{client}")) == 5
    });

    // It stands still: requests wait a moment, once, and then for nobody.
    redis.freeze();
    let began = Instant::now();
    let alone = passed(&gateways, "d");
    assert!(HALVES.contains(&alone), "{alone} of eight passed");
    assert!(began.elapsed() < Duration::from_secs(3), "eight requests took {:?}", began.elapsed());
    redis.thaw();

    // Another configuration goes on with the connection.
    let connects = metric(&gateways[1], "annulus_redis_connects_total");
    gateways[1].write(&file(200));
    gateways[1].signal("HUP");
    assert!(gateways[1].logged("is in force"));
    until("they keep one limit again", || {
        client += 1;
        passed(&gateways, &format!("e{client}")) == 5
    });
    assert_eq!(metric(&gateways[1], "annulus_redis_connects_total"), connects);
}
