//! Bodies: plausible JSON, made once per service and size and then sent without being made again.
//!
//! ```text
//! {"service_us":     12034,"id":4711,"name":"Löffel 匙","items":[{…},{…}],"filler":"…"}
//! `------- lead ---------´`------------------------- tail --------------------------´
//!  written per answer      shared by all answers of the same service, shape and size
//! ```
//!
//! The first member is the service's own time in microseconds, right-aligned to a fixed width so that all bodies of a
//! class have the same length. A gateway passes bodies on, not headers: so whoever measures it finds there what the
//! slowest service took, whatever the gateway.

use super::service::{Member, SERVICES};
use crate::random::Random;
use std::fmt::Write;

/// The member that tells the service's own time.
pub const SERVICE_TIME: &str = "\"service_us\":";
/// Digits and leading spaces of the service time.
const TIME_WIDTH: usize = 9;
/// Longest that fits: 999 seconds, above any latency that can be configured.
const TIME_MAX: u64 = 999_999_999;

/// Whether a body is an object or an array of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shape {
    /// One record, with more of them under `items`.
    Object,
    /// An array of records.
    List,
}

impl Shape {
    const fn opening(self) -> &'static str {
        match self {
            Shape::Object => "{",
            Shape::List => "[{",
        }
    }

    const fn closing(self) -> &'static str {
        match self {
            Shape::Object => "}",
            Shape::List => "}]",
        }
    }

    /// Bytes in front of the tail.
    pub const fn lead_bytes(self) -> usize {
        self.opening().len() + SERVICE_TIME.len() + TIME_WIDTH + 1
    }
}

/// Appends what stands in front of the tail.
pub fn write_lead(out: &mut Vec<u8>, shape: Shape, service_us: u64) {
    out.extend_from_slice(shape.opening().as_bytes());
    out.extend_from_slice(SERVICE_TIME.as_bytes());
    let mut digits = [b' '; TIME_WIDTH];
    let mut rest = service_us.min(TIME_MAX);
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits);
    out.push(b',');
}

/// Makes the tail of a body of `bytes` bytes in all. A body cannot be smaller than its lead and one `id`; then it is
/// that large.
pub fn tail(service: usize, shape: Shape, bytes: usize) -> Vec<u8> {
    let seed = (service as u64 + 1) << 32 | bytes as u64;
    let mut writer = Writer { out: String::with_capacity(bytes), random: Random::new(seed), id: 1000 };
    let room = bytes.saturating_sub(shape.lead_bytes());
    let members = SERVICES[service].members;
    writer.record(members, room.saturating_sub(shape.closing().len()));
    match shape {
        Shape::Object => writer.items(members, room, shape),
        Shape::List => writer.more(members, "},{", room, shape),
    }
    writer.fill(room, shape);
    writer.out.push_str(shape.closing());
    writer.out.into_bytes()
}

struct Writer {
    out: String,
    random: Random,
    id: u32,
}

impl Writer {
    /// A record's members without its braces, as many as fit below `end`; its id in any case.
    fn record(&mut self, members: &[(&str, Member)], end: usize) {
        self.id += 1 + self.random.below(90) as u32;
        let id = self.id;
        self.push(format_args!("\"id\":{id}"));
        for (name, member) in members {
            let before = self.out.len();
            self.push(format_args!(",\"{name}\":"));
            self.member(*member);
            if self.out.len() > end {
                return self.out.truncate(before);
            }
        }
    }

    /// `,"items":[{…},{…}]` with as many records as there is room for.
    fn items(&mut self, members: &[(&str, Member)], room: usize, shape: Shape) {
        let before = self.out.len();
        self.out.push_str(",\"items\":[{");
        let first = self.out.len();
        let end = room.saturating_sub(shape.closing().len() + 2);
        self.record(members, usize::MAX);
        if self.out.len() > end || first > end {
            return self.out.truncate(before);
        }
        self.more(members, "},{", end, shape);
        self.out.push_str("}]");
    }

    /// Further records behind `separator`, while there is room.
    fn more(&mut self, members: &[(&str, Member)], separator: &str, room: usize, shape: Shape) {
        loop {
            let before = self.out.len();
            self.out.push_str(separator);
            self.record(members, usize::MAX);
            if self.out.len() + shape.closing().len() > room {
                return self.out.truncate(before);
            }
        }
    }

    /// Fills up to the size wanted: with a string where one fits, else with white space, which JSON allows here.
    fn fill(&mut self, room: usize, shape: Shape) {
        const OPEN: &str = ",\"filler\":\"";
        let gap = room.saturating_sub(self.out.len() + shape.closing().len());
        if gap <= OPEN.len() {
            return self.out.extend(std::iter::repeat_n(' ', gap));
        }
        self.out.push_str(OPEN);
        self.out.extend(std::iter::repeat_n('.', gap - OPEN.len() - 1));
        self.out.push('"');
    }

    fn push(&mut self, text: std::fmt::Arguments<'_>) {
        self.out.write_fmt(text).expect("writing to a string does not fail");
    }

    fn pick<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.random.below(words.len())]
    }

    fn member(&mut self, member: Member) {
        match member {
            Member::Title => {
                let (first, second) = (self.pick(&ADJECTIVES), self.pick(&THINGS));
                self.push(format_args!("\"{first} {second}\""));
            }
            Member::Person => {
                let (first, last) = (self.pick(&FIRST_NAMES), self.pick(&LAST_NAMES));
                self.push(format_args!("\"{first} {last}\""));
            }
            Member::City => self.word(&CITIES),
            Member::Text(words) => {
                self.out.push('"');
                for index in 0..words {
                    let word = self.pick(&WORDS);
                    self.push(format_args!("{}{word}", if index == 0 { "" } else { " " }));
                }
                self.out.push('"');
            }
            Member::Money => {
                let cents = 99 + self.random.below(250_000);
                self.push(format_args!("{}.{:02}", cents / 100, cents % 100));
            }
            Member::Ratio => {
                let thousandths = self.random.below(1000);
                self.push(format_args!("0.{thousandths:03}"));
            }
            Member::Count(below) => {
                let count = self.random.below(below as usize);
                self.push(format_args!("{count}"));
            }
            Member::Flag => {
                let flag = self.random.happens(0.5);
                self.push(format_args!("{flag}"));
            }
            Member::Moment => {
                let (month, day, hour, minute) = (
                    1 + self.random.below(12),
                    1 + self.random.below(28),
                    self.random.below(24),
                    self.random.below(60),
                );
                self.push(format_args!("\"2025-{month:02}-{day:02}T{hour:02}:{minute:02}:00Z\""));
            }
            Member::Picture => {
                let number = self.random.below(1_000_000);
                // The escaped slash is JSON that many encoders write.
                self.push(format_args!("\"https:\\/\\/img.shop.example\\/p\\/{number:06}.webp\""));
            }
            Member::Word(words) => self.word(words),
            Member::Tags => {
                let (first, second) = (self.pick(&WORDS), self.pick(&WORDS));
                self.push(format_args!("[\"{first}\",\"{second}\",\"été\"]"));
            }
            Member::Object(members) => self.object(members),
            Member::Null => self.out.push_str("null"),
        }
    }

    fn word(&mut self, words: &[&str]) {
        let word = self.pick(words);
        self.push(format_args!("\"{word}\""));
    }

    fn object(&mut self, members: &[(&str, Member)]) {
        self.out.push('{');
        for (index, (name, member)) in members.iter().enumerate() {
            self.push(format_args!("{}\"{name}\":", if index == 0 { "" } else { "," }));
            self.member(*member);
        }
        self.out.push('}');
    }
}

const ADJECTIVES: [&str; 8] =
    ["Große", "Petite", "小さな", "Sturdy", "Ligera", "Тёплая", "Blaue", "Folding \\\"XL\\\""];
const THINGS: [&str; 8] = ["Lampe", "chaise", "茶碗", "backpack", "mesa", "куртка", "Tasse ☕", "bicycle 🚲"];
const FIRST_NAMES: [&str; 8] = ["Zoë", "Jürg", "Anaïs", "Haruki", "Ольга", "María", "Søren", "Emma"];
const LAST_NAMES: [&str; 8] = ["Müller", "Lefèvre", "山田", "O'Neill", "Núñez", "Ivanova", "Ågren", "Smith"];
const CITIES: [&str; 8] = ["Zürich", "Genève", "東京", "København", "Łódź", "São Paulo", "Bern", "Ghent"];
const WORDS: [&str; 12] = [
    "solid",
    "leicht",
    "naïve",
    "wasserdicht",
    "tasty",
    "robust",
    "\\u00e9l\\u00e9gant",
    "soft",
    "schnell",
    "nice",
    "& more",
    "<new>",
];

#[cfg(test)]
mod tests {
    use super::super::service::Service;
    use super::*;
    use serde_json::Value;

    fn body(service: usize, shape: Shape, bytes: usize) -> Vec<u8> {
        let mut body = Vec::new();
        write_lead(&mut body, shape, 12_034);
        body.extend(tail(service, shape, bytes));
        body
    }

    #[test]
    fn every_body_is_json_of_exactly_the_size_asked_for() {
        for (service, Service { name, .. }) in SERVICES.iter().enumerate() {
            for shape in [Shape::Object, Shape::List] {
                for bytes in (64..900).step_by(7).chain([1024, 4096, 10_000, 102_400]) {
                    let body = body(service, shape, bytes);
                    let value: Value = serde_json::from_slice(&body)
                        .unwrap_or_else(|error| panic!("{name} {bytes}: {error}: {}", String::from_utf8_lossy(&body)));
                    assert_eq!(body.len(), bytes, "{name} {shape:?}");
                    let record = if shape == Shape::List { &value[0] } else { &value };
                    assert_eq!(record["service_us"], 12_034);
                    assert!(record["id"].is_u64());
                }
            }
        }
    }

    #[test]
    fn large_bodies_hold_records_and_not_filler() {
        let object: Value = serde_json::from_slice(&body(0, Shape::Object, 50_000)).unwrap();
        assert!(object["items"].as_array().unwrap().len() > 50);
        assert!(object["items"][3]["attributes"]["weight_g"].is_u64());
        assert!(object["filler"].as_str().is_none_or(|filler| filler.len() < 1000));
        let list: Value = serde_json::from_slice(&body(3, Shape::List, 50_000)).unwrap();
        assert!(list.as_array().unwrap().len() > 50);
        assert!(list[5]["author"].is_string());
    }

    #[test]
    fn bodies_are_the_same_in_every_run_and_differ_by_service() {
        assert_eq!(tail(4, Shape::Object, 3000), tail(4, Shape::Object, 3000));
        assert_ne!(tail(4, Shape::Object, 3000), tail(5, Shape::Object, 3000));
    }

    #[test]
    fn what_is_too_small_becomes_the_smallest_there_is() {
        let value: Value = serde_json::from_slice(&body(0, Shape::Object, 1)).unwrap();
        assert!(value["id"].is_u64());
    }

    #[test]
    fn any_time_fits_its_place() {
        for time in [0, 9, 10, 999_999_999, u64::MAX] {
            let mut lead = Vec::new();
            write_lead(&mut lead, Shape::Object, time);
            assert_eq!(lead.len(), Shape::Object.lead_bytes());
            lead.extend_from_slice(b"\"id\":1}");
            let value: Value = serde_json::from_slice(&lead).unwrap();
            assert_eq!(value["service_us"], time.min(TIME_MAX));
        }
    }
}
