//! The owner's cases beside each other: what was asked, what was measured, and by how much it holds. Only what really
//! ran can pass.

use super::figures::number;
use super::html::{document, escape, head, stacked};
use super::{Row, Target};

/// One figure of an owner's case.
#[derive(Clone, Debug, PartialEq)]
pub struct SeedLine {
    /// The case: `chat`, `image`, `gateway`.
    pub case: String,
    /// What is measured.
    pub what: String,
    /// What it must satisfy.
    pub target: Target,
    /// Of target and value.
    pub unit: String,
    /// The value, if there is one.
    pub measured: Option<f64>,
    /// How it was come by.
    pub how: How,
}

/// How a value was come by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum How {
    /// The case ran as the owner described it.
    Ran,
    /// Something smaller ran, and the value was computed.
    Projected {
        /// What ran.
        from: String,
    },
    /// Nothing ran.
    NotRun {
        /// Why.
        why: String,
    },
}

impl SeedLine {
    /// `pass`, `FAIL`, `projected`, `projected: FAIL`, `not run`; nothing for a mere fact that ran.
    pub fn verdict(&self) -> &'static str {
        let holds = self.row().holds();
        match (&self.how, self.target) {
            (How::NotRun { .. }, _) => "not run",
            (How::Ran, Target::Fact) => "",
            (How::Ran, _) => {
                if holds {
                    "pass"
                } else {
                    "FAIL"
                }
            }
            (How::Projected { .. }, _) => {
                if holds {
                    "projected"
                } else {
                    "projected: FAIL"
                }
            }
        }
    }

    /// By how many percent of the target the value is on its good side; negative beyond it. None without a target, with
    /// one of zero, or without a value.
    pub fn margin_percent(&self) -> Option<f64> {
        let measured = self.told()?;
        let margin = |target: f64, distance: f64| (target != 0.0).then(|| distance * 100.0 / target.abs());
        match self.target {
            Target::Most(most) => margin(most, most - measured),
            Target::Least(least) => margin(least, measured - least),
            Target::Fact => None,
        }
    }

    /// The value; none of what was not run, whatever it says.
    fn told(&self) -> Option<f64> {
        let has_run = !matches!(self.how, How::NotRun { .. });
        self.measured.filter(|value| has_run && value.is_finite())
    }

    fn row(&self) -> Row {
        Row::new("", self.target, self.told(), "")
    }

    fn target_text(&self) -> String {
        let unit = if self.unit.is_empty() { String::new() } else { format!(" {}", self.unit) };
        match self.target {
            Target::Most(most) => format!("\u{2264} {}{unit}", number(most)),
            Target::Least(least) => format!("\u{2265} {}{unit}", number(least)),
            Target::Fact => String::new(),
        }
    }

    fn measured_text(&self) -> String {
        let unit = if self.unit.is_empty() { String::new() } else { format!(" {}", self.unit) };
        self.told().map_or_else(|| "\u{2013}".to_owned(), |value| number(value) + &unit)
    }

    fn margin_text(&self) -> String {
        let sign = |margin: &f64| if *margin > 0.0 { "+" } else { "" };
        let told = self.margin_percent().map(|margin| margin.round());
        told.map_or_else(String::new, |margin| format!("{}{} %", sign(&margin), number(margin)))
    }

    fn how_text(&self) -> String {
        match &self.how {
            How::Ran => String::new(),
            How::Projected { from } => format!("from {from}"),
            How::NotRun { why } => why.clone(),
        }
    }

    fn cells(&self) -> [String; 6] {
        [
            self.what.clone(),
            self.target_text(),
            self.measured_text(),
            self.verdict().to_owned(),
            self.margin_text(),
            self.how_text(),
        ]
    }
}

const HEADS: [&str; 6] = ["what", "target", "measured", "verdict", "margin", ""];

/// How many passed, in a sentence.
pub fn conclusion(lines: &[SeedLine]) -> String {
    let count = |verdict: &str| lines.iter().filter(|line| line.verdict() == verdict).count();
    let mut parts = vec![format!("{} pass", count("pass"))];
    for (verdict, words) in [
        ("FAIL", "FAIL"),
        ("projected", "projected to hold"),
        ("projected: FAIL", "projected to FAIL"),
        ("not run", "not run"),
    ] {
        if count(verdict) > 0 {
            parts.push(format!("{} {words}", count(verdict)));
        }
    }
    parts.join(", ")
}

/// Whether everything that has a target ran and holds.
pub fn all_pass(lines: &[SeedLine]) -> bool {
    lines.iter().all(|line| matches!(line.verdict(), "pass" | ""))
}

/// The table as text.
pub fn text(lines: &[SeedLine]) -> String {
    let rows: Vec<[String; 6]> = lines.iter().map(SeedLine::cells).collect();
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([HEADS[column].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..HEADS.len()).map(width).collect();
    let line = |cells: [&str; 6]| {
        let pad = |(column, cell): (usize, &&str)| {
            let gap = " ".repeat(widths[column].saturating_sub(cell.chars().count()));
            // Figures end, words begin at a common column.
            if matches!(column, 1 | 2 | 4) { format!("{gap}{cell}") } else { format!("{cell}{gap}") }
        };
        let cells: Vec<String> = cells.iter().enumerate().map(pad).collect();
        format!("  {}\n", cells.join("  ").trim_end())
    };
    let mut text = String::new();
    let mut case = None;
    for (seed, row) in lines.iter().zip(&rows) {
        if case != Some(&seed.case) {
            let gap = if case.is_some() { "\n" } else { "" };
            text += &format!("{gap}{}\n{}", seed.case, line(HEADS));
            case = Some(&seed.case);
        }
        text += &line(row.each_ref().map(String::as_str));
    }
    format!("{text}\n{}\n", conclusion(lines))
}

/// The table as a page.
pub fn html(facts: &[(String, String)], lines: &[SeedLine]) -> String {
    let title = "The owner's cases";
    let has_failed = lines.iter().any(|line| line.verdict().contains("FAIL"));
    // What was not run has neither passed nor failed.
    let (class, sign) = match (has_failed, all_pass(lines)) {
        (true, _) => ("miss", "\u{2717} "),
        (false, true) => ("ok", "\u{2713} "),
        (false, false) => ("", ""),
    };
    let verdict = format!("<p class=\"verdict {class}\">{sign}{}</p>", conclusion(lines));
    let mut sections = String::new();
    let mut rest = lines;
    while let Some(first) = rest.first() {
        let count = rest.iter().take_while(|line| line.case == first.case).count();
        sections += &format!("<section><h2>{}</h2>{}</section>\n", escape(&first.case), table(&rest[..count]));
        rest = &rest[count..];
    }
    document(title, &format!("{}<main id=\"main\">{sections}</main>\n", head(title, facts, &verdict)))
}

fn table(lines: &[SeedLine]) -> String {
    let heads: String = ["what", "target", "measured", "verdict", "margin", "how"]
        .iter()
        .zip(["", "number", "number", "", "number", ""])
        .map(|(head, class)| format!("<th scope=\"col\" class=\"{class}\">{head}</th>"))
        .collect();
    let row = |line: &SeedLine| {
        let [what, target, measured, verdict, margin, how] = line.cells().map(|cell| escape(&cell));
        let (class, sign) = match line.verdict() {
            "pass" => ("ok", "\u{2713} "),
            "FAIL" | "projected: FAIL" => ("miss", "\u{2717} "),
            _ => ("", ""),
        };
        let how = if line.how == How::Ran { "ran".to_owned() } else { how };
        format!(
            "<tr role=\"row\" class=\"{class}\"><th role=\"rowheader\" scope=\"row\">{what}</th>\
             <td role=\"cell\" class=\"number\" data-name=\"target\">{target}</td>\
             <td role=\"cell\" class=\"number\" data-name=\"measured\">{measured}</td>\
             <td role=\"cell\" class=\"verdict\">{sign}{verdict}</td>\
             <td role=\"cell\" class=\"number\" data-name=\"margin\">{margin}</td>\
             <td role=\"cell\" class=\"note\">{how}</td></tr>\n"
        )
    };
    let rows: String = lines.iter().map(row).collect();
    let case = lines.first().map_or("", |line| line.case.as_str());
    stacked(case, &format!("<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody>"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(target: Target, measured: Option<f64>, how: How) -> SeedLine {
        SeedLine { case: "chat".to_owned(), what: "p99".to_owned(), target, unit: "ms".to_owned(), measured, how }
    }

    #[test]
    fn only_what_ran_passes() {
        let projected = || How::Projected { from: "1,000/s".to_owned() };
        let not_run = || How::NotRun { why: "4 cores are needed".to_owned() };
        let most = Target::Most(50.0);
        let verdicts = [
            (line(most, Some(4.4), How::Ran), "pass"),
            (line(most, Some(54.4), How::Ran), "FAIL"),
            (line(most, None, How::Ran), "FAIL"),
            (line(most, Some(f64::NAN), How::Ran), "FAIL"),
            (line(most, Some(4.4), projected()), "projected"),
            (line(most, Some(54.4), projected()), "projected: FAIL"),
            (line(most, Some(4.4), not_run()), "not run"),
            (line(Target::Fact, Some(4.4), How::Ran), ""),
        ];
        for (line, verdict) in verdicts {
            assert_eq!(line.verdict(), verdict, "{line:?}");
            assert_eq!(all_pass(&[line]), matches!(verdict, "pass" | ""));
        }
        // What was not run has no value, even if somebody wrote one down.
        assert_eq!(line(most, Some(4.4), not_run()).margin_percent(), None);
    }

    #[test]
    fn margins_are_on_the_targets_good_side() {
        let margin = |target, measured| line(target, Some(measured), How::Ran).margin_percent();
        assert_eq!(margin(Target::Most(50.0), 40.0), Some(20.0));
        assert_eq!(margin(Target::Most(50.0), 60.0), Some(-20.0));
        assert_eq!(margin(Target::Least(5000.0), 5500.0), Some(10.0));
        assert_eq!(margin(Target::Most(0.0), 0.0), None);
        assert_eq!(margin(Target::Fact, 1.0), None);
    }

    #[test]
    fn the_tables_have_every_line_and_the_sum() {
        let mut lines =
            vec![line(Target::Most(50.0), Some(4.358), How::Ran), line(Target::Most(10.0), Some(15.786), How::Ran)];
        let from = "1,000/s on <one> core".to_owned();
        lines.push(SeedLine {
            case: "gateway".to_owned(),
            ..line(Target::Least(5000.0), Some(5000.0), How::Projected { from })
        });
        let told = text(&lines);
        for words in
            ["≤ 50 ms", "4.358 ms", "pass", "+91 %", "FAIL", "−58 %", "from 1,000/s on <one> core", "\ngateway\n"]
        {
            assert!(told.contains(words), "{words}: {told}");
        }
        assert!(told.ends_with("\n1 pass, 1 FAIL, 1 projected to hold\n"), "{told}");
        let page = html(&[("command".to_owned(), "annulus-bench seeds".to_owned())], &lines);
        for words in ["✓ pass", "✗ FAIL", "on &lt;one&gt; core", "annulus-bench seeds", "verdict miss"] {
            assert!(page.contains(words), "{words}");
        }
    }
}
