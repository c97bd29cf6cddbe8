//! A plot as HTML: a drawing that stretches to any width, with text that does not.
//!
//! The SVG has no size of its own: places are percentages of it, so that letters and marks keep their size on a phone.
//! Curves are in a nested drawing of 1000 by 1000, which is stretched, with strokes that are not.
//!
//! ```text
//!   heading                        <h3>
//!   ■ ours  ▲ theirs  ── solid     legend
//!   latency                        the vertical axis' name and unit
//!   10 ms ┤      ,--               ticks, grid, curves, marks with tooltips
//!    1 ms ┤ ----'
//!         └─┬────┬────┬─
//!           50   90   99  %        ticks, and the axis' name and unit
//!   caption
//! ```

use super::scale::Tick;
use std::fmt::Write;

/// So many sides have a colour and a mark of their own; the next ones begin again.
pub const COLOURS: usize = 6;

/// Letters of a name within a drawing, at most: a longer one would leave it on a narrow screen.
const SHORT: usize = 16;

/// Everything about a plot.
pub struct Figure<'a> {
    /// Unique in the page.
    pub id: &'a str,
    /// What it shows.
    pub heading: &'a str,
    /// Whose it is, where it is one side's.
    pub side: Option<usize>,
    /// The same for those who do not see it.
    pub description: String,
    /// Name and unit of the vertical axis.
    pub vertical: &'a str,
    /// Name and unit of the horizontal axis.
    pub horizontal: &'a str,
    /// In pixels.
    pub height: u32,
    /// Ticks from the bottom.
    pub rows: Vec<Tick>,
    /// Ticks from the left.
    pub columns: Vec<Tick>,
    /// What is drawn, over the grid.
    pub content: String,
    /// HTML.
    pub legend: String,
    /// HTML.
    pub caption: String,
}

impl Figure<'_> {
    /// The plot.
    pub fn html(&self) -> String {
        let Figure { id, heading, description, vertical, horizontal, height, content, legend, caption, .. } = self;
        let (heading, description) = (escape(heading), escape(description));
        let whose = self.side.map(swatch).unwrap_or_default();
        let mut grid = String::new();
        for tick in &self.rows {
            let at = percent(1.0 - tick.at);
            let class = if tick.label.is_empty() { "grid faint" } else { "grid" };
            let _infallible = write!(grid, r#"<line class="{class}" x2="100%" y1="{at}" y2="{at}"/>"#);
            if !tick.label.is_empty() {
                let label = escape(&tick.label);
                let _infallible = write!(grid, r#"<text class="row" x="-8" y="{at}" dy=".32em">{label}</text>"#);
            }
        }
        for tick in &self.columns {
            let at = percent(tick.at);
            let _infallible = write!(grid, r#"<line class="grid upright" x1="{at}" x2="{at}" y2="100%"/>"#);
            if !tick.label.is_empty() {
                let class = if tick.is_strong { "column" } else { "column weak" };
                // In the middle of the edge, a long one would leave the figure.
                let class = if tick.at > 0.98 { "column last" } else { class };
                let label = escape(&tick.label);
                let _infallible = write!(grid, r#"<text class="{class}" x="{at}" y="100%" dy="17">{label}</text>"#);
            }
        }
        let caption = if caption.is_empty() { String::new() } else { format!("<figcaption>{caption}</figcaption>") };
        format!(
            r#"<figure id="{id}"><h3>{whose}{heading}</h3>{legend}<p class="axis">{vertical}</p>
<svg class="plot" role="img" aria-labelledby="{id}-title {id}-desc" style="height:{height}px">
<title id="{id}-title">{heading}</title><desc id="{id}-desc">{description}</desc>
{grid}<line class="edge" x2="100%" y1="100%" y2="100%"/>
{content}</svg><p class="axis below">{horizontal}</p>{caption}</figure>
"#
        )
    }
}

/// A place where a plot would be, and why there is none.
pub fn absent(id: &str, heading: &str, why: &str) -> String {
    let (heading, why) = (escape(heading), escape(why));
    format!("<figure id=\"{id}\"><h3>{heading}</h3><p class=\"absent\">{why}</p></figure>\n")
}

/// Curves: what belongs to the nested drawing that is stretched.
pub fn stretched(content: &str) -> String {
    format!(
        r#"<svg class="curves" width="100%" height="100%" viewBox="0 0 1000 1000" preserveAspectRatio="none">{content}</svg>"#
    )
}

/// A curve through places between 0 and 1, counted from the left and from the bottom; nothing without at least one.
pub fn curve(class: &str, stretches: &[Vec<(f64, f64)>]) -> String {
    let mut path = String::new();
    for stretch in stretches {
        for (index, (x, y)) in stretch.iter().enumerate() {
            let command = if index == 0 { "M" } else { "L" };
            let _infallible = write!(path, "{command}{} {}", thousandth(*x), thousandth(1.0 - y));
        }
        // A lone point is drawn as a dot, by the round ends of its line.
        if stretch.len() == 1 {
            path.push_str("h0");
        }
    }
    if path.is_empty() { path } else { format!(r#"<path class="curve {class}" d="{path}"/>"#) }
}

/// A side's mark at a place, with a tooltip.
pub fn mark(side: usize, x: f64, y: f64, words: &str) -> String {
    let (number, x, y) = (side % COLOURS, percent(x), percent(1.0 - y));
    let title = if words.is_empty() { String::new() } else { format!("<title>{}</title>", escape(words)) };
    format!("<use href=\"#m{number}\" class=\"mark s{number}\" x=\"{x}\" y=\"{y}\">{title}</use>")
}

/// An invisible column with a tooltip.
pub fn hover(x: f64, width: f64, words: &str) -> String {
    let (x, width, words) = (percent(x), percent(width), escape(words));
    format!("<rect class=\"hover\" x=\"{x}\" width=\"{width}\" height=\"100%\"><title>{words}</title></rect>\n")
}

/// A hatched stretch in place of figures that are refused.
pub fn refused(x: f64, width: f64, height: &str, short: &str, words: &str) -> String {
    let middle = percent(x + width / 2.0);
    let (x, width, short, words) = (percent(x), percent(width), escape(short), escape(words));
    format!(
        "<g class=\"refused\"><rect x=\"{x}\" width=\"{width}\" height=\"{height}\"><title>{words}</title></rect>\
         <text x=\"{middle}\" y=\"17\">{short}</text></g>\n"
    )
}

/// A legend's entry for a side.
pub fn side_key(side: usize, name: &str) -> String {
    format!("<li>{}{}</li>", swatch(side), escape(name))
}

/// A side's mark and colour, in a line of text.
pub fn swatch(side: usize) -> String {
    let number = side % COLOURS;
    format!(
        "<svg class=\"swatch s{number}\" viewBox=\"-12 -7 24 14\" aria-hidden=\"true\"><path d=\"M-12 0H12\"/>\
         <use href=\"#m{number}\" class=\"mark s{number}\"/></svg>"
    )
}

/// A legend's entry for a kind of line: `solid`, `dashed`, `dotted`, `shade`, `hatch`.
pub fn line_key(kind: &str, words: &str) -> String {
    let drawing = match kind {
        "shade" => "<rect class=\"uncounted\" x=\"-12\" y=\"-6\" width=\"24\" height=\"12\"/>".to_owned(),
        "hatch" => "<rect class=\"hatched\" x=\"-12\" y=\"-6\" width=\"24\" height=\"12\"/>".to_owned(),
        kind => format!("<path class=\"{kind}\" d=\"M-12 0H12\"/>"),
    };
    format!(
        "<li><svg class=\"swatch line\" viewBox=\"-12 -7 24 14\" aria-hidden=\"true\">{drawing}</svg>{}</li>",
        escape(words)
    )
}

/// A legend of entries.
pub fn legend(entries: &str) -> String {
    format!("<ul class=\"legend\">{entries}</ul>")
}

/// The drawings that others refer to: one mark per colour, and the hatching.
pub const SHARED: &str = r##"<svg class="shared" aria-hidden="true"><defs>
<circle id="m0" r="4"/><path id="m1" d="M0 -5L5 4H-5z"/><rect id="m2" x="-3.7" y="-3.7" width="7.4" height="7.4"/>
<path id="m3" d="M0 -5.4L5.4 0L0 5.4L-5.4 0z"/><path id="m4" d="M0 5L5 -4H-5z"/>
<path id="m5" d="M-1.6 -5h3.2v3.4h3.4v3.2h-3.4v3.4h-3.2v-3.4h-3.4v-3.2h3.4z"/>
<pattern id="hatch" width="8" height="8" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">
<rect class="hatch-paper" width="8" height="8"/><rect class="hatch-line" width="2.5" height="8"/></pattern>
</defs></svg>
"##;

/// A name that fits into a drawing.
pub fn short(name: &str) -> String {
    if name.chars().count() <= SHORT {
        return name.to_owned();
    }
    name.chars().take(SHORT - 1).chain(['…']).collect()
}

/// Text that means nothing to HTML.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            letter => escaped.push(letter),
        }
    }
    escaped
}

/// A place between 0 and 1 as a percentage.
pub fn percent(at: f64) -> String {
    format!("{}%", trimmed(at * 100.0))
}

fn thousandth(at: f64) -> String {
    trimmed(at * 1000.0)
}

fn trimmed(value: f64) -> String {
    let text = format!("{value:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_stays_text() {
        assert_eq!(escape("<b a=\"1\" b='2'>&"), "&lt;b a=&quot;1&quot; b=&#39;2&#39;&gt;&amp;");
        assert!(hover(0.0, 1.0, "</title><script>").contains("&lt;/title&gt;&lt;script&gt;"));
    }

    #[test]
    fn curves_are_counted_from_the_bottom() {
        let path = curve("s0", &[vec![(0.0, 0.0), (0.5, 0.25)], vec![(1.0, 1.0)]]);
        assert_eq!(path, r#"<path class="curve s0" d="M0 1000L500 750M1000 0h0"/>"#);
        assert_eq!(curve("s0", &[]), "");
        assert_eq!(percent(1.0 / 3.0), "33.33%");
    }
}
