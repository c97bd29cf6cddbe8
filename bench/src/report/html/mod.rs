//! A record as one page that needs nothing else: no script, no font, no picture from elsewhere.
//!
//! Its policy forbids the browser to load anything. Plots are SVG, drawn here; tooltips are the drawings' own titles.

mod figure;
mod heat;
mod lateness;
mod percentiles;
mod scale;
mod series;
mod tables;
mod timeline;

use super::summary::Summary;
use crate::record::Record;
pub(super) use figure::escape;
pub(super) use tables::{rows, stacked, wide};
use timeline::Timeline;

const STYLE: &str = include_str!("page.css");

/// The page.
pub fn page(record: &Record) -> String {
    let summaries = Summary::all(record);
    let timeline = Timeline::of(record);
    let mut sections = Vec::new();
    if !record.rows.is_empty() {
        sections.push(("rows", "Targets", tables::rows(&record.rows)));
    }
    if !record.sides.is_empty() {
        let latency = tables::percentiles(record, &summaries) + &percentiles::plot(&summaries);
        sections.push(("sides", "Sides", tables::cards(record, &summaries)));
        sections.push(("percentiles", "Percentiles", latency));
        sections.push(("time", "Latency over time", heat::plots(record, &timeline)));
        sections.push(("rate", "Rate", series::rates(record, &timeline)));
        sections.push(("cpu", "Processor", series::cpu(record, &timeline)));
        sections.push(("memory", "Memory", series::memory(record, &timeline)));
        sections.push(("generator", "Generator", lateness::plot(record)));
    }
    if !record.notes.is_empty() {
        let notes: String = record.notes.iter().map(|note| format!("<li>{}</li>", escape(note))).collect();
        sections.push(("notes", "Notes", format!("<ul class=\"notes\">{notes}</ul>")));
    }
    sections.push(("reading", "How to read this", READING.to_owned()));
    let links: String = sections.iter().map(|(id, name, _)| format!("<a href=\"#{id}\">{name}</a>")).collect();
    let sections: String = sections
        .iter()
        .map(|(id, name, content)| {
            format!("<section id=\"{id}\" aria-labelledby=\"{id}-name\"><h2 id=\"{id}-name\">{name}</h2>\n{content}</section>\n")
        })
        .collect();
    let head = head(&record.title, &record.facts, &tables::verdict(&record.rows));
    document(
        &record.title,
        &format!("{head}<nav aria-label=\"Sections\">{links}</nav>\n<main id=\"main\">{sections}</main>\n"),
    )
}

/// Title, command and facts, for this page and its like.
pub(super) fn head(title: &str, facts: &[(String, String)], verdict: &str) -> String {
    let is_command = |name: &str| name == "command" || name.starts_with("command,");
    let commands = facts.iter().filter(|(name, _)| is_command(name));
    let commands: String = commands
        .map(|(name, command)| {
            let whose = name.strip_prefix("command, ").map_or_else(String::new, |whose| format!("{} ", escape(whose)));
            format!("<pre tabindex=\"0\" aria-label=\"{whose}command\"><code>{}</code></pre>", of_command(command))
        })
        .collect();
    let others = facts.iter().filter(|(name, _)| !is_command(name));
    let others: String = others.map(|(name, value)| tables::entry(name, value)).collect();
    format!(
        "<header><div class=\"top\"><h1>{}</h1>{verdict}</div>{commands}<dl class=\"facts\">{others}</dl></header>\n",
        escape(title)
    )
}

/// A command whose options are not broken after their hyphens.
pub(super) fn of_command(command: &str) -> String {
    let word = |word: &str| {
        let escaped = escape(word);
        if word.starts_with('-') { format!("<span class=\"option\">{escaped}</span>") } else { escaped }
    };
    command.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

/// A whole document around a body.
pub(super) fn document(title: &str, body: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n<meta http-equiv=\"Content-Security-Policy\" \
         content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action \
         'none'\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta name=\"color-scheme\" \
         content=\"light dark\">\n<link rel=\"icon\" href=\"data:,\">\n<title>{}</title>\n<style>\n{STYLE}</style></head>\n\
         <body>\n<a class=\"skip\" href=\"#main\">Skip to the content</a>\n{}{body}</body></html>\n",
        escape(title),
        figure::SHARED
    )
}

const READING: &str = "<dl class=\"reading\">
<div><dt>latency, corrected</dt><dd>From the moment when a request was meant to leave to the last byte of its answer. A
server that holds the generator up cannot thereby hide what would have been sent meanwhile.</dd></div>
<div><dt>uncorrected</dt><dd>From the moment when it did leave: what a generator tells that sends only after the answer
before. Shown for comparison.</dd></div>
<div><dt>refused</dt><dd>The generator itself did not keep its schedule, so that its latencies may be its own. They are
not told, and not part of any figure.</dd></div>
<div><dt>rounds</dt><dd>Sides are measured in turn, round after round, so that what changes on the machine meets all of
them. Plots over time lay the sides' rounds of one number over each other.</dd></div>
<div><dt>counted</dt><dd>Requests that were meant to leave after the warm-up and before the cool-down.</dd></div>
</dl>";

#[cfg(test)]
mod tests {
    use super::super::figures::duration;
    use super::super::{demo, json};
    use super::*;
    use crate::record::{INTERVAL_NS, Interval, Round, Side};

    /// A page of a minute's run of two sides is sent by mail without a thought.
    const BYTES_MAX: usize = 1_000_000;

    #[test]
    fn the_page_has_everything_and_loads_nothing() {
        let record = demo::record();
        let page = page(&record);
        let ids = ["percentiles-plot", "heat-0", "heat-1", "rate-plot", "cpu-plot", "memory-plot", "lateness-plot"];
        for id in ids {
            let figure = page.split(&format!("<figure id=\"{id}\">")).nth(1).unwrap_or_else(|| panic!("{id}"));
            let figure = figure.split("</figure>").next().unwrap();
            assert!(figure.contains("<desc id=") && figure.contains(" d=\"M") || id == "lateness-plot", "{id}");
        }
        let p99 = duration(record.sides[0].latency().value_at_quantile(0.99));
        assert!(page.contains(&format!("<td class=\"number\">{p99}</td>")));
        assert!(page.contains("items?limit=20&amp;order=&lt;newest&gt;"));
        for word in ["<script", "http-equiv=\"refresh", "url(http", " src=", "@import"] {
            assert!(!page.contains(word), "{word}");
        }
        assert!(page.contains("2 of 6 targets missed") || page.contains("3 of 6 targets missed"));
        assert!(page.len() < BYTES_MAX, "{}", page.len());
    }

    #[test]
    fn empty_plots_say_why() {
        let page_of = |record: &Record| page(record);
        let mut record = demo::record();
        record.sides.iter_mut().flat_map(|side| &mut side.rounds).for_each(|round| round.usage.clear());
        assert_eq!(page_of(&record).matches("The server&#39;s process was not known").count(), 2);
        let side = Side { name: "x".to_owned(), rounds: vec![Round { seconds: 1.0, ..Round::default() }] };
        let nothing = page_of(&Record { sides: vec![side], ..Record::default() });
        for words in ["Nothing was completed", "Nothing was counted by time", "closed loop"] {
            assert!(nothing.contains(words), "{words}");
        }
        // A record without any side is its rows.
        assert!(!page_of(&Record { rows: demo::record().rows, ..Record::default() }).contains("<figure"));
    }

    #[test]
    fn a_closed_loop_is_called_so_and_nothing_is_corrected() {
        let mut record = demo::record();
        for round in record.sides.iter_mut().flat_map(|side| &mut side.rounds) {
            round.offered_per_s = 0.0;
            round.lateness = crate::histogram::latencies();
        }
        let page = page(&record);
        let text = super::super::text::summary(&record);
        assert!(page.contains("<th scope=\"row\">closed loop</th>") && text.contains("\n  closed loop "));
        assert!(!page.contains("<th scope=\"row\">uncorrected</th>") && !text.contains("\n  uncorrected "));
        assert!(page.contains("There was no schedule to be late for"));
    }

    #[test]
    fn a_page_is_the_same_after_its_file_was_read_again() {
        let record = demo::record();
        assert_eq!(page(&json::read(&json::write(&record)).unwrap()), page(&record));
    }

    #[test]
    fn names_and_notes_of_others_stay_text() {
        let mut record = demo::record();
        let evil = "</title></style><script>alert(1)</script>\"'&";
        record.title = evil.to_owned();
        record.sides[0].name = evil.to_owned();
        record.notes.push(evil.to_owned());
        record.facts.push((evil.to_owned(), evil.to_owned()));
        record.rows[0].name = evil.to_owned();
        record.rows[0].note = evil.to_owned();
        record.sides[0].rounds[0].failed.insert(evil.to_owned(), 1);
        let page = page(&record);
        assert!(!page.contains("<script") && page.matches("</style>").count() == 1);
    }

    #[test]
    fn a_long_run_with_spread_latencies_stays_small() {
        let mut random = crate::random::Random::new(3);
        let mut round = Round { seconds: 60.0, offered_per_s: 1000.0, ..Round::default() };
        round.intervals = vec![Interval::default(); (60_000_000_000 / INTERVAL_NS) as usize];
        for interval in &mut round.intervals {
            for _ in 0..100 {
                let ns = (10f64.powf(4.5 + 3.5 * random.uniform())) as u64;
                interval.offered += 1;
                interval.completed += 1;
                interval.latency.record(ns);
                round.latency.record(ns).unwrap();
                round.uncorrected.record(ns).unwrap();
                round.lateness.record(1000).unwrap();
            }
        }
        let side = |name: &str| Side { name: name.to_owned(), rounds: vec![round.clone()] };
        let record = Record { sides: vec![side("one"), side("two")], ..Record::default() };
        let bytes = page(&record).len();
        assert!(bytes < BYTES_MAX, "{bytes}");
    }
}
