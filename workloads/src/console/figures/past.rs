//! What became of the figures from one reading to the next: rates, percentiles, and how busy each shard was.

use std::collections::VecDeque;
use std::time::Duration;

use annulus_engine::metrics::Snapshot;
use serde_json::{Map, Value, json};

use super::reading::{FIGURES, Reading, TIMES, Told};

/// Percentiles are of this many readings' time: what a thousandth was needs a thousand of them.
pub const WINDOW: usize = 10;

/// The last readings, the oldest first, each with its moment.
#[derive(Default)]
pub struct Past {
    readings: VecDeque<(Duration, Reading)>,
}

impl Past {
    /// Takes a reading. What has been since the one before, as a point of the document for these services; `None` for the
    /// first, which has none before it.
    pub fn point(&mut self, now: Duration, at_ms: u64, reading: Reading, services: &[&str]) -> Option<Value> {
        let ends = self.readings.front().zip(self.readings.back());
        let point = ends.map(|((first, oldest), (before, last))| {
            let mut point = Map::new();
            point.insert("at_ms".to_owned(), json!(at_ms));
            point.insert("over_ms".to_owned(), json!((now - *before).as_millis() as u64));
            for service in services {
                let mut told = figures(service, &reading, last, now - *before);
                if let Some(place) = TIMES.iter().position(|(of, _)| of == service) {
                    let recent = reading.times[place].since(&oldest.times[place]);
                    told.insert("times".to_owned(), times(&recent, now - *first));
                }
                point.insert((*service).to_owned(), Value::Object(told));
            }
            let turns: Vec<Snapshot> =
                reading.turns.iter().zip(&last.turns).map(|(now, before)| now.since(before)).collect();
            let worked = (now - *before).as_micros().max(1) as f64;
            // A turn is counted at its end, so a long one is more than the time since the last reading.
            let busy = turns.iter().map(|turns| rounded((turns.sum() as f64 / worked).min(1.0)));
            point.insert("busy".to_owned(), busy.collect());
            point.insert("turn_p99_us".to_owned(), turns.iter().map(|turns| turns.quantile(0.99)).collect());
            Value::Object(point)
        });
        if self.readings.len() >= WINDOW {
            self.readings.pop_front();
        }
        self.readings.push_back((now, reading));
        point
    }
}

fn figures(service: &str, now: &Reading, before: &Reading, between: Duration) -> Map<String, Value> {
    let of_service = FIGURES.iter().enumerate().filter(|(_, figure)| figure.service == service);
    let told = of_service.map(|(place, figure)| {
        let value = match figure.told {
            Told::Now => json!(now.figures[place]),
            Told::PerSecond => {
                let grown = now.figures[place].saturating_sub(before.figures[place]);
                json!(rounded(grown as f64 / between.as_secs_f64()))
            }
        };
        (figure.name.to_owned(), value)
    });
    told.collect()
}

/// `null` where there was nothing to be measured: that is no time of zero.
fn times(of: &Snapshot, over: Duration) -> Value {
    if of.count() == 0 {
        return Value::Null;
    }
    json!({
        "count": of.count(), "over_ms": over.as_millis() as u64, "p50_us": of.quantile(0.5),
        "p99_us": of.quantile(0.99), "p999_us": of.quantile(0.999),
    })
}

/// To a thousandth, so that a document is not mostly digits.
fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use annulus_engine::metrics::{ShardMetrics, Unit};

    use super::*;

    #[test]
    fn a_point_tells_what_was_between_two_readings() {
        let shards = [Arc::new(ShardMetrics::default())];
        let (mut past, services) = (Past::default(), ["chat", "gateway"]);
        let published = shards[0].counter("annulus_chat_publications_total", "");
        let delivery = shards[0].histogram("annulus_chat_delivery_seconds", "", Unit::Micros);
        published.add(1000);
        delivery.record(1_000_000);
        let mut look =
            |second: u64| past.point(Duration::from_secs(second), second * 1000, Reading::of(&shards), &services);
        assert_eq!(look(0), None, "there is nothing before the first");
        published.add(50);
        shards[0].gauge("annulus_chat_clients", "").set(4);
        shards[0].turn_us.record(500_000);
        let point = look(2).unwrap();
        assert_eq!((&point["at_ms"], &point["over_ms"]), (&json!(2000), &json!(2000)));
        assert_eq!((&point["chat"]["publications"], &point["chat"]["connections"]), (&json!(25.0), &json!(4)));
        assert_eq!(point["chat"]["times"], Value::Null, "what was before the first reading is nobody's");
        assert!((0.2..0.3).contains(&point["busy"][0].as_f64().unwrap()), "{point}");
        assert!(point.get("image").is_none() && point["gateway"]["requests"] == 0.0, "{point}");
        delivery.record(300);
        let point = look(3).unwrap();
        assert_eq!((&point["chat"]["times"]["count"], &point["busy"][0]), (&json!(1), &json!(0.0)));
        assert!((300..340).contains(&point["chat"]["times"]["p999_us"].as_u64().unwrap()), "{point}");
        // It is told for as long as the window is, and then no more.
        let told = (4..20).map_while(|second| look(second).filter(|point| !point["chat"]["times"].is_null()));
        assert_eq!(told.count(), WINDOW - 1, "besides the one before");
    }
}
