//! JSON (RFC 8259) into the tree. Stricter than none, but with words for what people write by habit: comments,
//! trailing commas, single quotes.

use super::report::Report;
use super::tree::{DEPTH_MAX, Lines, Member, Node, Place, Value, insert};

/// The tree of a text; `None` after a syntax error, which the report then has.
pub fn parse(text: &str, report: &mut Report) -> Option<Node> {
    let mut parser = Parser { text, at: 0, lines: Lines::new(text), report };
    parser.eat("\u{feff}");
    match parser.document() {
        Ok(root) => Some(root),
        Err(error) => {
            let at = parser.lines.place(error.at);
            parser.report.problem(at, "", error.says);
            None
        }
    }
}

struct Error {
    at: usize,
    says: String,
}

struct Parser<'t, 'r> {
    text: &'t str,
    at: usize,
    lines: Lines<'t>,
    report: &'r mut Report,
}

impl Parser<'_, '_> {
    fn document(&mut self) -> Result<Node, Error> {
        self.skip_space();
        let root = self.value(0)?;
        self.skip_space();
        if self.at < self.text.len() { self.expected("the end of the file after its one value") } else { Ok(root) }
    }

    fn value(&mut self, depth: usize) -> Result<Node, Error> {
        let at = self.place();
        let value = match self.peek() {
            Some('{' | '[') if depth == DEPTH_MAX => {
                return self.fail(self.at, format!("objects and lists are more than {DEPTH_MAX} deep here"));
            }
            Some('{') => self.object(depth)?,
            Some('[') => self.array(depth)?,
            Some('"') => Value::String(self.string()?),
            Some('-' | '0'..='9') => Value::Number(self.number()?),
            _ if self.eat("true") => Value::Bool(true),
            _ if self.eat("false") => Value::Bool(false),
            _ if self.eat("null") => Value::Null,
            _ => return self.expected("a value"),
        };
        Ok(Node { value, at })
    }

    fn object(&mut self, depth: usize) -> Result<Value, Error> {
        let mut members = Vec::new();
        self.at += 1;
        self.skip_space();
        if self.eat("}") {
            return Ok(Value::Object(members));
        }
        loop {
            let at = self.place();
            if self.peek() != Some('"') {
                return self.expected("a key in double quotes");
            }
            let name = self.string()?;
            self.skip_space();
            if !self.eat(":") {
                return self.expected("a colon after the key");
            }
            self.skip_space();
            let value = self.value(depth + 1)?;
            insert(&mut members, Member { name, at, value }, self.report);
            if self.ends_with('}')? {
                return Ok(Value::Object(members));
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<Value, Error> {
        let mut values = Vec::new();
        self.at += 1;
        self.skip_space();
        if self.eat("]") {
            return Ok(Value::Array(values));
        }
        loop {
            values.push(self.value(depth + 1)?);
            if self.ends_with(']')? {
                return Ok(Value::Array(values));
            }
        }
    }

    /// Goes past a comma (`false`) or the closing bracket (`true`).
    fn ends_with(&mut self, close: char) -> Result<bool, Error> {
        self.skip_space();
        if self.peek() == Some(close) {
            self.at += 1;
            return Ok(true);
        }
        let comma = self.at;
        if !self.eat(",") {
            return self.expected(&format!("a comma or {close:?}"));
        }
        self.skip_space();
        if self.peek() == Some(close) {
            return self.fail(comma, format!("a comma before {close:?}: JSON allows none after the last entry"));
        }
        Ok(false)
    }

    fn string(&mut self) -> Result<String, Error> {
        let opened = self.at;
        let mut text = String::new();
        self.at += 1;
        loop {
            let rest = &self.text[self.at..];
            let plain = rest.find(|c: char| c == '"' || c == '\\' || c < ' ').unwrap_or(rest.len());
            text.push_str(&rest[..plain]);
            self.at += plain;
            match self.peek() {
                Some('"') => {
                    self.at += 1;
                    return Ok(text);
                }
                Some('\\') => text.push(self.escape()?),
                Some('\n' | '\r') | None => return self.fail(opened, "a text that its line does not end with a quote"),
                Some(control) => {
                    let says = format!("a control character in a text: write it as \\u{:04x}", u32::from(control));
                    return self.fail(self.at, says);
                }
            }
        }
    }

    fn escape(&mut self) -> Result<char, Error> {
        let at = self.at;
        let letter = self.text[at + 1..].chars().next();
        self.at += 1 + letter.map_or(0, char::len_utf8);
        Ok(match letter {
            Some('"') => '"',
            Some('\\') => '\\',
            Some('/') => '/',
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('u') => return self.unicode(at),
            _ => return self.fail(at, "an escape that JSON does not have: a backslash itself is written \\\\"),
        })
    }

    /// After `\u`. Characters beyond U+FFFF come as a pair of surrogates (RFC 8259 section 7).
    fn unicode(&mut self, at: usize) -> Result<char, Error> {
        let high = self.hexadecimal(at)?;
        let code = if (0xd800..0xdc00).contains(&high) && self.eat("\\u") {
            let low = self.hexadecimal(at)?;
            match (0xdc00..0xe000).contains(&low) {
                true => 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00),
                false => high,
            }
        } else {
            high
        };
        match char::from_u32(code) {
            Some(character) => Ok(character),
            None => self.fail(at, "half of a surrogate pair: both halves are needed"),
        }
    }

    fn hexadecimal(&mut self, at: usize) -> Result<u32, Error> {
        let digits = self.text.as_bytes().get(self.at..self.at + 4).unwrap_or_default();
        if digits.len() < 4 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return self.fail(at, "\\u must be followed by four hexadecimal digits");
        }
        self.at += 4;
        Ok(digits.iter().fold(0, |code, digit| code * 16 + char::from(*digit).to_digit(16).unwrap_or(0)))
    }

    fn number(&mut self) -> Result<String, Error> {
        let rest = &self.text[self.at..];
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && !"+-.".contains(c)).unwrap_or(rest.len());
        let number = &rest[..end];
        if !is_number(number) {
            return self.fail(self.at, format!("{number:?} is not a number as JSON writes them"));
        }
        self.at += end;
        Ok(number.to_owned())
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn eat(&mut self, what: &str) -> bool {
        let eaten = self.text[self.at..].starts_with(what);
        self.at += if eaten { what.len() } else { 0 };
        eaten
    }

    fn skip_space(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.find(|c: char| !" \t\r\n".contains(c)).unwrap_or(rest.len());
    }

    fn place(&self) -> Place {
        self.lines.place(self.at)
    }

    fn expected<T>(&self, what: &str) -> Result<T, Error> {
        let found = match self.peek() {
            None => "the end of the file".to_owned(),
            Some('/' | '#') => {
                "a comment. JSON has none: use a key that starts with #, or write the file as YAML".into()
            }
            Some('\'') => "a single quote. JSON has only double ones".to_owned(),
            Some(other) => format!("{other:?}"),
        };
        self.fail(self.at, format!("expected {what}, found {found}"))
    }

    fn fail<T>(&self, at: usize, says: impl Into<String>) -> Result<T, Error> {
        Err(Error { at, says: says.into() })
    }
}

/// Whether a text is a number as RFC 8259 section 6 has them.
pub fn is_number(text: &str) -> bool {
    fn digits(text: &str) -> (usize, &str) {
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        (end, &text[end..])
    }
    let text = text.strip_prefix('-').unwrap_or(text);
    let (whole, mut rest) = digits(text);
    if whole == 0 || (whole > 1 && text.starts_with('0')) {
        return false;
    }
    if let Some(fraction) = rest.strip_prefix('.') {
        let (count, after) = digits(fraction);
        if count == 0 {
            return false;
        }
        rest = after;
    }
    let Some(exponent) = rest.strip_prefix(['e', 'E']) else { return rest.is_empty() };
    let (count, after) = digits(exponent.strip_prefix(['+', '-']).unwrap_or(exponent));
    count > 0 && after.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        let mut report = Report::new("a.json", false);
        parse(text, &mut report);
        report.finish().0.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_read_is_what_was_written() {
        let text =
            "\u{feff} { \"a\\u00e4\\ud83d\\ude00\\n\" : [ 1, -0.5e+3, true, false, null, {}, [] ], \"b\":\"\" } ";
        let mut report = Report::new("a.json", false);
        let root = parse(text, &mut report).unwrap();
        assert_eq!(root.value.to_json(), "{\"aä😀\\n\":[1,-0.5e+3,true,false,null,{},[]],\"b\":\"\"}");
        assert_eq!(report.problem_count(), 0);
    }

    #[test]
    fn errors_say_where_and_what() {
        for (text, says) in [
            ("", "a.json:1:1: expected a value, found the end of the file"),
            ("{\n  // no\n}", "a.json:2:3: expected a key in double quotes, found a comment. JSON has none"),
            ("{\"a\": 1,\n}", "a.json:1:8: a comma before '}'"),
            ("[1 2]", "a.json:1:4: expected a comma or ']', found '2'"),
            ("{'a': 1}", "a.json:1:2: expected a key in double quotes, found a single quote"),
            ("{\"ä\": x}", "a.json:1:7: expected a value, found 'x'"),
            ("{\"a\" 1}", "a.json:1:6: expected a colon after the key, found '1'"),
            ("[01]", "a.json:1:2: \"01\" is not a number"),
            ("[1.]", "a.json:1:2: \"1.\" is not a number"),
            ("[\"a\nb\"]", "a.json:1:2: a text that its line does not end"),
            ("[\"\\x\"]", "a.json:1:3: an escape that JSON does not have"),
            ("[\"\\ud800\"]", "a.json:1:3: half of a surrogate pair"),
            ("[\"\\ud800\\u0041\"]", "a.json:1:3: half of a surrogate pair"),
            ("[\"\\u12g4\"]", "a.json:1:3: \\u must be followed"),
            ("[\"\t\"]", "a.json:1:3: a control character in a text: write it as \\u0009"),
            ("[] []", "a.json:1:4: expected the end of the file"),
            ("{\"a\":1,\n\"a\":2}", "a.json:2:1: the key \"a\" is here twice: line 1 has it already"),
        ] {
            let problems = problems(text);
            assert_eq!(problems.len(), 1, "{text:?}: {problems:?}");
            assert!(problems[0].starts_with(says), "{text:?}: {}", problems[0]);
        }
        let deep = "[".repeat(10_000);
        assert!(problems(&deep)[0].contains("more than 64 deep"), "{:?}", problems(&deep));
    }

    #[test]
    fn numbers_are_those_of_the_rfc() {
        for good in ["0", "-0", "10", "1.5", "1e5", "1E-5", "0.1e+7"] {
            assert!(is_number(good), "{good}");
        }
        for bad in ["", "-", "00", "01", ".5", "5.", "1e", "1e+", "+1", "0x1", "1_000", "inf"] {
            assert!(!is_number(bad), "{bad}");
        }
    }
}
