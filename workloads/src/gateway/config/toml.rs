//! TOML into the tree, from the library's own tree of spans. Members come back into the file's order; dates are texts.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::json;
use super::report::Report;
use super::tree::{DEPTH_MAX, Lines, Member, Node, Place, Value, insert};

/// The tree of a text; `None` after syntax errors, all of which the report then has.
pub fn parse(text: &str, report: &mut Report) -> Option<Node> {
    let text = text.trim_start_matches('\u{feff}');
    let lines = Lines::new(text);
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let at = lines.place(error.span().map_or(0, |span| span.start));
        report.problem(at, "", error.message());
    }
    if !errors.is_empty() {
        return None;
    }
    let mut builder = Builder { lines, report };
    Some(Node { value: builder.table(table.get_ref(), 0), at: Place::START })
}

struct Builder<'t, 'r> {
    lines: Lines<'t>,
    report: &'r mut Report,
}

impl Builder<'_, '_> {
    fn table(&mut self, table: &DeTable<'_>, depth: usize) -> Value {
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        let mut members = Vec::new();
        for (key, value) in entries {
            let at = self.lines.place(key.span().start);
            let value = self.node(value, depth + 1);
            insert(&mut members, Member { name: key.get_ref().to_string(), at, value }, self.report);
        }
        Value::Object(members)
    }

    fn node(&mut self, value: &Spanned<DeValue<'_>>, depth: usize) -> Node {
        let at = self.lines.place(value.span().start);
        let value = match value.get_ref() {
            _ if depth > DEPTH_MAX => {
                self.report.problem(at, "", format!("objects and lists are more than {DEPTH_MAX} deep here"));
                Value::Null
            }
            DeValue::String(text) => Value::String(text.to_string()),
            DeValue::Boolean(value) => Value::Bool(*value),
            DeValue::Datetime(time) => Value::String(time.to_string()),
            DeValue::Array(values) => Value::Array(values.iter().map(|value| self.node(value, depth + 1)).collect()),
            DeValue::Table(table) => self.table(table, depth),
            DeValue::Integer(number) => match i128::from_str_radix(number.as_str(), number.radix()) {
                Ok(number) => Value::Number(number.to_string()),
                Err(_) => self.refuse(at, number.as_str()),
            },
            DeValue::Float(number) => self.float(at, number.as_str()),
        };
        Node { value, at }
    }

    fn float(&mut self, at: Place, text: &str) -> Value {
        if json::is_number(text) {
            return Value::Number(text.to_owned());
        }
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Value::Number(number.to_string()),
            _ => self.refuse(at, text),
        }
    }

    fn refuse(&mut self, at: Place, number: &str) -> Value {
        self.report.problem(at, "", format!("{number} is a number that no key takes"));
        Value::Null
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Option<String>, Vec<String>) {
        let mut report = Report::new("a.toml", false);
        let root = parse(text, &mut report);
        let problems = report.finish().0.iter().map(ToString::to_string).collect();
        (root.map(|root| root.value.to_json()), problems)
    }

    #[test]
    fn the_files_order_is_kept() {
        let text = "z = 1_000\na = 0x1f\nf = 1.50\ng = +2.0\nd = 2020-01-01\n[t.\"q/r\"]\nx = true\n[[l]]\nk = \"v\"\n[[l]]\nb = []\n";
        let json = "{\"z\":1000,\"a\":31,\"f\":1.50,\"g\":2,\"d\":\"2020-01-01\",\"t\":{\"q/r\":{\"x\":true}},\
            \"l\":[{\"k\":\"v\"},{\"b\":[]}]}";
        assert_eq!(read(text), (Some(json.to_owned()), vec![]));
    }

    #[test]
    fn errors_say_where_and_what() {
        for (text, says) in [
            ("a = 1\na = 2\n", "a.toml:2:1: "),
            ("a = \n", "a.toml:1:"),
            ("\n\n  b = [1\n", "a.toml:3:"),
            ("a = inf\n", "a.toml:1:5: inf is a number that no key takes"),
        ] {
            let (_, problems) = read(text);
            assert!(problems[0].starts_with(says), "{text:?}: {problems:?}");
        }
    }
}
