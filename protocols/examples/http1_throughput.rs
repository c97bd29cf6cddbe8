//! How fast HTTP/1 heads are read and written without any I/O: nanoseconds per request and per answer. Absolute numbers
//! mean little on a shared machine; compare two builds in one run.
//!
//! ```text
//! cargo run --release -p annulus-protocols --example http1_throughput
//! ```

use annulus_protocols::Input;
use annulus_protocols::http1::{BodyLength, Event, Limits, Server, write_response_head};
use std::hint::black_box;
use std::time::Instant;

const SMALL: &str = "GET /plaintext HTTP/1.1\r\nHost: localhost:8080\r\nAccept: */*\r\n\r\n";
const BROWSER: &str = "GET /static/page.html?v=3 HTTP/1.1\r\nHost: www.example.com\r\nConnection: keep-alive\r\n\
    Cache-Control: max-age=0\r\nUpgrade-Insecure-Requests: 1\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0 Safari/537.36\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n\
    Accept-Encoding: gzip, deflate, br\r\nAccept-Language: en-GB,en;q=0.9\r\n\
    Cookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\n\r\n";
const CHUNKED: &str = "POST /api/publish HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n\
    21\r\n{\"channel\":\"news\",\"data\":{\"a\":1}}\r\n0\r\n\r\n";

fn main() {
    for (name, request) in [("small", SMALL), ("browser", BROWSER), ("chunked post", CHUNKED)] {
        let per_buffer = (64 << 10) / request.len();
        let mut wire = request.repeat(per_buffer).into_bytes();
        let rounds = 100;
        let (mut outbox, mut requests) = (Vec::new(), 0);
        let started = Instant::now();
        for _ in 0..rounds {
            outbox.clear();
            requests += serve(black_box(&mut wire), &mut outbox);
        }
        let ns = started.elapsed().as_nanos() as f64 / requests as f64;
        assert_eq!(requests, rounds * per_buffer);
        println!("{name:>14}: {ns:>7.1} ns for a request of {} bytes and its answer", request.len());
    }
}

/// Answers every request on the wire.
fn serve(wire: &mut [u8], outbox: &mut Vec<u8>) -> usize {
    let (mut server, mut input, mut exchange, mut answers) = (Server::new(), Input::new(wire), None, 0);
    loop {
        match server.next_event(&Limits::DEFAULT, 0, &mut input).expect("good requests") {
            Event::NeedMore => return answers,
            Event::Head(head) => exchange = Some(head.exchange()),
            Event::End => {
                let exchange = exchange.take().expect("a head came before");
                let fields = [("content-type", "text/plain")];
                let mut body = write_response_head(outbox, &exchange, 200, &fields, BodyLength::Known(2));
                body.write_data(outbox, b"ok");
                assert!(!body.write_end(outbox));
                answers += 1;
            }
            Event::Body(_) | Event::Trailers(_) => {}
        }
    }
}
