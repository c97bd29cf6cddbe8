//! What a deployment may choose of webhooks: section `[image.webhooks]` of the configuration file. Without it there are none.

use std::fmt;
use std::time::Duration;

use crate::config::{Value, boolean, expected, list, number, string, table, unknown};
use crate::image::outbox::{Event, EventSet, Reader};
use crate::outbound::webhook::KEY_BYTES_MIN;
use crate::outbound::{Endpoint, Reach};

/// Keys, at most: a request is signed with each.
const KEYS_MAX: usize = 4;
/// Seconds that an answer may take, at most: within the time for which a node of a fleet is the one that tells.
const TIMEOUT_SECONDS_MAX: u64 = 20;
const _: () = assert!(TIMEOUT_SECONDS_MAX < Reader::Webhooks.lease().as_secs());

/// Every key of the section.
const KEYS: &[&str] = &["url", "keys", "events", "timeout_seconds", "attempts_max", "allow_private"];

/// What may be told: ends of jobs.
const EVENTS: [Event; 4] = [Event::Done, Event::Failed, Event::Dead, Event::Cancelled];

/// Where ends of jobs are told, and which.
#[derive(Clone)]
pub struct WebhookSettings {
    /// Where.
    pub endpoint: Endpoint,
    /// What requests are signed with, each of them.
    pub keys: Vec<String>,
    /// Which ends.
    pub events: EventSet,
    /// How long an answer may take; beyond, it is told again.
    pub timeout: Duration,
    /// Attempts; beyond, what was to be told is a dead letter.
    pub attempts_max: u32,
    /// Where the endpoint may be.
    pub reach: Reach,
}

impl fmt::Debug for WebhookSettings {
    /// Without the keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { endpoint, keys: _, events, timeout, attempts_max, reach } = self;
        f.debug_struct("WebhookSettings")
            .field("endpoint", &endpoint.to_string())
            .field("events", events)
            .field("timeout", timeout)
            .field("attempts_max", attempts_max)
            .field("reach", reach)
            .finish_non_exhaustive()
    }
}

impl WebhookSettings {
    /// Reads the section.
    ///
    /// # Errors
    /// What is wrong with it, or missing.
    pub(crate) fn read(value: &Value<'_>) -> Result<WebhookSettings, String> {
        let mut draft = Draft::default();
        for (key, value) in table(value, "a section, as in [image.webhooks]")? {
            draft.set(key.get_ref(), value).map_err(|says| format!("{}: {says}", key.get_ref()))?;
        }
        let Draft { endpoint, keys, events, timeout, attempts_max, reach } = draft;
        let Some(endpoint) = endpoint else {
            return Err("there is no url: set url = \"https://...\", where ends of jobs are to be told".to_owned());
        };
        if keys.is_empty() {
            return Err(format!(
                "there are no keys: requests are signed with them, so that {endpoint} knows whose they are. Set \
                 keys = [\"...\"], such as what `openssl rand -hex 32` prints, and give it the same"
            ));
        }
        reach.check(&endpoint).map_err(|says| format!("url: {says}"))?;
        Ok(WebhookSettings { endpoint, keys, events, timeout, attempts_max, reach })
    }
}

/// The section while it is read.
struct Draft {
    endpoint: Option<Endpoint>,
    keys: Vec<String>,
    events: EventSet,
    timeout: Duration,
    attempts_max: u32,
    reach: Reach,
}

impl Default for Draft {
    fn default() -> Draft {
        let events = EventSet::of(&[Event::Done, Event::Failed, Event::Dead]);
        Draft {
            endpoint: None,
            keys: Vec::new(),
            events,
            timeout: Duration::from_secs(5),
            attempts_max: 20,
            reach: Reach::default(),
        }
    }
}

impl Draft {
    fn set(&mut self, key: &str, value: &Value<'_>) -> Result<(), String> {
        match key {
            "url" => self.endpoint = Some(Endpoint::read(string(value, "an http:// or https:// URL")?)?),
            "keys" => self.keys = read_keys(value)?,
            "events" => self.events = read_events(value)?,
            "timeout_seconds" => self.timeout = Duration::from_secs(number(value, 1, TIMEOUT_SECONDS_MAX)?),
            "allow_private" => self.reach = read_reach(value)?,
            "attempts_max" => self.attempts_max = number(value, 1, 1000)? as u32,
            _ => return Err(unknown("key", key, KEYS)),
        }
        Ok(())
    }
}

fn read_keys(value: &Value<'_>) -> Result<Vec<String>, String> {
    const WHAT: &str = "a list of texts";
    let mut keys: Vec<String> = Vec::new();
    for key in list(value, WHAT)? {
        let (key, number) = (string(key, WHAT)?, keys.len() + 1);
        if number > KEYS_MAX {
            return Err(format!("more than {KEYS_MAX} keys; a request is signed with each"));
        }
        if key.len() < KEY_BYTES_MIN {
            return Err(format!(
                "key {number} has fewer than {KEY_BYTES_MIN} bytes: one signature would be enough to find it by trying. Choose a \
                 longer one, such as what `openssl rand -hex 32` prints"
            ));
        }
        if keys.iter().any(|other| other == key) {
            return Err(format!("key {number} is there twice"));
        }
        keys.push(key.to_owned());
    }
    Ok(keys)
}

fn read_reach(value: &Value<'_>) -> Result<Reach, String> {
    const WHAT: &str = "true, false, or a list of networks such as [\"10.0.0.0/8\"]";
    if let Ok(all) = boolean(value) {
        return Reach::read(Some(all), &[]);
    }
    let networks: Vec<&str> = list(value, WHAT)?.map(|text| string(text, WHAT)).collect::<Result<_, _>>()?;
    Reach::read(None, &networks)
}

fn read_events(value: &Value<'_>) -> Result<EventSet, String> {
    const WHAT: &str = "a list of some of \"done\", \"failed\", \"dead\" and \"cancelled\"";
    let mut events = Vec::new();
    for name in list(value, WHAT)? {
        let name = string(name, WHAT)?;
        match EVENTS.into_iter().find(|event| event.name() == name) {
            Some(event) => events.push(event),
            None => return expected(WHAT),
        }
    }
    if events.is_empty() { expected(WHAT) } else { Ok(EventSet::of(&events)) }
}

#[cfg(test)]
mod tests {
    use toml::de::DeTable;

    use super::*;

    fn read(text: &str) -> Result<WebhookSettings, String> {
        let text = format!("webhooks = {{ {text} }}");
        let table = DeTable::parse(&text).unwrap();
        WebhookSettings::read(table.get_ref().get("webhooks").unwrap())
    }

    #[test]
    fn a_section_is_read() {
        let key = "k".repeat(KEY_BYTES_MIN);
        let settings = read(&format!("url = \"https://a.b/hook?token=hush\", keys = [\"{key}\"]")).unwrap();
        assert_eq!((settings.keys.len(), settings.attempts_max, settings.timeout.as_secs()), (1, 20, 5));
        let has = [Event::Done, Event::Failed, Event::Dead, Event::Cancelled].map(|event| settings.events.has(event));
        assert_eq!(has, [true, true, true, false]);
        let shown = format!("{settings:?}");
        assert!(shown.contains("https://a.b/hook") && !shown.contains("hush") && !shown.contains(&key), "{shown}");
        let more =
            "events = [\"cancelled\"], timeout_seconds = 20, attempts_max = 1, allow_private = [\"127.0.0.0/8\"]";
        let settings = read(&format!("url = \"http://127.0.0.1:1\", keys = [\"{key}\", \"{key}2\"], {more}")).unwrap();
        assert_eq!((settings.keys.len(), settings.attempts_max, settings.timeout.as_secs()), (2, 1, 20));
        assert!(settings.events.has(Event::Cancelled) && !settings.events.has(Event::Done));
    }

    #[test]
    fn what_is_wrong_or_missing_is_said_by_name() {
        let key = "k".repeat(KEY_BYTES_MIN);
        let url = "url = \"http://a/b\"";
        for (text, says) in [
            (String::new(), "there is no url"),
            (url.to_owned(), "there are no keys: requests are signed with them, so that http://a/b knows"),
            (format!("{url}, keys = []"), "there are no keys"),
            (format!("{url}, keys = [\"short\"]"), "keys: key 1 has fewer than 32 bytes"),
            (format!("{url}, keys = [\"{key}\", \"{key}\"]"), "keys: key 2 is there twice"),
            (format!("{url}, keys = \"{key}\""), "keys: expected a list of texts"),
            ("url = \"ftp://a\"".to_owned(), "url: \"ftp://a\": its scheme is neither http nor https"),
            ("url = \"http://me:secret@a\"".to_owned(), "url: \"a URL with credentials\""),
            ("events = []".to_owned(), "events: expected a list of some of"),
            ("events = [\"accepted\"]".to_owned(), "events: expected a list of some of"),
            ("timeout_seconds = 21".to_owned(), "timeout_seconds: "),
            ("attempts_max = 0".to_owned(), "attempts_max: "),
            ("urls = 1".to_owned(), "urls: "),
            ("allow_private = [\"10.0.0/8\"]".to_owned(), "allow_private: \"10.0.0/8\" is not a network"),
            ("allow_private = 1".to_owned(), "allow_private: expected true, false, or a list of networks"),
            (
                format!("url = \"http://10.1.2.3/a\", keys = [\"{key}\"]"),
                "url: http://10.1.2.3/a: 10.1.2.3 is not an address",
            ),
        ] {
            let refused = read(&text).unwrap_err();
            assert!(refused.contains(says) && !refused.contains("secret"), "{text}: {refused}");
        }
        let many = (0..5).map(|number| format!("\"{key}{number}\"")).collect::<Vec<_>>().join(", ");
        assert!(read(&format!("{url}, keys = [{many}]")).unwrap_err().contains("keys: more than 4 keys"));
    }
}
