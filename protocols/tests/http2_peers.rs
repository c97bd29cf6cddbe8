//! HTTP/2 against those who wrote it independently: Python's `hpack` block by block, and Python's `h2` and Rust's `h2` as
//! client and as server over loopback, with bodies of many sizes, windows and tables that change on the way, padding,
//! trailers, interim answers and resets. What is not installed is reported, not passed over.

use annulus_protocols::Input;
use annulus_protocols::http2::hpack::{Decoder, Encoder, Indexing};
use annulus_protocols::http2::{Connection, ErrorCode, Event, Head, Limits, RequestLine};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

/// A peer that is silent for so long has lost something.
const PATIENCE: Duration = Duration::from_secs(20);
const LENGTHS: [usize; 8] = [0, 1, 63, 1000, 16_384, 65_535, 65_536, 300_000];

/// The peers cut bodies into single bytes and shrink their windows to ten, which else is an attack.
const LIMITS: Limits =
    Limits { stream_window_bytes: 70_000, tiny_frames_max: 1_000_000, idle_frames_max: 1_000_000, ..Limits::DEFAULT };

fn body_of(number: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 + number * 13) as u8).collect()
}

/// One end of ours on a socket: its machine, and what it still sends.
struct End {
    machine: Connection,
    limits: Limits,
    stream: TcpStream,
    out: Vec<u8>,
    unsent: HashMap<u32, Vec<u8>>,
    /// Whether bodies end with trailers.
    trailers: bool,
}

impl End {
    fn new(machine: Connection, limits: Limits, stream: TcpStream, trailers: bool) -> End {
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_nodelay(true).expect("an option");
        let mut end = End { machine, limits, stream, out: Vec::new(), unsent: HashMap::new(), trailers };
        end.machine.write_preface(&end.limits, &mut end.out);
        end
    }

    /// Sends what the windows let through.
    fn pump(&mut self) {
        let End { machine, out, unsent, trailers, .. } = self;
        unsent.retain(|&id, body| {
            let Some(taken) = machine.write_data(0, out, id, body, !*trailers) else { return false };
            body.drain(..taken);
            if body.is_empty() && *trailers {
                assert!(machine.write_trailers(out, id, [("x-end", &b"yes"[..])]));
            }
            !body.is_empty()
        });
        machine.write_pending(out);
        match self.stream.write_all(out) {
            // The peer has all that it wanted, and does not wait for our last words.
            Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {}
            outcome => outcome.expect("the peer reads"),
        }
        out.clear();
    }

    /// What came; `None` once the peer has closed.
    fn receive(&mut self) -> Option<Vec<u8>> {
        let mut bytes = vec![0; 20_000];
        let len = match self.stream.read(&mut bytes) {
            Err(error) if error.kind() == ErrorKind::ConnectionReset => 0,
            outcome => outcome.expect("the peer goes on"),
        };
        bytes.truncate(len);
        (len > 0).then_some(bytes)
    }

    fn credits_are_back(&self) {
        let (window, credit, whole) = self.machine.connection_account();
        assert_eq!(window + i64::from(credit), i64::from(whole), "credits return to the initial window");
    }
}

/// Echoes bodies until the peer closes. How many.
fn serve_echo(stream: TcpStream) -> usize {
    let limits = LIMITS;
    let mut end = End::new(Connection::server(&limits), limits, stream, true);
    let mut bodies: HashMap<u32, (String, Vec<u8>)> = HashMap::new();
    let mut answered = 0;
    loop {
        end.pump();
        let Some(mut bytes) = end.receive() else { break };
        let mut input = Input::new(&mut bytes);
        loop {
            let complete = match end.machine.next_event(&limits, 0, &mut input).expect("the peer behaves") {
                Event::NeedMore => break,
                Event::Head { stream, head: Head::Request { authority, fields, .. }, end } => {
                    assert_eq!(authority, "a.example");
                    let cookie = fields.get(b"cookie").map(|cookie| String::from_utf8_lossy(cookie).into_owned());
                    bodies.insert(stream, (cookie.unwrap_or_default(), Vec::new()));
                    end.then_some(stream)
                }
                Event::Data { stream, bytes, end: last } => {
                    bodies.get_mut(&stream).expect("a head came first").1.extend_from_slice(bytes);
                    end.machine.release(stream, bytes.len() as u32);
                    last.then_some(stream)
                }
                Event::Trailers { stream, .. } => Some(stream),
                Event::Reset { stream, fault, .. } => {
                    assert_eq!(fault, None);
                    bodies.remove(&stream);
                    None
                }
                _ => None,
            };
            if let Some((stream, (cookie, body))) = complete.and_then(|id| Some((id, bodies.remove(&id)?))) {
                let fields = [("content-type", &b"application/octet-stream"[..]), ("x-cookie", cookie.as_bytes())];
                assert!(end.machine.write_head(&mut end.out, stream, 200, fields, false));
                end.unsent.insert(stream, body);
                answered += 1;
            }
        }
    }
    assert_eq!(end.machine.streams_open(), 0);
    end.credits_are_back();
    answered
}

/// Sends bodies to an echo and sees that they come back, whatever the windows; how many came with trailers. Each fifth
/// request asks to be refused.
fn ask_echo(stream: TcpStream) -> usize {
    let limits = LIMITS;
    let mut end = End::new(Connection::client(&limits), limits, stream, false);
    let mut waiting: Vec<(usize, usize)> = LENGTHS.into_iter().cycle().take(40).enumerate().collect();
    waiting.reverse();
    let mut asked: HashMap<u32, (usize, Vec<u8>, Vec<u8>)> = HashMap::new();
    let (mut trailers, mut refused, mut pongs) = (0, 0, 0);
    end.machine.ping(17);
    while !waiting.is_empty() || !asked.is_empty() {
        while asked.len() < 8
            && let Some((number, len)) = waiting.pop()
        {
            let path = if number % 5 == 4 { "/refuse".to_owned() } else { format!("/{number}?x=%20") };
            let line = RequestLine { method: "POST", scheme: "http", authority: "a.example", path: &path };
            let fields = [("x-number", &b"1"[..]), ("accept", b"*/*"), ("authorization", b"secret")];
            let id = end.machine.open(&mut end.out, &line, fields, false).expect("there is room");
            let body = body_of(number, len);
            end.unsent.insert(id, body.clone());
            asked.insert(id, (number, body, Vec::new()));
        }
        end.pump();
        let mut bytes = end.receive().expect("the server keeps the connection");
        let mut input = Input::new(&mut bytes);
        loop {
            let complete = match end.machine.next_event(&limits, 0, &mut input).expect("the peer behaves") {
                Event::NeedMore => break,
                Event::Head { stream, head: Head::Response { status, .. }, end } => {
                    assert_eq!(status, 200);
                    end.then_some(stream)
                }
                Event::Data { stream, bytes, end: last } => {
                    asked.get_mut(&stream).expect("it was asked for").2.extend_from_slice(bytes);
                    end.machine.release(stream, bytes.len() as u32);
                    last.then_some(stream)
                }
                Event::Trailers { stream, fields } => {
                    assert_eq!(fields.get(b"x-end"), Some(&b"yes"[..]));
                    trailers += 1;
                    Some(stream)
                }
                Event::Reset { stream, code, unprocessed, .. } => {
                    let (number, ..) = asked.remove(&stream).expect("it was asked for");
                    assert_eq!((number % 5, code, unprocessed), (4, ErrorCode::REFUSED_STREAM, true));
                    refused += 1;
                    None
                }
                Event::Pong(number) => {
                    assert_eq!(number, 17);
                    pongs += 1;
                    None
                }
                _ => None,
            };
            if let Some((number, sent, got)) = complete.and_then(|id| asked.remove(&id)) {
                assert!(sent == got, "body {number} came back otherwise");
            }
        }
    }
    assert_eq!((refused, pongs), (8, 1));
    assert_eq!(end.machine.streams_open(), 0);
    end.credits_are_back();
    end.machine.go_away(ErrorCode::NO_ERROR, "");
    end.pump();
    trailers
}

mod rust_h2 {
    use super::*;
    use bytes::Bytes;
    use h2::{Reason, RecvStream};

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
    }

    async fn read(mut body: RecvStream) -> (Vec<u8>, bool) {
        let mut bytes = Vec::new();
        while let Some(piece) = body.data().await {
            let piece = piece.expect("the body goes on");
            bytes.extend_from_slice(&piece);
            body.flow_control().release_capacity(piece.len()).expect("it was received");
        }
        let trailers = body.trailers().await.expect("the body ends");
        (bytes, trailers.is_some_and(|trailers| trailers["x-end"] == "yes"))
    }

    async fn echo(request: http::Request<RecvStream>, mut respond: h2::server::SendResponse<Bytes>) {
        if request.uri().path() == "/refuse" {
            return respond.send_reset(Reason::REFUSED_STREAM);
        }
        assert_eq!(request.headers()["authorization"], "secret");
        let (body, _) = read(request.into_body()).await;
        let mut send = respond.send_response(http::Response::new(()), false).expect("the stream is open");
        send.send_data(body.into(), false).expect("the stream is open");
        let trailers = http::HeaderMap::from_iter([(
            http::HeaderName::from_static("x-end"),
            http::HeaderValue::from_static("yes"),
        )]);
        send.send_trailers(trailers).expect("the stream is open");
    }

    #[test]
    fn our_client_and_the_servers_of_rust() {
        for (window, connection, frame) in
            [(65_535, 65_535, 16_384), (1000, 100_000, 16_384), (1 << 20, 1 << 21, 1 << 20)]
        {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
            let address = listener.local_addr().expect("an address");
            let peer = std::thread::spawn(move || {
                runtime().block_on(async move {
                    let (stream, _) = listener.accept().expect("a client");
                    stream.set_nonblocking(true).expect("an option");
                    let stream = tokio::net::TcpStream::from_std(stream).expect("a socket");
                    let mut builder = h2::server::Builder::new();
                    builder
                        .initial_window_size(window)
                        .initial_connection_window_size(connection)
                        .max_frame_size(frame);
                    let mut conn = builder.handshake::<_, Bytes>(stream).await.expect("a preface");
                    let mut tasks = Vec::new();
                    while let Some(request) = conn.accept().await {
                        let (request, respond) = request.expect("our client behaves");
                        tasks.push(tokio::spawn(echo(request, respond)));
                    }
                    for task in tasks {
                        task.await.expect("an echo");
                    }
                });
            });
            assert_eq!(ask_echo(TcpStream::connect(address).expect("the server")), 32);
            peer.join().expect("the server of Rust found nothing wrong");
        }
    }

    #[test]
    fn our_server_and_the_client_of_rust() {
        for (window, connection) in [(65_535, 65_535), (1000, 100_000), (1 << 20, 1 << 21)] {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
            let address = listener.local_addr().expect("an address");
            let ours = std::thread::spawn(move || serve_echo(listener.accept().expect("a client").0));
            runtime().block_on(async move {
                let stream = tokio::net::TcpStream::connect(address).await.expect("our server");
                let mut builder = h2::client::Builder::new();
                builder.initial_window_size(window).initial_connection_window_size(connection);
                let (client, mut conn) = builder.handshake::<_, Bytes>(stream).await.expect("a connection");
                let mut ping = conn.ping_pong().expect("nobody else pings");
                let conn = tokio::spawn(conn);
                let tasks: Vec<_> = (0..40)
                    .map(|number| tokio::spawn(ask(client.clone(), number, LENGTHS[number % LENGTHS.len()])))
                    .collect();
                ping.ping(h2::Ping::opaque()).await.expect("a pong");
                for task in tasks {
                    task.await.expect("an echo");
                }
                drop((client, ping));
                conn.await.expect("no panic").expect("our server behaves");
            });
            let answered = ours.join().expect("our server found nothing wrong");
            assert!(answered >= 32, "{answered}");
        }
    }

    /// Every fifth is given up at once.
    async fn ask(client: h2::client::SendRequest<Bytes>, number: usize, len: usize) {
        let mut client = client.ready().await.expect("room for a stream");
        let request = http::Request::post(format!("http://a.example/{number}")).body(()).expect("a request");
        let (answer, mut send) = client.send_request(request, false).expect("a stream");
        let body = body_of(number, len);
        if number % 5 == 4 {
            return send.send_reset(Reason::CANCEL);
        }
        send.send_data(body.clone().into(), true).expect("the stream is open");
        let answer = answer.await.expect("an answer");
        assert_eq!(answer.status(), 200);
        let (got, trailers) = read(answer.into_body()).await;
        assert!(got == body && trailers, "body {number} came back otherwise");
    }
}

mod python {
    use super::*;

    fn scripts() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers")
    }

    /// Starts a script; `None`, and said so, where its packages are not installed.
    fn start(script: &str, arguments: &[&str]) -> Option<(Child, ChildStdin, BufReader<ChildStdout>)> {
        if !scripts().join(".venv/.ready").exists() {
            not_run("hpack and h2 (PyPI)", "make setup-test could not install them");
            return None;
        }
        let mut child = Command::new(scripts().join(".venv/bin/python"))
            .arg(script)
            .args(arguments)
            .current_dir(scripts())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Python");
        let (input, output) = (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
        Some((child, input, BufReader::new(output)))
    }

    fn line(output: &mut BufReader<ChildStdout>) -> String {
        let mut text = String::new();
        output.read_line(&mut text).expect("a line");
        text.trim().to_owned()
    }

    #[test]
    fn our_client_and_the_server_of_python() {
        let Some((mut child, _input, mut output)) = start("h2_peer.py", &["server"]) else { return };
        let port: u16 = line(&mut output).parse().expect("a port");
        assert_eq!(ask_echo(TcpStream::connect(("127.0.0.1", port)).expect("the server")), 32);
        assert!(child.wait().expect("its end").success(), "the server of Python found something wrong");
    }

    #[test]
    fn our_server_and_the_client_of_python() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port().to_string();
        let Some((mut child, _input, mut output)) = start("h2_peer.py", &["client", &port]) else { return };
        assert_eq!(serve_echo(listener.accept().expect("a client").0), 32);
        assert_eq!(line(&mut output), "ok");
        assert!(child.wait().expect("its end").success(), "the client of Python found something wrong");
    }

    /// A small deterministic generator (xorshift).
    struct Random(u64);

    impl Random {
        fn below(&mut self, most: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 % most.max(1) as u64) as usize
        }

        fn text(&mut self, most: usize) -> Vec<u8> {
            let kind = self.below(4);
            let len = self.below(most);
            (0..len)
                .map(|_| match kind {
                    0 => b"aeiost0123"[self.below(10)],
                    1 => 33 + self.below(94) as u8,
                    _ => self.below(256) as u8,
                })
                .collect()
        }

        /// Names and values of which many come again, some large, some secret.
        fn fields(&mut self) -> Vec<(Vec<u8>, Vec<u8>, Indexing)> {
            const NAMES: [&str; 10] =
                [":method", ":path", ":status", "accept", "cookie", "x-a", "x-b", "x-long-name-of-a-field", "via", "x"];
            const VALUES: [&str; 6] = ["GET", "/", "200", "", "gzip, deflate", "the same value again and again"];
            (0..self.below(20))
                .map(|_| {
                    let name = if self.below(8) == 0 {
                        [&b"y"[..], &self.text(60)].concat()
                    } else {
                        NAMES[self.below(10)].into()
                    };
                    let value = match self.below(3) {
                        0 => VALUES[self.below(6)].into(),
                        1 => format!("value-{}", self.below(30)).into_bytes(),
                        _ => {
                            let most = if self.below(10) == 0 { 5000 } else { 100 };
                            self.text(most)
                        }
                    };
                    let indexing =
                        [Indexing::Index, Indexing::Literal, Indexing::Never, Indexing::Index][self.below(4)];
                    (name, value, indexing)
                })
                .collect()
        }
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn bytes(hex: &str) -> Vec<u8> {
        let digit = |byte: u8| (byte as char).to_digit(16).expect("a hexadecimal digit") as u8;
        hex.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
    }

    #[test]
    fn blocks_of_either_side_mean_the_same_to_both() {
        let Some((mut child, mut input, mut output)) = start("hpack_peer.py", &[]) else { return };
        let mut ask = |question: serde_json::Value| -> serde_json::Value {
            writeln!(input, "{question}").expect("the script reads");
            serde_json::from_str(&line(&mut output)).expect("an answer")
        };
        let (mut encoder, mut decoder, mut random) = (Encoder::default(), Decoder::default(), Random(7541));
        let mut table = 4096;
        for round in 0..3000 {
            if random.below(20) == 0 {
                // More than one change between two blocks: the smallest must be told, too.
                for _ in 0..1 + random.below(3) {
                    table = [0, 31, 60, 200, 1000, 4095, 4096, 65_536][random.below(8)];
                    encoder.set_peer_max(table);
                }
            }
            let fields = random.fields();
            let mut block = Vec::new();
            encoder.begin(&mut block);
            for (name, value, indexing) in &fields {
                encoder.field(&mut block, name, value, *indexing);
            }
            let answer = ask(serde_json::json!({"decode": hex(&block), "table": table}));
            let sent: Vec<_> = fields.iter().map(|(name, value, _)| (name.clone(), value.clone())).collect();
            let pair = |pair: &serde_json::Value| {
                let text = |at: usize| bytes(pair[at].as_str().expect("a text"));
                (text(0), text(1))
            };
            let theirs: Vec<_> = answer["fields"].as_array().expect("fields").iter().map(pair).collect();
            assert!(theirs == sent, "round {round}: {block:x?} means {theirs:x?} to them, not {sent:x?}");

            let list: Vec<_> = fields
                .iter()
                .map(|(name, value, indexing)| (hex(name), hex(value), *indexing == Indexing::Never))
                .collect();
            let size = table.min(4096);
            let answer = ask(serde_json::json!({"encode": list, "huffman": random.below(4) > 0, "table": size}));
            let block = bytes(answer["block"].as_str().expect("a block"));
            let ours = decoder.decode(&block, 1 << 20, 100).expect("their block is valid");
            let ours: Vec<_> = ours.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
            assert!(ours == sent, "round {round}: {block:x?} means {ours:x?} to us, not {sent:x?}");
        }
        drop(input);
        assert!(child.wait().expect("its end").success());
    }
}

fn not_run(group: &str, why: &str) {
    eprintln!("NOT RUN: {group}: {why}");
    if let Some(path) = std::env::var_os("ANNULUS_NOT_RUN") {
        let mut file = std::fs::File::options().append(true).create(true).open(path).expect("the list of groups");
        writeln!(file, "{group}: {why}").expect("the list of groups");
    }
}
