//! Colours, for eyes only: where the stream is a terminal, and `NO_COLOR` is not set (<https://no-color.org>).

use std::io::IsTerminal;

/// How one stream is written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paint {
    colours: bool,
}

impl Paint {
    /// Never any colour.
    pub const PLAIN: Paint = Paint { colours: false };

    /// What standard output is given.
    pub fn of_output() -> Paint {
        Paint { colours: std::io::stdout().is_terminal() && are_wanted() }
    }

    /// What standard error is given.
    pub fn of_errors() -> Paint {
        Paint { colours: std::io::stderr().is_terminal() && are_wanted() }
    }

    /// Titles.
    pub fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    /// What is beside the point.
    pub fn dim(self, text: &str) -> String {
        self.with("2", text)
    }

    /// What is as it should be.
    pub fn good(self, text: &str) -> String {
        self.with("32", text)
    }

    /// What somebody should know.
    pub fn notable(self, text: &str) -> String {
        self.with("33", text)
    }

    /// What has to be changed.
    pub fn bad(self, text: &str) -> String {
        self.with("31", text)
    }

    /// By a parameter of SGR (ECMA-48 section 8.3.117).
    fn with(self, parameter: &str, text: &str) -> String {
        if self.colours { format!("\x1b[{parameter}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

fn are_wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_without_colours_is_the_text() {
        assert_eq!(Paint::PLAIN.bad("no"), "no");
        assert_eq!(Paint { colours: true }.bad("no"), "\x1b[31mno\x1b[0m");
    }
}
