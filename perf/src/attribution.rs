//! Why the 99.9th percentile is what it is: where the time of slow messages went, beside that of ordinary ones.
//!
//! Messages are put into bands by their total time. Each band tells how its messages' mean time divides into stages, so
//! that what makes the tail stands in the last rows and nowhere else.

use std::fmt::Write;

/// Band limits, as quantiles of the total time.
const LIMITS: [f64; 6] = [0.0, 0.5, 0.9, 0.99, 0.999, 1.0];
/// Slow messages that are shown one by one.
const SLOWEST_SHOWN: usize = 10;

/// What is told of one kind of message.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// What the messages are.
    pub name: String,
    /// From what to what, in a sentence.
    pub about: String,
    /// The stages' names, in the order in which messages go through them.
    pub stages: Vec<String>,
    /// How many messages were traced.
    pub messages: usize,
    /// From the fastest to the slowest. Bands without messages are left out.
    pub bands: Vec<Band>,
    /// The slowest of late, each by itself, the slowest first: nanoseconds by stage.
    pub slowest: Vec<Slow>,
}

/// Messages whose total time lies between two quantiles.
#[derive(Clone, Debug, PartialEq)]
pub struct Band {
    /// The lower quantile.
    pub from: f64,
    /// The upper quantile.
    pub to: f64,
    /// How many messages.
    pub messages: usize,
    /// Their mean time, in nanoseconds.
    pub total: f64,
    /// Its parts, by stage, in nanoseconds.
    pub spent: Vec<f64>,
}

/// One slow message.
#[derive(Clone, Debug, PartialEq)]
pub struct Slow {
    /// Seconds since it ended.
    pub ago_s: f64,
    /// Nanoseconds by stage.
    pub spent: Vec<u64>,
}

impl Table {
    /// The table of messages given by their times in nanoseconds, by stage.
    ///
    /// # Panics
    /// When a message has another number of stages than there are names.
    pub fn new(name: &str, about: &str, stages: &[&str], mut messages: Vec<Vec<u64>>, mut slowest: Vec<Slow>) -> Table {
        assert!(messages.iter().all(|message| message.len() == stages.len()), "a time for every stage");
        messages.sort_by_key(|message| total(message));
        slowest.sort_by_key(|slow| std::cmp::Reverse(total(&slow.spent)));
        let at = |quantile: f64| (quantile * messages.len() as f64).round() as usize;
        let bands = LIMITS.windows(2).filter_map(|limits| {
            let of = &messages[at(limits[0])..at(limits[1])];
            let mean = |stage: usize| of.iter().map(|message| message[stage] as f64).sum::<f64>() / of.len() as f64;
            let spent: Vec<f64> = (0..stages.len()).map(mean).collect();
            let total = spent.iter().sum();
            (!of.is_empty()).then_some(Band { from: limits[0], to: limits[1], messages: of.len(), total, spent })
        });
        Table {
            name: name.to_owned(),
            about: about.to_owned(),
            stages: stages.iter().map(|stage| (*stage).to_owned()).collect(),
            messages: messages.len(),
            bands: bands.collect(),
            slowest,
        }
    }

    /// As text, in microseconds, with each stage's share of its band.
    pub fn text(&self) -> String {
        let mut out = format!("{}: {} {} traced, in us\n", self.name, self.about, counted(self.messages));
        let heads: String = self.stages.iter().fold(String::new(), |heads, stage| heads + &format!("{stage:>16}"));
        push(&mut out, format_args!("{:<18}{:>9}{:>12}{heads}\n", "percentiles", "messages", "total"));
        for band in &self.bands {
            let name = format!("p{} to p{}", percent(band.from), percent(band.to));
            push(&mut out, format_args!("{name:<18}{:>9}{:>12}", band.messages, us(band.total)));
            for spent in &band.spent {
                let share = format!("{:.0} %", spent * 100.0 / band.total.max(1.0));
                push(&mut out, format_args!("{:>10}{share:>6}", us(*spent)));
            }
            out.push('\n');
        }
        if !self.slowest.is_empty() {
            out.push_str("the slowest of late\n");
        }
        for slow in self.slowest.iter().take(SLOWEST_SHOWN) {
            let ago = format!("{:.1} s ago", slow.ago_s);
            push(&mut out, format_args!("{ago:<18}{:>9}{:>12}", 1, us(total(&slow.spent) as f64)));
            for spent in &slow.spent {
                let share = format!("{:.0} %", *spent as f64 * 100.0 / total(&slow.spent).max(1) as f64);
                push(&mut out, format_args!("{:>10}{share:>6}", us(*spent as f64)));
            }
            out.push('\n');
        }
        out
    }

    /// As a picture: a bar for each band, divided into the stages' shares.
    pub fn svg(&self) -> String {
        let (left, top, wide, bar) = (150.0, 64.0, 620.0, 34.0);
        let legend_top = top + bar * self.bands.len() as f64 + 34.0;
        let height = legend_top + 22.0 * self.stages.len().div_ceil(4) as f64 + 16.0;
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 920 {height}\" role=\"img\" font-family=\"system-ui, \
             sans-serif\" font-size=\"13\" fill=\"currentColor\"><title>Where the time went: {name}</title>\
             <desc>{about}</desc><text x=\"16\" y=\"28\" font-size=\"17\" font-weight=\"600\">{name}</text>\
             <text x=\"16\" y=\"48\">{about} {counted} traced.</text>",
            name = escaped(&self.name),
            about = escaped(&self.about),
            counted = counted(self.messages),
        );
        for (row, band) in self.bands.iter().enumerate() {
            let y = top + bar * row as f64;
            let (from, to) = (percent(band.from), percent(band.to));
            push(&mut out, format_args!("<text x=\"16\" y=\"{:.1}\">p{from} to p{to}</text>", y + 20.0));
            let mut x = left;
            for (stage, spent) in band.spent.iter().enumerate() {
                let share = spent / band.total.max(1.0);
                push(
                    &mut out,
                    format_args!(
                        "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{}\"><title>{}: {} us, \
                         {:.1} %</title></rect>",
                        y + 3.0,
                        share * wide,
                        bar - 6.0,
                        COLOURS[stage % COLOURS.len()],
                        escaped(&self.stages[stage]),
                        us(*spent),
                        share * 100.0
                    ),
                );
                x += share * wide;
            }
            push(
                &mut out,
                format_args!("<text x=\"{:.1}\" y=\"{:.1}\">{}</text>", left + wide + 12.0, y + 20.0, time(band.total)),
            );
        }
        for (stage, name) in self.stages.iter().enumerate() {
            let (x, y) = (left + (stage % 4) as f64 * 160.0, legend_top + (stage / 4) as f64 * 22.0);
            push(
                &mut out,
                format_args!(
                    "<rect x=\"{x}\" y=\"{:.1}\" width=\"12\" height=\"12\" fill=\"{}\"/><text x=\"{:.1}\" y=\"{y}\">{}</text>",
                    y - 10.0,
                    COLOURS[stage % COLOURS.len()],
                    x + 18.0,
                    escaped(name)
                ),
            );
        }
        out + "</svg>\n"
    }
}

/// Told apart by people who see colours differently: Okabe and Ito (2008), in an order in which neighbours contrast.
const COLOURS: [&str; 8] = ["#0072b2", "#e69f00", "#56b4e9", "#009e73", "#cc79a7", "#f0e442", "#d55e00", "#999999"];

fn total(spent: &[u64]) -> u64 {
    spent.iter().sum()
}

fn counted(messages: usize) -> String {
    if messages == 1 { "1 message".to_owned() } else { format!("{messages} messages") }
}

fn percent(quantile: f64) -> String {
    // Rounded, or 0.999 would be 99.9 and a trifle.
    format!("{}", (quantile * 1e5).round() / 1e3)
}

fn us(ns: f64) -> String {
    let us = ns / 1e3;
    if us < 100.0 { format!("{us:.1}") } else { format!("{us:.0}") }
}

fn time(ns: f64) -> String {
    match ns {
        ns if ns < 1e6 => format!("{:.0} us", ns / 1e3),
        ns if ns < 1e8 => format!("{:.2} ms", ns / 1e6),
        ns => format!("{:.0} ms", ns / 1e6),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to a string does not fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A thousand messages of 100 us of work; five of them besides waited 40 ms.
    fn stalled() -> Table {
        let messages = (0..1000).map(|n| if n % 200 == 7 { vec![40_000_000, 100_000] } else { vec![0, 100_000] });
        let slowest = vec![Slow { ago_s: 2.0, spent: vec![40_000_000, 100_000] }];
        Table::new("echo <1>", "There & back.", &["socket", "work"], messages.collect(), slowest)
    }

    #[test]
    fn what_makes_the_tail_stands_in_the_tails_rows() {
        let table = stalled();
        let shares: Vec<f64> = table.bands.iter().map(|band| band.spent[0] / band.total).collect();
        assert_eq!(table.bands.iter().map(|band| band.messages).sum::<usize>(), 1000);
        assert_eq!(table.bands.len(), 5);
        assert!(shares[..3].iter().all(|share| *share == 0.0), "{shares:?}");
        assert!(shares[3] > 0.9 && shares[4] > 0.99, "{shares:?}");
        let text = table.text();
        let last = text.lines().find(|line| line.starts_with("p99.9 to p100")).unwrap();
        assert_eq!(
            last.split_whitespace().collect::<Vec<_>>()[3..],
            ["1", "40100", "40000", "100", "%", "100", "0", "%"]
        );
        assert!(text.contains("2.0 s ago"), "{text}");
    }

    #[test]
    fn few_messages_fill_the_bands_they_can() {
        let table = Table::new("x", "", &["a"], vec![vec![1], vec![3]], Vec::new());
        assert_eq!(
            table.bands.iter().map(|band| (band.messages, band.total)).collect::<Vec<_>>(),
            [(1, 1.0), (1, 3.0)]
        );
        assert!(Table::new("x", "", &["a"], Vec::new(), Vec::new()).bands.is_empty());
    }

    #[test]
    fn the_picture_has_a_bar_for_every_band_and_escapes_names() {
        let svg = stalled().svg();
        assert_eq!(svg.matches("<rect").count(), 5 * 2 + 2);
        assert!(svg.contains("echo &lt;1&gt;") && svg.contains("There &amp; back.") && svg.contains("40.10 ms"));
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
    }
}
