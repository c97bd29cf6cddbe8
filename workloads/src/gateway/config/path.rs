//! Paths as they are written: an endpoint's with its parameters, a backend's with the places for them.

use super::model::{Piece, Segment, Template};
use crate::nearest::nearest;

/// The name of a trailing `/*`.
pub const WILDCARD: &str = "wildcard";

/// An endpoint's path: `/users/{id}/*`. A trailing slash is an empty last literal.
///
/// # Errors
/// A sentence.
pub fn endpoint(text: &str) -> Result<Vec<Segment>, String> {
    let Some(path) = text.strip_prefix('/') else {
        return Err(format!("expected a path that starts with a slash, found {text:?}"));
    };
    if path.is_empty() {
        return Ok(Vec::new());
    }
    if let Some(other) = path.chars().find(|c| !c.is_ascii_graphic() || "?#%&\\\"<>^`|".contains(*c)) {
        return Err(format!("the character {other:?} cannot be part of an endpoint's path"));
    }
    let count = path.split('/').count();
    let mut segments: Vec<Segment> = Vec::with_capacity(count);
    for (index, text) in path.split('/').enumerate() {
        let segment = segment(text, index + 1 == count)?;
        if let Some(name) = segment.parameter()
            && segments.iter().any(|other| other.parameter() == Some(name))
        {
            return Err(format!("the parameter {{{name}}} is in this path twice"));
        }
        segments.push(segment);
    }
    Ok(segments)
}

fn segment(text: &str, is_last: bool) -> Result<Segment, String> {
    if let Some(name) = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) {
        return match is_parameter(name) {
            true => Ok(Segment::Parameter(name.to_owned())),
            false => Err(format!("{{{name}}} is not a placeholder: letters, digits, hyphens and underscores name one")),
        };
    }
    if text.contains(['{', '}']) {
        return Err(format!("a placeholder is a whole segment, as in /{{id}}/: {text:?} mixes it with other text"));
    }
    match text {
        "" if !is_last => Err("there are two slashes with nothing between them".to_owned()),
        "." | ".." => Err(format!("{text:?} is not a segment that a client could ask for")),
        "*" if is_last => Ok(Segment::Wildcard(WILDCARD.to_owned())),
        _ if text.contains('*') => Err("a wildcard is /* at the path's end, and nowhere else".to_owned()),
        _ => Ok(Segment::Literal(text.to_owned())),
    }
}

fn is_parameter(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

/// What the placeholders of a backend may be.
pub struct Names<'a> {
    /// The endpoint's parameters, in order; `None` if its path could not be read.
    pub parameters: Option<Vec<&'a str>>,
    /// The backend's own number.
    pub backend: usize,
    /// Whether nobody waits for its answer.
    pub is_shadow: bool,
    /// Whether backends are asked one after another.
    pub sequential: bool,
    /// Whether clients must show a token.
    pub has_token: bool,
}

/// A backend's `url_pattern`.
///
/// # Errors
/// Sentences, one for each thing that is wrong.
pub fn template(text: &str, names: &Names<'_>) -> Result<Template, Vec<String>> {
    let mut errors = Vec::new();
    if let Some(other) = text.chars().find(|c| !c.is_ascii_graphic() || "#\\\"<>^`|".contains(*c)) {
        errors.push(format!("the character {other:?} cannot be part of it: percent-encode it, as in %20"));
    }
    let (path, query) = text.split_once('?').unwrap_or((text, ""));
    // KrakenD puts the slash there too.
    let path = format!("/{}", path.strip_prefix('/').unwrap_or(path));
    let path = pieces(&path, names, &mut errors);
    let query = pieces(query, names, &mut errors);
    if errors.is_empty() { Ok(Template { source: text.to_owned(), path, query }) } else { Err(errors) }
}

fn pieces(text: &str, names: &Names<'_>, errors: &mut Vec<String>) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(open) = rest.find(['{', '}']) {
        let Some(length) = rest[open..].strip_prefix('{').and_then(|inside| inside.find(['{', '}'])) else {
            errors.push("a brace stands alone: a placeholder is {name}, and a brace itself is %7B or %7D".to_owned());
            return pieces;
        };
        let close = open + 1 + length;
        if rest[close..].starts_with('{') {
            errors.push("a brace within a placeholder: a placeholder is {name}".to_owned());
            return pieces;
        }
        if open > 0 {
            pieces.push(Piece::Literal(rest[..open].to_owned()));
        }
        match placeholder(&rest[open + 1..close], names) {
            Ok(piece) => pieces.push(piece),
            Err(error) => errors.push(error),
        }
        rest = &rest[close + 1..];
    }
    if !rest.is_empty() {
        pieces.push(Piece::Literal(rest.to_owned()));
    }
    pieces
}

fn placeholder(name: &str, names: &Names<'_>) -> Result<Piece, String> {
    if let Some(path) = name.strip_prefix("JWT.") {
        if !names.has_token {
            return Err(format!("{{{name}}} is a claim of the client's token: the endpoint needs auth/validator"));
        }
        return dotted(path).map(Piece::Claim).ok_or(format!("{{{name}}} names no claim"));
    }
    // A parameter of the endpoint that happens to look like an answer's place goes first, as in KrakenD.
    let parameters = names.parameters.as_deref();
    if let Some(index) = parameters.and_then(|known| known.iter().position(|known| *known == name)) {
        return Ok(Piece::Parameter(index));
    }
    if let Some((backend, path)) = response(name) {
        return from_response(name, backend, path, names);
    }
    let Some(known) = parameters else {
        // What is wrong with the endpoint's path is said already.
        return if is_parameter(name) { Ok(Piece::Parameter(0)) } else { Err(format!("{{{name}}} is no placeholder")) };
    };
    Err(match (nearest(name, known), known.is_empty()) {
        (Some(near), _) => format!("the endpoint's path has no {{{name}}}: did you mean {{{near}}}?"),
        (None, true) => format!("the endpoint's path has no {{{name}}}: it has no parameters"),
        (None, false) => {
            format!("the endpoint's path has no {{{name}}}; it has: {{{}}}", known.join("}, {"))
        }
    })
}

/// `resp0_a.b` is `(0, "a.b")`.
fn response(name: &str) -> Option<(usize, &str)> {
    let rest = name.strip_prefix("resp")?;
    let (number, path) = rest.split_once('_').unwrap_or((rest, ""));
    let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| number.parse().ok().map(|number| (number, path)))?
}

fn from_response(name: &str, backend: usize, path: &str, names: &Names<'_>) -> Result<Piece, String> {
    if names.is_shadow {
        return Err(format!("{{{name}}} is from another backend's answer, and a shadow is asked before there is any"));
    }
    if !names.sequential {
        return Err(format!(
            "{{{name}}} is from another backend's answer, and all are asked at once: set extra_config proxy.sequential"
        ));
    }
    if backend >= names.backend {
        return Err(match names.backend {
            0 => format!("{{{name}}} is from an earlier backend's answer, and this is the first"),
            own => format!(
                "{{{name}}} must be from an earlier answer: this is backend {own}, so resp0 to resp{} are there",
                own - 1
            ),
        });
    }
    let path = dotted(path).ok_or(format!("{{{name}}} names no member of the answer, as in {{resp{backend}_id}}"))?;
    Ok(Piece::Response { backend, path })
}

/// `a.b` is `["a", "b"]`; nothing between dots is not a path.
pub fn dotted(text: &str) -> Option<Vec<String>> {
    text.split('.').map(|name| (!name.is_empty()).then(|| name.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_paths() {
        use Segment::{Literal, Parameter, Wildcard};
        let owned = str::to_owned;
        for (text, expected) in [
            ("/", vec![]),
            ("/a", vec![Literal(owned("a"))]),
            ("/a/", vec![Literal(owned("a")), Literal(owned(""))]),
            ("/a/{b-c_1}/*", vec![Literal(owned("a")), Parameter(owned("b-c_1")), Wildcard(owned("wildcard"))]),
        ] {
            assert_eq!(endpoint(text), Ok(expected), "{text}");
        }
        for (text, says) in [
            ("", "starts with a slash"),
            ("a", "starts with a slash"),
            ("/a//b", "two slashes"),
            ("/a.{b}", "whole segment"),
            ("/{a}/{a}", "twice"),
            ("/{}", "is not a placeholder"),
            ("/{a b}", "the character ' '"),
            ("/*/a", "a wildcard is /* at the path's end"),
            ("/a*", "a wildcard is /* at the path's end"),
            ("/a/../b", "is not a segment"),
            ("/a?b", "the character '?'"),
            ("/ä", "the character 'ä'"),
        ] {
            let error = endpoint(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    fn names<'a>(parameters: &[&'a str], backend: usize, sequential: bool) -> Names<'a> {
        Names { parameters: Some(parameters.to_vec()), backend, is_shadow: false, sequential, has_token: true }
    }

    #[test]
    fn backends_patterns() {
        let template = template("a/{id}.json?x={resp0_a.b}&y={JWT.sub}&z=1", &names(&["n", "id"], 1, true)).unwrap();
        let literal = |text: &str| Piece::Literal(text.to_owned());
        assert_eq!(template.path, [literal("/a/"), Piece::Parameter(1), literal(".json")]);
        let response = Piece::Response { backend: 0, path: vec!["a".to_owned(), "b".to_owned()] };
        let claim = Piece::Claim(vec!["sub".to_owned()]);
        assert_eq!(template.query, [literal("x="), response, literal("&y="), claim, literal("&z=1")]);
        assert_eq!(super::template("/", &names(&[], 0, false)).unwrap().path, [literal("/")]);
        assert_eq!(super::template("/{resp0_a}", &names(&["resp0_a"], 0, false)).unwrap().path[1], Piece::Parameter(0));
    }

    #[test]
    fn backends_patterns_that_do_not_fit() {
        for (text, backend, sequential, says) in [
            ("/{idd}", 0, false, "has no {idd}: did you mean {id}?"),
            ("/{resp0_a}", 1, false, "set extra_config proxy.sequential"),
            ("/{resp0_a}", 0, true, "this is the first"),
            ("/{resp2_a}", 2, true, "this is backend 2, so resp0 to resp1 are there"),
            ("/{resp0_}", 1, true, "names no member"),
            ("/{resp0}", 1, true, "names no member"),
            ("/{resp0_a..b}", 1, true, "names no member"),
            ("/{JWT.}", 0, false, "names no claim"),
            ("/{a", 0, false, "a brace stands alone"),
            ("/a}", 0, false, "a brace stands alone"),
            ("/{{id}}", 0, false, "a brace within a placeholder"),
            ("/a b", 0, false, "the character ' '"),
            ("/a#b", 0, false, "the character '#'"),
            ("/{completely_else}", 0, false, "it has: {id}"),
        ] {
            let errors = template(text, &names(&["id"], backend, sequential)).unwrap_err();
            assert!(errors[0].contains(says), "{text}: {errors:?}");
        }
        let without_token = Names { has_token: false, ..names(&[], 0, false) };
        assert!(template("/{JWT.sub}", &without_token).unwrap_err()[0].contains("needs auth/validator"));
        let errors = template("/{a}/{b}", &names(&[], 0, false)).unwrap_err();
        assert_eq!(errors.len(), 2, "{errors:?}");
        assert!(errors[1].contains("it has no parameters"), "{errors:?}");
    }
}
