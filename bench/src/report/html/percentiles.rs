//! The latency by percentile, of all sides: where a server's bad moments are.
//!
//! The horizontal axis is `1 / (1 - quantile)` by powers of ten, so that 90, 99 and 99.9 % are equally far apart.

use super::figure::{self, Figure, curve, line_key, mark, refused, side_key, stretched};
use super::scale::{Log, Tick};
use crate::report::figures::{duration, round_duration};
use crate::report::summary::{PERCENTILES, Summary, refusal};
use hdrhistogram::Histogram;

/// Of the plot, in pixels.
const HEIGHT: u32 = 320;
/// Of a band that says what is refused, with the gap below, in pixels.
const BAND: f64 = 34.0;
/// Points of a curve per power of ten.
const POINTS: usize = 40;
/// Powers of ten at most: 99.9999 %.
const DECADES_MAX: f64 = 6.0;

/// The plot.
pub fn plot(summaries: &[Summary]) -> String {
    let (id, heading) = ("percentiles-plot", "Latency by percentile");
    let shown: Vec<(usize, &Summary)> =
        summaries.iter().enumerate().filter(|(_, summary)| summary.without_latency().is_none()).collect();
    let has_refused = summaries.iter().any(|summary| !summary.refused.is_empty());
    if shown.is_empty() && !has_refused {
        return figure::absent(id, heading, "Nothing was completed, so there is no latency to show.");
    }
    let all = || shown.iter().flat_map(|(_, summary)| [&summary.corrected, &summary.uncorrected]);
    let filled = || all().filter(|histogram| !histogram.is_empty());
    let low = filled().map(Histogram::min).min().unwrap_or(100_000);
    let high = filled().map(Histogram::max).max().unwrap_or(100_000_000);
    let latency = Log::between(low as f64, high as f64);
    let samples = shown.iter().map(|(_, summary)| summary.corrected.len()).max().unwrap_or(10_000);
    let decades = (samples as f64).log10().ceil().clamp(2.0, DECADES_MAX);
    // Bands are above the curves, not over them.
    let bands_count = summaries.iter().filter(|summary| !summary.refused.is_empty()).count();
    let room = if shown.is_empty() { 1.0 } else { 1.0 - (bands_count as f64 * BAND / f64::from(HEIGHT)).min(0.6) };
    let up = |ns: u64| latency.at(ns as f64) * room;
    let at = |quantile: f64| (-(1.0 - quantile).log10() / decades).clamp(0.0, 1.0);

    let (mut curves, mut marks) = (String::new(), String::new());
    for (side, summary) in &shown {
        let points = |of: &Histogram<u64>| points(of, decades, &up);
        let class = format!("s{}", side % figure::COLOURS);
        if !summary.is_closed_loop() {
            curves += &curve(&format!("{class} dashed"), &[points(&summary.uncorrected)]);
        }
        curves += &curve(&class, &[points(&summary.corrected)]);
        let told = PERCENTILES.iter().filter(|(_, quantile)| has(&summary.corrected, *quantile));
        for (name, quantile) in told {
            let (corrected, uncorrected) =
                (summary.corrected.value_at_quantile(*quantile), summary.uncorrected.value_at_quantile(*quantile));
            let mut words = format!("{}, {name}: {}", summary.name, duration(corrected));
            if !summary.is_closed_loop() {
                words += &format!("\nuncorrected: {}", duration(uncorrected));
            }
            marks += &mark(*side, at(*quantile), up(corrected), &words);
        }
    }
    let bands = bands(summaries);
    let mut rows = if shown.is_empty() { Vec::new() } else { latency.ticks(round_duration) };
    rows.iter_mut().for_each(|tick| tick.at *= room);
    let columns = (0..=decades as usize).map(|decade| tick(decade, decades)).chain([half(decades)]).collect();
    Figure {
        id,
        heading,
        side: None,
        description: description(summaries),
        vertical: "latency, by powers of ten",
        horizontal: "percent of answers that were at least as fast",
        height: HEIGHT,
        rows,
        columns,
        content: format!("{}{marks}{bands}", stretched(&curves)),
        legend: legend(&shown, has_refused),
        caption: caption(summaries),
    }
    .html()
}

/// A band for each side of which rounds are refused.
fn bands(summaries: &[Summary]) -> String {
    let mut bands = String::new();
    for summary in summaries.iter().filter(|summary| !summary.refused.is_empty()) {
        let worst = summary.refused.iter().map(|refused| refused.late_p99_ns).max().unwrap_or(0);
        let short =
            format!("{}: {} of {} rounds refused", figure::short(&summary.name), summary.refused.len(), summary.rounds);
        let band = refused(0.0, 1.0, "26", &short, &format!("{}: {}", summary.name, refusal(worst)));
        bands += &format!(
            "<svg overflow=\"visible\" y=\"{}\">{band}</svg>",
            4.0 + BAND * bands.matches("</svg>").count() as f64
        );
    }
    bands
}

fn legend(shown: &[(usize, &Summary)], has_refused: bool) -> String {
    let mut keys: String = shown.iter().map(|(side, summary)| side_key(*side, &summary.name)).collect();
    if !shown.is_empty() && shown.iter().all(|(_, summary)| summary.is_closed_loop()) {
        keys += &line_key("solid", "closed loop: from when it left");
    } else {
        keys += &line_key("solid", "from when it was meant to leave");
        keys += &line_key("dashed", "uncorrected: from when it left");
    }
    if has_refused {
        keys += &line_key("hatch", "refused: the generator was late");
    }
    figure::legend(&keys)
}

/// Whether so many answers were counted that the percentile is not the longest of all.
fn has(of: &Histogram<u64>, quantile: f64) -> bool {
    of.len() as f64 * (1.0 - quantile) >= 0.999
}

fn points(of: &Histogram<u64>, decades: f64, up: &dyn Fn(u64) -> f64) -> Vec<(f64, f64)> {
    if of.is_empty() {
        return Vec::new();
    }
    let steps = (decades * POINTS as f64) as usize;
    let last = (of.len() as f64).log10().min(decades);
    let x = |step: usize| step as f64 / POINTS as f64;
    let quantile = |x: f64| 1.0 - 10f64.powf(-x);
    let within = (0..=steps).map(x).filter(|x| *x < last).chain([last]);
    within.map(|x| (x / decades, up(of.value_at_quantile(quantile(x))))).collect()
}

fn tick(decade: usize, decades: f64) -> Tick {
    let label = match decade {
        0 => "0".to_owned(),
        1 => "90".to_owned(),
        2 => "99".to_owned(),
        nines => format!("99.{}", "9".repeat(nines - 2)),
    };
    // On a narrow screen there is no room for many nines beside each other.
    let is_strong = decade <= 2 || decades <= 4.0 || (decades as usize - decade).is_multiple_of(2);
    Tick { at: decade as f64 / decades, label, is_strong }
}

fn half(decades: f64) -> Tick {
    Tick { at: 2f64.log10() / decades, label: "50".to_owned(), is_strong: false }
}

fn description(summaries: &[Summary]) -> String {
    let side = |summary: &Summary| match summary.without_latency() {
        Some(why) => format!("{}: {why}.", summary.name),
        None => {
            let told = PERCENTILES
                .map(|(name, quantile)| format!("{name} {}", duration(summary.corrected.value_at_quantile(quantile))));
            format!("{}: {}.", summary.name, told.join(", "))
        }
    };
    summaries.iter().map(side).collect::<Vec<_>>().join(" ")
}

/// How much an uncorrected figure hides, where it hides much; and what was refused.
fn caption(summaries: &[Summary]) -> String {
    let mut sentences = Vec::new();
    for summary in summaries.iter().filter(|summary| summary.without_latency().is_none()) {
        if summary.is_closed_loop() {
            sentences.push(format!("{}: a closed loop, whose latency forgives the server for pauses.", summary.name));
            continue;
        }
        let hides = |(_, quantile): &&(&str, f64)| {
            let (whole, part) =
                (summary.corrected.value_at_quantile(*quantile), summary.uncorrected.value_at_quantile(*quantile));
            whole > 2 * part.max(1)
        };
        if let Some((name, quantile)) = PERCENTILES.iter().skip(2).find(hides) {
            sentences.push(format!(
                "{}: {name} is {}; a generator that forgives the server for holding it up would have told {}.",
                summary.name,
                duration(summary.corrected.value_at_quantile(*quantile)),
                duration(summary.uncorrected.value_at_quantile(*quantile))
            ));
        }
        if let Some(whose) = summary.whose() {
            sentences.push(format!("{}: {whose}, because the generator was late.", summary.name));
        }
    }
    for summary in summaries {
        if summary.refused.len() == summary.rounds
            && let Some(why) = summary.without_latency()
        {
            sentences.push(format!("{}: {why}.", summary.name));
        }
    }
    let sentences: Vec<String> = sentences.iter().map(|sentence| figure::escape(sentence)).collect();
    sentences.join("<br>")
}
