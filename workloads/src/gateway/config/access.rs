//! `access_log`: a word, or a pattern with variables.

use super::model::{AccessFormat, AccessPattern, AccessPiece, AccessVariable};
use super::read::Field;
use super::report::Report;
use super::tree::{Value, shortened};
use crate::nearest::nearest;

const VARIABLES: [(&str, AccessVariable); 16] = [
    ("time", AccessVariable::Time),
    ("time_apache", AccessVariable::TimeApache),
    ("time_ms", AccessVariable::TimeMillis),
    ("client", AccessVariable::Client),
    ("peer", AccessVariable::Peer),
    ("method", AccessVariable::Method),
    ("path", AccessVariable::Path),
    ("protocol", AccessVariable::Protocol),
    ("host", AccessVariable::Host),
    ("endpoint", AccessVariable::Endpoint),
    ("status", AccessVariable::Status),
    ("bytes", AccessVariable::Bytes),
    ("us", AccessVariable::Micros),
    ("seconds", AccessVariable::Seconds),
    ("id", AccessVariable::Id),
    ("why", AccessVariable::Why),
];

/// Apache's formats, in our variables. Nobody is known by name, and a path's query may hold tokens.
const KNOWN: [(&str, &str); 2] = [
    ("common", r#"$client - - [$time_apache] "$method $path $protocol" $status $bytes"#),
    (
        "combined",
        r#"$client - - [$time_apache] "$method $path $protocol" $status $bytes "${header:referer}" "${header:user-agent}""#,
    ),
];

/// Fields whose values let in whoever has them.
const SECRET: [&str; 5] = ["authorization", "cookie", "proxy-authorization", "set-cookie", "x-api-key"];

/// Bytes of a pattern. Beyond: it is refused.
const PATTERN_BYTES_MAX: usize = 4096;

/// Reads it.
pub fn format(field: &Field<'_>, report: &mut Report) -> Option<AccessFormat> {
    if matches!(field.node.value, Value::Object(_)) {
        let mut object = field.object(report)?;
        let format = object.need("format", report);
        object.finish(report);
        let format = format?;
        let text = format.text("a pattern such as \"$client $method $path $status\"", report)?;
        return match pieces(text) {
            Ok(pieces) => Some(AccessFormat::Pattern(AccessPattern { source: text.to_owned(), pieces })),
            Err(why) => {
                format.problem(why, report);
                None
            }
        };
    }
    let words = [("text", 0), ("json", 1), ("common", 2), ("combined", 3)];
    match field.one_of(&words, report)? {
        0 => Some(AccessFormat::Text),
        1 => Some(AccessFormat::Json),
        word => {
            let (name, text) = KNOWN[word - 2];
            let pieces = pieces(text).expect("ours are patterns");
            Some(AccessFormat::Pattern(AccessPattern { source: name.to_owned(), pieces }))
        }
    }
}

/// The parts of a pattern.
fn pieces(pattern: &str) -> Result<Vec<AccessPiece>, String> {
    if pattern.len() > PATTERN_BYTES_MAX {
        return Err(format!("a pattern has {PATTERN_BYTES_MAX} bytes at most"));
    }
    if pattern.contains(|c: char| c.is_control() && c != '\t') {
        return Err("a pattern makes one line: line ends and control characters cannot be in it".to_owned());
    }
    let (mut pieces, mut literal, mut rest) = (Vec::new(), String::new(), pattern);
    while let Some(at) = rest.find('$') {
        literal += &rest[..at];
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            literal.push('$');
            rest = after;
            continue;
        }
        let name = match rest.strip_prefix('{') {
            Some(inner) => {
                let end = inner.find('}').ok_or("the brace of a variable is not closed")?;
                rest = &inner[end + 1..];
                &inner[..end]
            }
            None => {
                let is_name = |c: char| c.is_ascii_lowercase() || c == '_';
                let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
                let (name, after) = rest.split_at(end);
                rest = after;
                name
            }
        };
        if !literal.is_empty() {
            pieces.push(AccessPiece::Literal(std::mem::take(&mut literal)));
        }
        pieces.push(variable(name)?);
    }
    literal += rest;
    if !literal.is_empty() {
        pieces.push(AccessPiece::Literal(literal));
    }
    match pieces.iter().any(|piece| !matches!(piece, AccessPiece::Literal(_))) {
        true => Ok(pieces),
        false => Err("there is no variable in it, such as $client: every line would be the same".to_owned()),
    }
}

fn variable(name: &str) -> Result<AccessPiece, String> {
    if name.is_empty() {
        return Err("behind a dollar there must be a variable's name, in lower case; $$ is a dollar".to_owned());
    }
    if let Some(header) = name.strip_prefix("header:") {
        let header = header.to_ascii_lowercase();
        let is_token = header.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte));
        if header.is_empty() || !is_token {
            return Err(format!("{:?} is not a header's name", shortened(&header)));
        }
        if SECRET.contains(&&header[..]) {
            return Err(format!("{header} lets in whoever has it, and is never logged"));
        }
        return Ok(AccessPiece::Header(header));
    }
    if let Some((_, variable)) = VARIABLES.iter().find(|(known, _)| *known == name) {
        return Ok(AccessPiece::Variable(*variable));
    }
    let known: Vec<&str> = VARIABLES.iter().map(|(name, _)| *name).collect();
    Err(match nearest(name, &known) {
        Some(near) => format!("there is no variable ${}: did you mean ${near}?", shortened(name)),
        None => format!(
            "there is no variable ${}; there are: ${}, ${{header:NAME}}, and $$ for a dollar",
            shortened(name),
            known.join(", $")
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_taken_apart() {
        let literal = |text: &str| AccessPiece::Literal(text.into());
        let variable = AccessPiece::Variable;
        assert_eq!(
            pieces("a$$b $client:${status}x\t\"${header:X-Y}\""),
            Ok(vec![
                literal("a$b "),
                variable(AccessVariable::Client),
                literal(":"),
                variable(AccessVariable::Status),
                literal("x\t\""),
                AccessPiece::Header("x-y".into()),
                literal("\""),
            ])
        );
        for (pattern, says) in [
            ("", "no variable"),
            ("plain $$", "no variable"),
            ("$clint", "did you mean $client?"),
            ("$", "$$ is a dollar"),
            ("$Client", "$$ is a dollar"),
            ("$something_else_entirely", "there are: $time"),
            ("${client", "not closed"),
            ("$client\n", "one line"),
            ("${header:Cookie}", "never logged"),
            ("${header:}", "not a header's name"),
            ("${header:a b}", "not a header's name"),
        ] {
            let refused = pieces(pattern).expect_err(pattern);
            assert!(refused.contains(says), "{pattern:?}: {refused}");
        }
        KNOWN.iter().for_each(|(_, pattern)| assert!(pieces(pattern).is_ok()));
    }
}
