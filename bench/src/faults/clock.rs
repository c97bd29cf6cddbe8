//! A clock of a process's own that is stepped: by libfaketime, which stands between the process and the kernel. The machine's
//! clock is nobody's to change.

use super::finding::{Findings, Trouble};
use super::service::Way;
use crate::attacks::raw;
use crate::image::server::get;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const DAY_S: i64 = 86_400;
const HOUR_S: i64 = 3600;
/// How far a service may be from where its clock was put: an answer may take a moment.
const FELT_WITHIN_S: i64 = 5;

/// Where distributions put it.
const PLACES: [&str; 4] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
    "/usr/lib64/faketime/libfaketimeMT.so.1",
];

/// See the module's description.
pub struct Clock {
    library: PathBuf,
    file: PathBuf,
}

impl Clock {
    /// One that is right, to begin with.
    ///
    /// # Errors
    /// That libfaketime is not installed.
    pub fn new(folder: &Path) -> Result<Clock, Trouble> {
        let library = PLACES.iter().map(PathBuf::from).find(|place| place.is_file());
        let library = library.ok_or_else(|| {
            let why =
                "libfaketime is not installed (apt-get install faketime), and this machine's own clock is not touched";
            Trouble::NotRun(why.to_owned())
        })?;
        let clock = Clock { library, file: folder.join("clock") };
        clock.step(0)?;
        Ok(clock)
    }

    /// How a process is started that goes by it. Its monotonic clock is the kernel's, as with a real step.
    pub fn way(&self) -> Way {
        let variables = [
            ("LD_PRELOAD", self.library.clone().into_os_string()),
            ("FAKETIME_TIMESTAMP_FILE", self.file.clone().into_os_string()),
            ("FAKETIME_NO_CACHE", "1".into()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
        ];
        Way { variables: variables.map(|(name, value)| (name.into(), value)).to_vec(), ..Way::default() }
    }

    /// Steps it from what is right, by seconds.
    ///
    /// # Errors
    /// A sentence.
    pub fn step(&self, seconds: i64) -> Result<(), String> {
        // At once: a process must not read half of it.
        let next = self.file.with_extension("next");
        let moved = std::fs::write(&next, format!("{seconds:+}s\n")).and_then(|()| std::fs::rename(&next, &self.file));
        moved.map_err(|error| format!("the clock cannot be stepped: {error}"))
    }

    /// Steps it an hour on, an hour back and right again, each for so long, and looks whether the service goes by it: what it takes
    /// for the time, in seconds since 1970, `tells` finds out.
    ///
    /// # Errors
    /// As [`Clock::step`].
    pub fn swing(&self, each: Duration, tells: impl Fn() -> Option<i64>) -> Result<Findings, String> {
        let mut findings = Findings::new();
        for seconds in [HOUR_S, -HOUR_S, 0] {
            self.step(seconds)?;
            std::thread::sleep(each);
            let ahead = tells().map(|theirs| theirs - now_s());
            let felt = ahead.is_some_and(|ahead| (ahead - seconds).abs() <= FELT_WITHIN_S);
            let observed =
                ahead.map_or("it does not tell the time".to_owned(), |ahead| format!("{ahead:+} s by its answers"));
            findings.felt(format!("its clock is {seconds:+} s ahead"), felt, observed);
        }
        Ok(findings)
    }
}

fn now_s() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}

/// What a service takes for the time by the field `Date` of its answers (RFC 9110 section 6.6.1): the second of the day, on that day
/// which makes it nearest to ours.
pub fn dated(address: SocketAddr) -> Option<i64> {
    let theirs = second_of_day(get(address, "/metrics", &[]).ok()?.field("date")?)?;
    let ours = now_s();
    Some(ours + (theirs - ours % DAY_S + DAY_S * 3 / 2) % DAY_S - DAY_S / 2)
}

/// Of an HTTP date, `Sun, 06 Nov 1994 08:49:37 GMT`.
fn second_of_day(date: &str) -> Option<i64> {
    let mut parts = date.split(' ').nth(4)?.split(':').map(|part| part.parse::<i64>().ok());
    Some((parts.next()?? * 60 + parts.next()??) * 60 + parts.next()??)
}

/// What a chat whose API needs no key takes for the time: it tells until when somebody is muted who is to be for an hour.
pub fn of_mute(address: SocketAddr) -> Option<i64> {
    let call = |method: &str, body: &Value| {
        let request = raw::request("POST", &format!("/api/{method}"), "", body.to_string().as_bytes());
        serde_json::from_slice::<Value>(&raw::ask(address, &request).ok()?.body).ok()
    };
    call("mute", &json!({ "user": "nobody", "channel": "nowhere", "seconds": HOUR_S }))?;
    let named = call("sanctions", &json!({ "user": "nobody" }))?;
    Some(named["result"]["sanctions"][0]["expire_at"].as_i64()? - HOUR_S)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_has_a_second_of_the_day() {
        assert_eq!(second_of_day("Sun, 06 Nov 1994 08:49:37 GMT"), Some(31_777));
        assert_eq!(second_of_day("Sun, 06 Nov"), None);
    }
}
