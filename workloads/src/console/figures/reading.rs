//! What the console reads of the shards' metrics: which of its figures is made of which metric, and all of them at one moment.

use std::sync::Arc;

use annulus_engine::metrics::{self, Sample, ShardMetrics, Snapshot, visit_some};

/// How a figure is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// As it is: a level.
    Now,
    /// Its growth per second: a total.
    PerSecond,
}

/// A figure of a service: the sum of a metric over all shards, and over those of its series that have one of the labels.
pub struct Figure {
    /// Whose it is.
    pub service: &'static str,
    /// What it is called in the document.
    pub name: &'static str,
    /// How it is told.
    pub told: Told,
    metric: &'static str,
    /// A label's name and the values that count. No name: all series.
    labels: (&'static str, &'static [&'static str]),
}

const fn figure(service: &'static str, name: &'static str, told: Told, metric: &'static str) -> Figure {
    Figure { service, name, told, metric, labels: ("", &[]) }
}

const fn labelled(
    service: &'static str,
    name: &'static str,
    told: Told,
    metric: &'static str,
    labels: (&'static str, &'static [&'static str]),
) -> Figure {
    Figure { service, name, told, metric, labels }
}

use Told::{Now, PerSecond};

/// All of them.
pub const FIGURES: [Figure; 15] = [
    figure("chat", "connections", Now, "annulus_chat_clients"),
    figure("chat", "subscriptions", Now, "annulus_chat_subscriptions"),
    figure("chat", "publications", PerSecond, "annulus_chat_publications_total"),
    figure("chat", "deliveries", PerSecond, "annulus_chat_deliveries_total"),
    figure("chat", "refused", PerSecond, "annulus_chat_commands_refused_total"),
    figure("gateway", "requests", PerSecond, "annulus_gateway_answers_total"),
    labelled(
        "gateway",
        "sub_requests",
        PerSecond,
        "annulus_gateway_backend_calls_total",
        ("outcome", &["served", "failed"]),
    ),
    labelled("gateway", "errors", PerSecond, "annulus_gateway_answers_total", ("status", &["5xx"])),
    figure("gateway", "shed", PerSecond, "annulus_gateway_shed_total"),
    figure("gateway", "in_flight", Now, "annulus_gateway_requests_in_flight"),
    figure("image", "uploads", PerSecond, "annulus_image_uploads_total"),
    labelled("image", "done", PerSecond, "annulus_image_events_total", ("event", &["done"])),
    labelled("image", "failed", PerSecond, "annulus_image_events_total", ("event", &["failed", "dead"])),
    figure("image", "waiting", Now, "annulus_image_queue_depth"),
    figure("image", "at_work", Now, "annulus_image_queue_leased"),
];

/// The times that a service is told by, and the metric that has them.
pub const TIMES: [(&str, &str); 3] = [
    ("chat", "annulus_chat_delivery_seconds"),
    ("gateway", "annulus_gateway_endpoint_seconds"),
    ("image", "annulus_image_accept_seconds"),
];

/// What has a budget: its name, the metric of what is used, and that of the budget.
pub const BUDGETS: [(&str, &str, &str); 3] = [
    ("chat, slow clients", "annulus_chat_outbound_bytes", "annulus_chat_outbound_budget_bytes"),
    ("gateway, answers", "annulus_gateway_memory_bytes", "annulus_gateway_memory_budget_bytes"),
    ("image, decoding", "annulus_image_memory_reserved_bytes", "annulus_image_memory_budget_bytes"),
];

const TURNS: &str = "annulus_turn_seconds";
const STALLS: &str = "annulus_stalls_total";

/// All of it, at one moment.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// By [`FIGURES`].
    pub figures: [u64; FIGURES.len()],
    /// By [`TIMES`].
    pub times: [Snapshot; TIMES.len()],
    /// By [`BUDGETS`]: used, and the budget; 0: there is none.
    pub budgets: [(u64, u64); BUDGETS.len()],
    /// By shard: how long turns worked, in microseconds.
    pub turns: Vec<Snapshot>,
    /// Turns that took too long, of all shards.
    pub stalls: u64,
}

impl Reading {
    /// Of these shards, now. Nothing on them waits for it.
    pub fn of(shards: &[Arc<ShardMetrics>]) -> Reading {
        let mut reading = Reading { turns: vec![Snapshot::default(); shards.len()], ..Reading::default() };
        visit_some(shards, is_wanted, |sample| reading.add(sample));
        reading
    }

    fn add(&mut self, sample: &Sample<'_>) {
        match &sample.reading {
            metrics::Reading::Counter(value) | metrics::Reading::Gauge(value) => self.add_number(sample, *value),
            metrics::Reading::Histogram(snapshot, _) if sample.name == TURNS => {
                self.turns[sample.shard] = snapshot.clone();
            }
            metrics::Reading::Histogram(snapshot, _) => {
                let place = TIMES.iter().position(|(_, metric)| *metric == sample.name);
                place.into_iter().for_each(|place| self.times[place].merge(snapshot));
            }
        }
    }

    fn add_number(&mut self, sample: &Sample<'_>, value: u64) {
        for (place, figure) in FIGURES.iter().enumerate() {
            let (label, values) = figure.labels;
            let is_counted = |(name, text): &(&'static str, String)| *name == label && values.contains(&text.as_str());
            if figure.metric == sample.name && (label.is_empty() || sample.labels.iter().any(is_counted)) {
                self.figures[place] += value;
            }
        }
        for (place, (_, used, budget)) in BUDGETS.iter().enumerate() {
            if *used == sample.name {
                self.budgets[place].0 += value;
            }
            if *budget == sample.name {
                self.budgets[place].1 += value;
            }
        }
        if sample.name == STALLS {
            self.stalls += value;
        }
    }
}

fn is_wanted(name: &str) -> bool {
    [TURNS, STALLS].contains(&name)
        || FIGURES.iter().any(|figure| figure.metric == name)
        || TIMES.iter().any(|(_, metric)| *metric == name)
        || BUDGETS.iter().any(|(_, used, budget)| [used, budget].contains(&&name))
}

#[cfg(test)]
mod tests {
    use annulus_engine::metrics::Unit;

    use super::*;

    #[test]
    fn shards_are_added_up_and_labels_told_apart() {
        let shards: Vec<Arc<ShardMetrics>> = (0..2).map(|_| Arc::default()).collect();
        for (index, shard) in shards.iter().enumerate() {
            for (class, count) in [("2xx", 10), ("5xx", 1)] {
                shard.counter_with("annulus_gateway_answers_total", "", &[("status", class)]).add(count);
            }
            shard.gauge("annulus_chat_clients", "").set(3);
            shard.gauge("annulus_chat_outbound_bytes", "").set(5);
            shard.gauge("annulus_chat_outbound_budget_bytes", "").set(100);
            shard.histogram("annulus_chat_delivery_seconds", "", Unit::Micros).record(7);
            shard.turn_us.record(10 << index);
            shard.stalls.add(1);
        }
        let reading = Reading::of(&shards);
        let told = |service: &str, name: &str| {
            let place = FIGURES.iter().position(|figure| (figure.service, figure.name) == (service, name));
            reading.figures[place.unwrap()]
        };
        assert_eq!((told("gateway", "requests"), told("gateway", "errors")), (22, 2));
        assert_eq!((told("chat", "connections"), told("image", "waiting")), (6, 0));
        assert_eq!((reading.budgets[0], reading.stalls), ((10, 200), 2));
        assert_eq!((reading.times[0].count(), reading.times[1].count()), (2, 0));
        assert_eq!(reading.turns.iter().map(Snapshot::sum).collect::<Vec<_>>(), [10, 20]);
    }
}
