//! A second question where the first is slow.

use super::*;

fn shop(upstream: &Upstream, hedge: &str, method: &str) -> Gateway {
    let backend = format!(
        r#"{{"host": ["http://{}"], "url_pattern": "/b", "method": "{method}", "extra_config": {{"annulus": {{"hedge": {hedge}}}}}}}"#,
        upstream.address
    );
    let endpoint = format!(r#"{{"endpoint": "/a", "timeout": "10s", "backend": [{backend}]}}"#);
    Gateway::start(&config(&endpoint, OURS))
}

/// Slow for every question whose number is a multiple of this, the first one included.
fn sometimes_slow(every: usize, slow: Duration) -> (Upstream, Arc<AtomicUsize>) {
    let asked: Arc<AtomicUsize> = Arc::default();
    let count = asked.clone();
    let upstream = Upstream::start(move |_| {
        if count.fetch_add(1, Ordering::SeqCst).is_multiple_of(every) {
            std::thread::sleep(slow);
        }
        Upstream::json(r#"{"ok":true}"#)
    });
    (upstream, asked)
}

#[test]
fn a_slow_answer_is_overtaken_by_a_second_question() {
    let (upstream, asked) = sometimes_slow(4, Duration::from_secs(5));
    let gateway = shop(&upstream, r#"{"after": "100ms", "budget": 1}"#, "GET");
    let began = Instant::now();
    for _ in 0..6 {
        assert_eq!(gateway.get("/a").status, 200);
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(asked.load(Ordering::SeqCst), 8, "questions 0 and 4 were slow");
    let metrics = gateway.get("/metrics").body;
    assert!(
        metrics.contains("annulus_gateway_hedges_total{shard=\"0\",endpoint=\"GET /a\",backend=\"/b\"} 2\n"),
        "{metrics}"
    );
    gateway.stop();
}

#[test]
fn what_must_not_happen_twice_is_asked_once() {
    let (upstream, asked) = sometimes_slow(1, Duration::from_millis(500));
    let gateway = shop(&upstream, r#"{"after": "50ms", "budget": 1}"#, "POST");
    assert_eq!(gateway.get("/a").status, 200);
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    gateway.stop();
}
