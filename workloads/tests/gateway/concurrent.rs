//! The same question several times at once, as `concurrent_calls` says. Each request is made until it was: a gateway that has
//! too much to do asks once.

use super::*;
use std::collections::HashMap;
use std::sync::Mutex;

fn shop(upstream: &Upstream, method: &str) -> Gateway {
    let endpoint = format!(
        r#"{{"endpoint": "/a", "timeout": "3s", "concurrent_calls": 3, "backend": [{{"host": ["http://{}"], "url_pattern": "/b",
            "method": "{method}"}}]}}"#,
        upstream.address
    );
    Gateway::start(&config(&endpoint, OURS))
}

/// What each request was asked for, by its id.
type Calls = Arc<Mutex<HashMap<String, usize>>>;

/// Answers the first, second and third call of each request.
fn answering(answers: [String; 3]) -> (Upstream, Calls) {
    let calls = Calls::default();
    let shared = calls.clone();
    let upstream = Upstream::start(move |head| {
        let head = head.to_lowercase();
        let id = head.lines().find_map(|line| line.strip_prefix("x-request-id: ")).unwrap();
        let mut calls = shared.lock().unwrap();
        let call = calls.entry(id.to_owned()).or_default();
        *call += 1;
        answers[*call - 1].clone()
    });
    (upstream, calls)
}

fn most(calls: &Calls) -> usize {
    calls.lock().unwrap().values().copied().max().unwrap_or(0)
}

fn failure() -> String {
    "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n".to_owned()
}

#[test]
fn the_first_good_answer_counts_and_the_other_calls_are_given_up() {
    let good = r#"{"ok":true}"#;
    // The first call is never answered, and the second fails.
    let (upstream, calls) = answering([String::new(), failure(), Upstream::json(good)]);
    let gateway = shop(&upstream, "GET");
    eventually("the third call is answered", || {
        let answer = gateway.get("/a");
        answer.status == 200 && answer.body == good
    });
    assert_eq!(most(&calls), 3);
    // The one without an answer as well.
    eventually("no call is under way", || gateway.get("/__stats").body.contains(r#""in_flight":0,"limit":"#));
    let metrics = gateway.get("/metrics").body;
    let name = "annulus_gateway_concurrent_calls_total{shard=\"0\",endpoint=\"GET /a\",backend=\"/b\"} ";
    let counted = metrics.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    assert!(counted.parse::<usize>().unwrap() >= 2, "{counted}");
    gateway.stop();
}

#[test]
fn where_none_is_good_the_request_fails() {
    let (upstream, calls) = answering([failure(), failure(), failure()]);
    let gateway = shop(&upstream, "GET");
    eventually("one is asked three times", || {
        assert_eq!(gateway.get_until_served("/a").status, 502);
        most(&calls) == 3
    });
    gateway.stop();
}

#[test]
fn what_changes_something_is_asked_once() {
    let (upstream, calls) = answering([(); 3].map(|()| Upstream::json("{}")));
    for method in ["POST", "PUT", "DELETE"] {
        let gateway = shop(&upstream, method);
        assert_eq!(gateway.get_until_served("/a").status, 200);
        gateway.stop();
    }
    assert_eq!((most(&calls), calls.lock().unwrap().len()), (1, 3));
}
