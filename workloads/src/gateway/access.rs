//! The access log: a line per request, written by a thread of its own. A shard only appends to a buffer; when the reader
//! of the log is too slow, lines are left out and counted, and no request waits.
//!
//! ```text
//! 2026-01-31T12:00:00.123Z 203.0.113.9 GET /product/7 200 1532 4810us 4ebc1d06f0a8e0f7df421229ecb60d95
//! time                     client      method path    status bytes taken  request id
//! ```
//!
//! ```json
//! {"time":"2026-01-31T12:00:00.123Z","client":"203.0.113.9","method":"GET","path":"/product/7","id":"4ebc","status":200,"bytes":1532,"us":4810}
//! ```
//!
//! Queries are left out: they may hold tokens. What could not be read as a request has `-` for what is not known, and at the
//! end why, in quotes; as JSON it lacks what is not known, and has `why`. Or a line is as a pattern says.
//!
//! Invariant: nothing that a client says ends a line, or what stands in quotes.

use std::cell::RefCell;
use std::io::Write;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use annulus_engine::Shard;
use annulus_engine::metrics::Counter;
use annulus_protocols::json::write_string;

use super::config::model::{AccessFormat, AccessPiece, AccessVariable};
use super::request::Request;

/// Bytes that a shard gathers before it hands them over; what is there is handed over once a second in any case.
const GATHER_BYTES: usize = 16 << 10;
/// Buffers that wait for the thread. Beyond, they are dropped.
const WAITING_MAX: usize = 256;
/// How long its reader is waited for at the end.
const FINISH_MAX: Duration = Duration::from_secs(5);

/// The thread's end.
#[derive(Clone)]
pub struct Writer {
    buffers: SyncSender<Vec<u8>>,
    /// Buffers that were handed over and are not written yet.
    waiting: Arc<AtomicUsize>,
}

impl Writer {
    /// Starts the thread, which writes to standard output.
    ///
    /// # Errors
    /// It cannot start.
    pub fn start() -> std::io::Result<Writer> {
        let (buffers, arriving) = sync_channel::<Vec<u8>>(WAITING_MAX);
        let waiting = Arc::<AtomicUsize>::default();
        let written = waiting.clone();
        std::thread::Builder::new().name("access-log".into()).spawn(move || {
            for buffer in arriving {
                // A closed standard output ends nothing: the gateway goes on without its log.
                let _nobody_listens = std::io::stdout().write_all(&buffer);
                written.fetch_sub(1, Ordering::Release);
            }
        })?;
        Ok(Writer { buffers, waiting })
    }
}

/// A shard's end.
pub struct AccessLog {
    writer: Writer,
    format: AccessFormat,
    gathered: RefCell<Vec<u8>>,
    dropped: Arc<Counter>,
}

/// A request that was answered.
pub struct Line<'a> {
    /// Who asked.
    pub client: IpAddr,
    /// The method.
    pub method: &'a str,
    /// The path, as sent.
    pub path: &'a str,
    /// All of the request, where it could be read.
    pub request: Option<&'a Request>,
    /// The endpoint that answered.
    pub endpoint: Option<&'a str>,
    /// The answer's status.
    pub status: u16,
    /// The answer's body in bytes; `None` where it is passed on as it comes.
    pub bytes: Option<usize>,
    /// From the head to the answer.
    pub took: Duration,
    /// Its request id.
    pub id: &'a str,
    /// Why it could not be read.
    pub why: Option<&'a str>,
}

impl AccessLog {
    /// A shard's, which counts what it had to leave out.
    pub fn new(writer: Writer, dropped: Arc<Counter>) -> AccessLog {
        AccessLog { writer, format: AccessFormat::Text, gathered: RefCell::default(), dropped }
    }

    /// The same in another format.
    pub fn written_as(self, format: AccessFormat) -> AccessLog {
        AccessLog { format, ..self }
    }

    /// Adds a line.
    pub fn add(&self, line: &Line<'_>) {
        let mut gathered = self.gathered.borrow_mut();
        match &self.format {
            AccessFormat::Text => line.write_text(&mut gathered),
            AccessFormat::Json => line.write_json(&mut gathered),
            AccessFormat::Pattern(pattern) => line.write_pattern(&pattern.pieces, &mut gathered),
        }
        if gathered.len() >= GATHER_BYTES {
            drop(gathered);
            self.flush();
        }
    }

    /// Adds a line of other content.
    pub fn note(&self, text: &str) {
        let mut gathered = self.gathered.borrow_mut();
        write_time(&mut gathered, since_epoch());
        gathered.push(b' ');
        gathered.extend_from_slice(text.as_bytes());
        gathered.push(b'\n');
        if gathered.len() >= GATHER_BYTES {
            drop(gathered);
            self.flush();
        }
    }

    /// Hands over what is gathered.
    pub fn flush(&self) {
        let gathered = std::mem::take(&mut *self.gathered.borrow_mut());
        if gathered.is_empty() {
            return;
        }
        let lines = gathered.iter().filter(|&&byte| byte == b'\n').count() as u64;
        self.writer.waiting.fetch_add(1, Ordering::Relaxed);
        if self.writer.buffers.try_send(gathered).is_err() {
            self.writer.waiting.fetch_sub(1, Ordering::Relaxed);
            self.dropped.add(lines);
        }
    }

    /// Hands over what is gathered and waits until all is written, if its reader takes it in time: the thread ends with its
    /// process, whatever it has before it.
    pub async fn finish(&self, shard: &Shard) {
        self.flush();
        let until = shard.now() + FINISH_MAX;
        while self.writer.waiting.load(Ordering::Acquire) > 0 && shard.now() < until {
            shard.sleep(Duration::from_millis(1)).await;
        }
    }
}

impl Line<'_> {
    /// A line about somebody whose request was not read.
    pub fn unread(client: IpAddr) -> Line<'static> {
        Line {
            client,
            method: "-",
            path: "-",
            request: None,
            endpoint: None,
            status: 0,
            bytes: None,
            took: Duration::ZERO,
            id: "",
            why: None,
        }
    }

    fn write_text(&self, out: &mut Vec<u8>) {
        write_time(out, since_epoch());
        let Line { client, method, path, status, took, id, .. } = self;
        let bytes = self.bytes.map_or_else(|| "-".to_owned(), |bytes| bytes.to_string());
        let id = if id.is_empty() { "-" } else { id };
        let why = self.why.map_or_else(String::new, |why| format!(" {why:?}"));
        let written = writeln!(out, " {client} {method} {path} {status} {bytes} {}us {id}{why}", took.as_micros());
        written.expect("writing to memory does not fail");
    }

    fn write_pattern(&self, pieces: &[AccessPiece], out: &mut Vec<u8>) {
        for piece in pieces {
            match piece {
                AccessPiece::Literal(text) => out.extend_from_slice(text.as_bytes()),
                AccessPiece::Variable(variable) => self.write_variable(*variable, out),
                AccessPiece::Header(name) => {
                    let value = self.request.and_then(|request| request.fields.get(name));
                    write_escaped(out, value.unwrap_or_default());
                }
            }
        }
        out.push(b'\n');
    }

    fn write_variable(&self, variable: AccessVariable, out: &mut Vec<u8>) {
        let text = match variable {
            AccessVariable::Time => return write_time(out, since_epoch()),
            AccessVariable::TimeApache => return write_apache_time(out, since_epoch()),
            AccessVariable::TimeMillis => since_epoch().as_millis().to_string(),
            AccessVariable::Client => self.client.to_string(),
            AccessVariable::Peer => self.request.map_or(self.client, |request| request.peer).to_string(),
            AccessVariable::Status => self.status.to_string(),
            AccessVariable::Bytes => self.bytes.map_or_else(String::new, |bytes| bytes.to_string()),
            AccessVariable::Micros => self.took.as_micros().to_string(),
            AccessVariable::Seconds => format!("{}.{:06}", self.took.as_secs(), self.took.subsec_micros()),
            AccessVariable::Method => return write_escaped(out, self.method.as_bytes()),
            AccessVariable::Path => return write_escaped(out, self.path.as_bytes()),
            AccessVariable::Id => return write_escaped(out, self.id.as_bytes()),
            AccessVariable::Protocol => {
                return write_escaped(out, self.request.map_or("", |request| request.protocol).as_bytes());
            }
            AccessVariable::Host => {
                return write_escaped(out, self.request.map_or("", |request| &request.authority).as_bytes());
            }
            AccessVariable::Endpoint => return write_escaped(out, self.endpoint.unwrap_or_default().as_bytes()),
            AccessVariable::Why => return write_escaped(out, self.why.unwrap_or_default().as_bytes()),
        };
        write_escaped(out, text.as_bytes());
    }

    fn write_json(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"time\":\"");
        write_time(out, since_epoch());
        let written = write!(out, "\",\"client\":\"{}\"", self.client);
        written.expect("writing to memory does not fail");
        let known = |text: &str| !matches!(text, "" | "-");
        for (name, text) in
            [("method", self.method), ("path", self.path), ("id", self.id), ("why", self.why.unwrap_or_default())]
        {
            if known(text) {
                out.extend_from_slice(format!(",\"{name}\":").as_bytes());
                write_string(out, text);
            }
        }
        let bytes = self.bytes.map_or_else(String::new, |bytes| format!(",\"bytes\":{bytes}"));
        let written = writeln!(out, ",\"status\":{}{bytes},\"us\":{}}}", self.status, self.took.as_micros());
        written.expect("writing to memory does not fail");
    }
}

/// Appends what somebody else has said: quotes, backslashes and whatever is no printable ASCII as Apache escapes them; a
/// hyphen for nothing.
fn write_escaped(out: &mut Vec<u8>, text: &[u8]) {
    if text.is_empty() {
        out.push(b'-');
    }
    for &byte in text {
        match byte {
            b'"' | b'\\' => out.extend([b'\\', byte]),
            b' '..=b'~' => out.push(byte),
            _ => out.extend_from_slice(format!("\\x{byte:02x}").as_bytes()),
        }
    }
}

fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Year, month and day of a day since 1970-01-01.
fn date(days: u64) -> (u64, u64, u64) {
    // Days since 0000-03-01, in eras of 400 years, so that leap days come last.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_shifted + 2) / 5 + 1;
    let month = if month_shifted < 10 { month_shifted + 3 } else { month_shifted - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

/// Appends a time as RFC 3339 has it, in UTC with milliseconds.
fn write_time(out: &mut Vec<u8>, since_epoch: Duration) {
    let (days, seconds) = (since_epoch.as_secs() / 86_400, since_epoch.as_secs() % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let written = write!(
        out,
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z",
        since_epoch.subsec_millis()
    );
    written.expect("writing to memory does not fail");
}

/// Appends a time as Apache has it, in UTC, without the brackets.
fn write_apache_time(out: &mut Vec<u8>, since_epoch: Duration) {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (days, seconds) = (since_epoch.as_secs() / 86_400, since_epoch.as_secs() % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let month = MONTHS[month as usize - 1];
    let written = write!(out, "{day:02}/{month}/{year:04}:{hour:02}:{minute:02}:{second:02} +0000");
    written.expect("writing to memory does not fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_calendar_times() {
        let text = |seconds: u64| {
            let mut out = Vec::new();
            write_time(&mut out, Duration::from_secs(seconds) + Duration::from_millis(7));
            String::from_utf8(out).unwrap()
        };
        assert_eq!(text(0), "1970-01-01T00:00:00.007Z");
        assert_eq!(text(951_782_400), "2000-02-29T00:00:00.007Z");
        assert_eq!(text(1_709_251_199), "2024-02-29T23:59:59.007Z");
        assert_eq!(text(4_102_444_800), "2100-01-01T00:00:00.007Z");
    }

    #[test]
    fn a_line_names_everything_once() {
        let (buffers, arriving) = sync_channel(1);
        let log = AccessLog::new(Writer { buffers, waiting: Arc::default() }, Arc::default());
        let client = "203.0.113.9".parse().unwrap();
        let took = Duration::from_micros(4810);
        let line = Line {
            client,
            method: "GET",
            path: "/a",
            request: None,
            endpoint: None,
            status: 200,
            bytes: Some(5),
            took,
            id: "x",
            why: None,
        };
        log.add(&line);
        log.flush();
        let text = String::from_utf8(arriving.recv().unwrap()).unwrap();
        assert!(text.ends_with("Z 203.0.113.9 GET /a 200 5 4810us x\n"), "{text}");
        log.add(&Line { method: "-", path: "-", status: 400, bytes: None, id: "", why: Some("no \"host\""), ..line });
        log.flush();
        let text = String::from_utf8(arriving.recv().unwrap()).unwrap();
        assert!(text.ends_with("Z 203.0.113.9 - - 400 - 4810us - \"no \\\"host\\\"\"\n"), "{text}");
        // A reader that does not read costs lines, not time.
        (0..3).for_each(|_| {
            log.add(&line);
            log.flush();
        });
        assert_eq!(log.dropped.get(), 2);
        assert_eq!(log.writer.waiting.load(Ordering::Relaxed), 3, "nobody has written");
    }

    #[test]
    fn a_pattern_is_filled_and_nothing_breaks_out_of_it() {
        use AccessVariable::{Bytes, Endpoint, Id, Method, Micros, Path, Protocol, Seconds, Status, Why};
        let mut pieces = vec![AccessPiece::Literal("<".into())];
        for variable in [Method, Path, Protocol, Status, Bytes, Micros, Seconds, Endpoint, Id, Why] {
            pieces.extend([AccessPiece::Variable(variable), AccessPiece::Literal("|".into())]);
        }
        pieces.push(AccessPiece::Header("user-agent".into()));
        let line = Line {
            client: "203.0.113.9".parse().unwrap(),
            method: "GET",
            path: "/a\n\"\\\u{7f}ü",
            request: None,
            endpoint: Some("GET /{x}"),
            status: 200,
            bytes: None,
            took: Duration::from_micros(1_004_810),
            id: "",
            why: Some("x\r\ny"),
        };
        let mut out = Vec::new();
        line.write_pattern(&pieces, &mut out);
        let expected = concat!(r#"<GET|/a\x0a\"\\\x7f\xc3\xbc|-|200|-|1004810|1.004810|GET /{x}|-|x\x0d\x0ay|-"#, "\n");
        assert_eq!(String::from_utf8(out).unwrap(), expected);
        let mut out = Vec::new();
        write_apache_time(&mut out, Duration::from_secs(951_782_400));
        assert_eq!(out, b"29/Feb/2000:00:00:00 +0000");
    }
}
