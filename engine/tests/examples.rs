//! The examples do what they say, on two shards, to clients that use the system's sockets.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.
#![allow(clippy::duplicate_mod)] // Every example brings along what they share.

#[path = "../examples/echo.rs"]
mod echo;
#[path = "../examples/factors.rs"]
mod factors;
#[path = "../examples/memcached/main.rs"]
mod memcached;
#[path = "../examples/room.rs"]
mod room;
#[path = "../examples/tls_get.rs"]
mod tls_get;

use std::future::Future;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use annulus_engine::tls::TlsStream;
use annulus_engine::tls::rustls::ServerConfig;
use annulus_engine::tls::rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use annulus_engine::{Address, Engine, ListenOptions, Listener, Shard};

const SHARDS: usize = 2;

/// Serves while the client does something, then drains.
fn with<F: Future<Output = ()> + 'static>(serve: fn(Shard, Listener) -> F, client: impl FnOnce(SocketAddr)) {
    let (listening, listens) = mpsc::sync_channel(SHARDS);
    let main = move |shard: Shard| {
        let anywhere = Address::Ip(([127, 0, 0, 1], 0).into());
        let listener = shard.listen(&anywhere, &ListenOptions::default()).unwrap();
        listening.send(listener.address().clone()).unwrap();
        serve(shard, listener)
    };
    let running = Engine::builder().shards(SHARDS).oversubscribed().compute(1).start(main).unwrap();
    let mut addresses: Vec<_> = (0..SHARDS).map(|_| listens.recv().unwrap()).collect();
    addresses.dedup();
    let [Address::Ip(address)] = addresses[..] else { panic!("{addresses:?}") };
    client(address);
    running.engine().drain();
    running.wait().unwrap();
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

/// Says all of it, ends its half, and hears the other's.
fn ask(address: SocketAddr, text: &[u8]) -> String {
    let mut stream = connect(address);
    stream.write_all(text).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).unwrap();
    String::from_utf8(heard).unwrap()
}

#[test]
fn an_echo_is_what_was_said() {
    with(echo::serve, |address| {
        let said: String = (0..20_000).map(|number| format!("{number} ")).collect();
        assert_eq!(ask(address, said.as_bytes()), said);
    });
}

/// The next line that is no `me`: those of other shards' members come when they come.
fn news(member: &mut BufReader<TcpStream>) -> String {
    member.lines().map(Result::unwrap).find(|line| line != "me").unwrap()
}

#[test]
fn a_line_is_heard_by_all_whatever_their_shard() {
    with(room::serve, |address| {
        let mut members: Vec<_> = (0..16).map(|_| BufReader::new(connect(address))).collect();
        // Who has heard itself is in.
        for member in &mut members {
            member.get_mut().write_all(b"me\n").unwrap();
            let mut line = String::new();
            member.read_line(&mut line).unwrap();
            assert_eq!(line, "me\n");
        }
        for part in ["hel", "lo\nand aga", "in\n"] {
            members[3].get_mut().write_all(part.as_bytes()).unwrap();
        }
        for member in &mut members {
            assert_eq!([news(member), news(member)], ["hello", "and again"]);
        }
        // A line without an end ends who writes it, and nobody else. It may be gone before it has said all.
        let _cut_off = members[5].get_mut().write_all(&[b'x'; room::LINE_BYTES_MAX + 1]);
        let mut rest = Vec::new();
        let _reset_or_ended = members[5].read_to_end(&mut rest);
        members[4].get_mut().write_all(b"still here\n").unwrap();
        assert_eq!(news(&mut members[6]), "still here");
    });
}

#[test]
fn factors_come_in_the_order_of_the_questions() {
    with(factors::serve, |address| {
        let questions = "1000000016000000063\n12\n1\n0\nnone\n18446744073709551616\n97\n";
        let answers = "1000000016000000063 = 1000000007 1000000009\n12 = 2 2 3\n1 = 1\n0 = 0\n\
            \"none\" is no number from 0 to 18446744073709551615\n\
            \"18446744073709551616\" is no number from 0 to 18446744073709551615\n97 = 97\n";
        assert_eq!(ask(address, questions.as_bytes()), answers);
        let many: String = (2..200).map(|number| format!("{number}\n")).collect();
        let heard = ask(address, many.as_bytes());
        let order: Vec<u64> = heard.lines().map(|line| line.split(' ').next().unwrap().parse().unwrap()).collect();
        assert_eq!(order, (2..200).collect::<Vec<u64>>());
        assert!(heard.contains("\n198 = 2 3 3 11\n"));
        assert!(ask(address, &[b'1'; factors::LINE_BYTES_MAX + 1]).contains("at most 20 digits"));
    });
}

/// Serves one page over TLS, to `localhost`.
async fn secure(shard: Shard, listener: Listener) {
    let chain = CertificateDer::pem_slice_iter(include_bytes!("tls/server.pem")).collect::<Result<_, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("tls/server.key")).unwrap();
    let config = Arc::new(ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap());
    while let Some(stream) = shard.until_drained(listener.accept()).await {
        // A client that does not believe us leaves in the middle of it.
        let Ok(mut tls) = TlsStream::accept(stream, config.clone()).await else { continue };
        let request = tls.recv().await.unwrap().unwrap();
        assert!(request.starts_with(b"GET /page HTTP/1.1\r\nHost: localhost\r\n"), "{request:?}");
        tls.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello").await.unwrap();
        tls.finish().await.unwrap();
    }
}

#[test]
fn a_page_is_got_over_tls_from_who_proves_its_name() {
    with(secure, |address| {
        let get = move |server: String, trusted: &'static str| {
            let trusted = Path::new(env!("CARGO_MANIFEST_DIR")).join(trusted);
            let main = move |shard: Shard| {
                let (server, trusted) = (server.clone(), trusted.clone());
                async move { tls_get::get(&shard, &server, "/page", &trusted).await }
            };
            Engine::builder().shards(1).oversubscribed().compute(1).run(main).unwrap().remove(0)
        };
        let local = format!("localhost:{}", address.port());
        let answer = get(local.clone(), "tests/tls/ca.pem").unwrap();
        assert!(answer.ends_with(b"\r\n\r\nhello"), "{answer:?}");
        let refused = get(local.clone(), "tests/tls/server.pem").unwrap_err();
        assert!(refused.contains("certificate"), "{refused}");
        let refused = get(local.clone(), "tests/tls/server.key").unwrap_err();
        assert!(refused.contains("no usable authority"), "{refused}");
        let refused = get("localhost".to_owned(), "tests/tls/ca.pem").unwrap_err();
        assert_eq!(refused, "localhost: expected a name and a port");
    });
}

#[test]
fn a_cache_speaks_memcached() {
    with(memcached::serve, |address| {
        for (said, heard) in [
            ("set a 7 0 5\r\nhello\r\nget a\r\n", "STORED\r\nVALUE a 7 5\r\nhello\r\nEND\r\n"),
            ("get a nothing\r\n", "VALUE a 7 5\r\nhello\r\nEND\r\n"),
            ("set empty 0 0 0\r\n\r\nget empty\r\n", "STORED\r\nVALUE empty 0 0\r\n\r\nEND\r\n"),
            ("set crlf 0 0 4\r\n\r\n\r\n\r\nget crlf\r\n", "STORED\r\nVALUE crlf 0 4\r\n\r\n\r\n\r\nEND\r\n"),
            ("add a 0 0 1\r\nx\r\nadd b 0 0 1\r\nx\r\n", "NOT_STORED\r\nSTORED\r\n"),
            ("replace none 0 0 1\r\nx\r\nreplace b 0 0 1\r\ny\r\n", "NOT_STORED\r\nSTORED\r\n"),
            ("set quiet 0 0 1 noreply\r\nx\r\ndelete quiet noreply\r\nget quiet\r\n", "END\r\n"),
            ("set n 0 0 2\r\n10\r\nincr n 5\r\ndecr n 20\r\n", "STORED\r\n15\r\n0\r\n"),
            ("incr none 1\r\nincr n x\r\n", "NOT_FOUND\r\nCLIENT_ERROR invalid numeric delta argument\r\n"),
            ("incr a 1\r\n", "CLIENT_ERROR cannot increment or decrement non-numeric value\r\n"),
            ("touch a 100\r\ntouch none 100\r\n", "TOUCHED\r\nNOT_FOUND\r\n"),
            ("set gone 0 -1 1\r\nx\r\nget gone\r\n", "STORED\r\nEND\r\n"),
            ("delete a\r\ndelete a\r\nget a\r\n", "DELETED\r\nNOT_FOUND\r\nEND\r\n"),
            ("nonsense\r\nget\r\n\r\n", "ERROR\r\nERROR\r\nERROR\r\n"),
            ("set k 0 0 3\r\ntoo long\r\n", "CLIENT_ERROR bad data chunk\r\n"),
            ("set k 0 0 x\r\n", "CLIENT_ERROR bad data chunk\r\n"),
            ("set k x 0 1\r\nv\r\nversion\r\n", "CLIENT_ERROR bad command line format\r\nVERSION annulus "),
            ("set k 0 0 2000000\r\n", "SERVER_ERROR object too large for cache\r\n"),
            ("verbosity 1\r\nquit\r\nget b\r\n", "OK\r\n"),
            ("flush_all\r\nget b n\r\n", "OK\r\nEND\r\n"),
        ] {
            let answer = ask(address, said.as_bytes());
            assert!(answer == heard || heard.ends_with("annulus ") && answer.starts_with(heard), "{said}: {answer}");
        }
        assert!(ask(address, &vec![b'x'; memcached::LINE_BYTES_MAX]).starts_with("CLIENT_ERROR line too long"));
        let long = format!("get {}\r\n", "k".repeat(memcached::KEY_BYTES_MAX + 1));
        assert_eq!(ask(address, long.as_bytes()), "CLIENT_ERROR bad command line format\r\n");

        // The number of `gets` is what `cas` goes by.
        let text = ask(address, b"set a 0 0 1\r\nx\r\ngets a\r\n");
        let unique = text.lines().nth(1).unwrap().split(' ').nth(4).unwrap().to_owned();
        let swap = |value| ask(address, format!("cas a 0 0 1 {unique}\r\n{value}\r\n").as_bytes());
        assert_eq!([swap("y"), swap("z")], ["STORED\r\n", "EXISTS\r\n"]);
        assert_eq!(ask(address, b"cas none 0 0 1 1\r\nx\r\n"), "NOT_FOUND\r\n");

        // Byte by byte, and a thousand keys on both shards at once.
        let mut stream = connect(address);
        stream.set_nodelay(true).unwrap();
        for byte in b"set slow 0 0 4\r\nword\r\nget slow\r\nquit\r\n" {
            stream.write_all(&[*byte]).unwrap();
        }
        let mut heard = String::new();
        stream.read_to_string(&mut heard).unwrap();
        assert_eq!(heard, "STORED\r\nVALUE slow 0 4\r\nword\r\nEND\r\n");
        let store: String = (0..1000).map(|number| format!("set k{number} 0 0 4\r\n{number:04}\r\n")).collect();
        assert_eq!(ask(address, store.as_bytes()), "STORED\r\n".repeat(1000));
        let keys: String = (0..1000).map(|number| format!(" k{number}")).collect();
        let values: String = (0..1000).map(|number| format!("VALUE k{number} 0 4\r\n{number:04}\r\n")).collect();
        assert_eq!(ask(address, format!("get{keys}\r\n").as_bytes()), values + "END\r\n");
    });
}
