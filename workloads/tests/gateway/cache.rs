//! Backends' answers that are kept for as long as they say, and questions that are asked once for many.

use super::*;

fn endpoint(upstream: &Upstream, path: &str, backend: &str, more: &str) -> String {
    format!(
        r#"{{"endpoint": "{path}", "input_query_strings": ["q"]{more}, "backend": [{{"host": ["http://{}"], "url_pattern": "/b"
            {backend}, "extra_config": {{"qos/http-cache": {{}}}}}}]}}"#,
        upstream.address
    )
}

/// Answers with the number of the question, so that a kept answer can be told.
fn counting(fields: &'static str, slow: Duration) -> (Upstream, Arc<AtomicUsize>) {
    let asked: Arc<AtomicUsize> = Arc::default();
    let count = asked.clone();
    let upstream = Upstream::start(move |_| {
        let number = count.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(slow);
        let body = format!("{{\"n\":{number}}}");
        format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: {}\r\n\r\n{body}", body.len())
    });
    (upstream, asked)
}

#[test]
fn an_answer_is_asked_for_once_while_it_is_fresh() {
    let (upstream, asked) = counting("Cache-Control: max-age=2\r\nVary: X-Lang\r\n", Duration::ZERO);
    let root = endpoint(&upstream, "/a", "", r#", "input_headers": ["X-Lang"]"#);
    let gateway = Gateway::start(&config(&root, OURS));
    let get = |target: &str, fields: &str| {
        let answer = gateway.ask(&format!("GET {target} HTTP/1.1\r\nHost: a\r\n{fields}"), b"");
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.body
    };
    let first = get("/a", "");
    for _ in 0..5 {
        assert_eq!(get("/a", ""), first);
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    let others =
        [get("/a?q=1", ""), get("/a", "X-Lang: de\r\n"), get("/a", "X-Lang: en\r\n"), get("/a", "X-Other: 1\r\n")];
    assert_eq!((asked.load(Ordering::SeqCst), &others[3]), (4, &first), "{others:?}");
    let metrics = gateway.get("/metrics").body;
    assert!(
        metrics.contains("annulus_gateway_cached_total{shard=\"0\",endpoint=\"GET /a\",backend=\"/b\"} 6\n"),
        "{metrics}"
    );
    std::thread::sleep(Duration::from_millis(2200));
    assert_ne!(get("/a", ""), first);
    gateway.stop();
}

#[test]
fn many_who_ask_at_once_are_one_question() {
    let (upstream, asked) = counting("Cache-Control: max-age=60\r\n", Duration::from_millis(400));
    let (own, asked_own) = counting("Cache-Control: private\r\n", Duration::from_millis(100));
    let both = [endpoint(&upstream, "/a", "", ""), endpoint(&own, "/own", "", "")].join(",");
    let gateway = Gateway::start(&config(&both, OURS));
    let crowd = |path: &str, count: usize| -> Vec<String> {
        std::thread::scope(|scope| {
            let all: Vec<_> = (0..count).map(|_| scope.spawn(|| gateway.get(path).body)).collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        })
    };
    assert_eq!(crowd("/a", 20), vec![r#"{"n":0}"#; 20]);
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    // What may not be kept is everybody's own, and after the first nobody waits for another's.
    let mut bodies = [crowd("/own", 5), crowd("/own", 10)].concat();
    bodies.sort();
    bodies.dedup();
    assert_eq!((bodies.len(), asked_own.load(Ordering::SeqCst)), (15, 15));
    gateway.stop();
}

#[test]
fn who_waits_for_a_question_that_fails_asks_by_himself() {
    let asked: Arc<AtomicUsize> = Arc::default();
    let count = asked.clone();
    let upstream = Upstream::start(move |_| {
        let number = count.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(300));
        match number {
            0 => "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n".to_owned(),
            _ => Upstream::json(r#"{"ok":true}"#),
        }
    });
    let gateway = Gateway::start(&config(&endpoint(&upstream, "/a", "", ""), OURS));
    let mut statuses: Vec<u16> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..4).map(|_| scope.spawn(|| gateway.get("/a").status)).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 200, 502]);
    gateway.stop();
}

#[test]
fn what_a_token_says_is_not_answered_to_another() {
    let (private, asked) = counting("Cache-Control: max-age=60\r\n", Duration::ZERO);
    let file = guards::Written::new("cache.json", &guards::secrets());
    let validator = format!(
        r#", "input_headers": ["X-User"], "extra_config": {{"auth/validator": {{"alg": "HS256", "jwk_local_path": "{}",
            "propagate_claims": [["sub", "X-User"]]}}}}"#,
        file.0.display()
    );
    let gateway = Gateway::start(&config(&endpoint(&private, "/a", "", &validator), OURS));
    let ask = |user: &str| {
        let token = guards::signed_by_secret(&format!(r#"{{"sub":"{user}"}}"#));
        let answer = gateway.ask(&format!("GET /a HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n"), b"");
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.body
    };
    assert_ne!(ask("ann"), ask("bob"));
    assert_ne!(ask("ann"), ask("ann"), "nor kept at all: it did not say that it is for all");
    assert_eq!(asked.load(Ordering::SeqCst), 4);
    gateway.stop();
}
