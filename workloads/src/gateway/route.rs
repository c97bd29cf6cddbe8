//! Which endpoint a request is for: a tree over the segments of paths.
//!
//! ```text
//!   /shop ─ /cart ─ GET: 0, POST: 1
//!        └─ /{id} ─ GET: 2          a literal is tried before a parameter, a parameter before the rest
//!        └─ *     ─ GET: 3
//! ```
//!
//! Parameters are percent-decoded. One that then holds a slash, a query's or fragment's beginning, a control character,
//! or is a dot segment could lead a backend somewhere else, and is refused.

use std::collections::HashMap;

use super::config::model::{Endpoint, Method, Segment};
use crate::percent::decode;

/// Deepest path that is looked at, in segments. Beyond: not found.
const SEGMENTS_MAX: usize = 64;

/// Where a request goes.
#[derive(Debug, PartialEq, Eq)]
pub enum Route {
    /// To this endpoint, with these values of its parameters.
    Found(usize, Vec<String>),
    /// There is an endpoint at this path, which differs from the request's by a slash at its end.
    OtherSlash(String),
    /// There is such a path, with other methods: for `Allow`.
    OtherMethods(Vec<Method>),
    /// There is no such path.
    NotFound,
    /// A parameter's value is dangerous.
    BadParameter,
}

/// What becomes of a path that differs from an endpoint's by a slash at its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TrailingSlash {
    /// The client is sent there, as KrakenD does.
    #[default]
    Redirected,
    /// It is another path.
    Strict,
}

#[derive(Default)]
struct Branch {
    literals: HashMap<String, Branch>,
    parameter: Option<Box<Branch>>,
    rest: Vec<(Method, usize)>,
    here: Vec<(Method, usize)>,
}

/// All endpoints by path and method.
#[derive(Default)]
pub struct Router {
    root: Branch,
    trailing: TrailingSlash,
}

impl Router {
    /// Of endpoints, found again by their index.
    pub fn new(endpoints: &[Endpoint], trailing: TrailingSlash) -> Router {
        let mut router = Router { root: Branch::default(), trailing };
        for (index, endpoint) in endpoints.iter().enumerate() {
            let mut branch = &mut router.root;
            let mut at = None;
            for segment in &endpoint.path {
                branch = match segment {
                    Segment::Literal(text) => branch.literals.entry(text.clone()).or_default(),
                    Segment::Parameter(_) => branch.parameter.get_or_insert_default(),
                    Segment::Wildcard(_) => {
                        at = Some(&mut branch.rest);
                        break;
                    }
                };
            }
            match at {
                Some(rest) => rest.push((endpoint.method, index)),
                None => branch.here.push((endpoint.method, index)),
            }
        }
        router
    }

    /// Where a request for `path`, as it was sent, goes.
    pub fn find(&self, method: &str, path: &str) -> Route {
        let Some(segments) = segments(path) else { return Route::NotFound };
        let mut search = Search::new(method);
        if let Some(index) = search.descend(&self.root, &segments) {
            return Route::Found(index, search.taken);
        }
        // Before other methods, as with KrakenD.
        let other = other_slash(path).filter(|_| self.trailing == TrailingSlash::Redirected);
        match other.filter(|other| self.leads(method, other)) {
            _ if search.bad => Route::BadParameter,
            Some(other) => Route::OtherSlash(other),
            None if search.others.is_empty() => Route::NotFound,
            None => Route::OtherMethods(search.others),
        }
    }

    /// Whether there is an endpoint for a path.
    fn leads(&self, method: &str, path: &str) -> bool {
        segments(path).is_some_and(|segments| Search::new(method).descend(&self.root, &segments).is_some())
    }
}

/// What is between slashes; `None` if it is no path, or one that is too deep.
fn segments(path: &str) -> Option<Vec<&str>> {
    let path = path.strip_prefix('/')?;
    let segments: Vec<&str> = if path.is_empty() { Vec::new() } else { path.split('/').collect() };
    (segments.len() <= SEGMENTS_MAX).then_some(segments)
}

/// The path with a slash at its end if it has none, without if it has one. None for one that begins with two slashes:
/// as a reference that would name another host (RFC 3986 section 4.2).
fn other_slash(path: &str) -> Option<String> {
    match path.strip_suffix('/') {
        _ if path.starts_with("//") => None,
        Some("") => None,
        Some(without) => Some(without.to_owned()),
        None => Some(format!("{path}/")),
    }
}

struct Search<'a> {
    method: &'a str,
    taken: Vec<String>,
    others: Vec<Method>,
    bad: bool,
}

impl Search<'_> {
    fn new(method: &str) -> Search<'_> {
        Search { method, taken: Vec::new(), others: Vec::new(), bad: false }
    }

    fn descend(&mut self, branch: &Branch, segments: &[&str]) -> Option<usize> {
        let Some((&first, others)) = segments.split_first() else {
            return self.choose(&branch.here).or_else(|| {
                let index = self.choose(&branch.rest)?;
                self.taken.push(String::new());
                Some(index)
            });
        };
        let decoded = decode(first);
        if let Some(text) = &decoded
            && let Some(next) = branch.literals.get(text)
            && let Some(index) = self.descend(next, others)
        {
            return Some(index);
        }
        if let Some(next) = &branch.parameter
            && !first.is_empty()
        {
            match decoded.filter(|text| is_harmless(text)) {
                None => self.bad = true,
                Some(text) => {
                    self.taken.push(text);
                    if let Some(index) = self.descend(next, others) {
                        return Some(index);
                    }
                    self.taken.pop();
                }
            }
        }
        if branch.rest.is_empty() {
            return None;
        }
        let decoded: Option<Vec<String>> = segments.iter().map(|segment| decode(segment)).collect();
        match decoded.filter(|parts| parts.iter().all(|part| is_harmless(part))) {
            None => {
                self.bad = true;
                None
            }
            Some(parts) => {
                let index = self.choose(&branch.rest)?;
                self.taken.push(parts.join("/"));
                Some(index)
            }
        }
    }

    fn choose(&mut self, methods: &[(Method, usize)]) -> Option<usize> {
        let of = |wanted: &str| methods.iter().find(|(method, _)| method.as_str() == wanted).map(|(_, index)| *index);
        let found = of(self.method).or_else(|| if self.method == "HEAD" { of("GET") } else { None });
        if found.is_none() {
            for (method, _) in methods {
                if !self.others.contains(method) {
                    self.others.push(*method);
                }
            }
        }
        found
    }
}

fn is_harmless(text: &str) -> bool {
    !matches!(text, "." | "..")
        && !text.bytes().any(|byte| matches!(byte, b'/' | b'\\' | b'?' | b'#' | b'%') || byte.is_ascii_control())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::gateway::config::model::Location;

    /// An endpoint of nothing but a method and a path, as in `/a/{b}/*`. A slash at its end counts.
    pub(in crate::gateway) fn bare_endpoint(method: Method, pattern: &str) -> Endpoint {
        use crate::gateway::config::model::{Forward, MergeOrder, Output, OutputEncoding, Priority};
        let path = pattern.split('/').skip(1).filter(|_| pattern != "/").map(|segment| match segment {
            "*" => Segment::Wildcard("wildcard".into()),
            _ => match segment.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
                Some(name) => Segment::Parameter(name.into()),
                None => Segment::Literal(segment.into()),
            },
        });
        Endpoint {
            pattern: pattern.into(),
            path: path.collect(),
            method,
            timeout: std::time::Duration::from_secs(2),
            cache_ttl: std::time::Duration::ZERO,
            output_encoding: OutputEncoding::Json,
            input_headers: Forward::Only(Vec::new()),
            input_query_strings: Forward::Only(Vec::new()),
            concurrent_calls: 1,
            backends: Vec::new(),
            sequential: false,
            static_data: None,
            flatmap: Vec::new(),
            rate_limit: None,
            rate_limit_is_global: false,
            validator: None,
            bot_detector: None,
            body_schema: None,
            websocket: None,
            priority: Priority::Normal,
            merge_order: MergeOrder::Declared,
            merge_order_is_set: false,
            output: Output::Fast,
            output_is_set: false,
            unsupported: None,
            location: Location { file: "test".into(), line: 1, column: 1 },
        }
    }

    fn router(endpoints: &[(Method, &str)]) -> Router {
        let endpoints: Vec<_> = endpoints.iter().map(|(method, pattern)| bare_endpoint(*method, pattern)).collect();
        Router::new(&endpoints, TrailingSlash::Redirected)
    }

    fn found(index: usize, values: &[&str]) -> Route {
        Route::Found(index, values.iter().map(|value| (*value).to_owned()).collect())
    }

    #[test]
    fn literals_win_over_parameters_and_parameters_over_the_rest() {
        use Method::{Get, Post};
        let router = router(&[
            (Get, "/"),
            (Get, "/a/b"),
            (Get, "/a/{x}"),
            (Get, "/a/{x}/c"),
            (Get, "/a/*"),
            (Post, "/a/b"),
            (Get, "/{u}/{v}/w"),
        ]);
        assert_eq!(router.find("GET", "/"), found(0, &[]));
        assert_eq!(router.find("HEAD", "/a/b"), found(1, &[]));
        assert_eq!(router.find("POST", "/a/b"), found(5, &[]));
        assert_eq!(router.find("GET", "/a/%7Ex"), found(2, &["~x"]));
        assert_eq!(router.find("GET", "/a/b/c"), found(3, &["b"]));
        assert_eq!(router.find("GET", "/a/b/d"), found(4, &["b/d"]));
        assert_eq!(router.find("GET", "/a/"), found(4, &[""]));
        assert_eq!(router.find("GET", "/z/y/w"), found(6, &["z", "y"]));
        assert_eq!(router.find("GET", "/z"), Route::NotFound);
        assert_eq!(router.find("DELETE", "/a/b"), Route::OtherMethods(vec![Get, Post]));
        assert_eq!(router.find("GET", "*"), Route::NotFound);
    }

    #[test]
    fn a_slash_at_the_end_is_redirected_or_another_path() {
        use Method::{Get, Post};
        let list = [(Get, "/a"), (Get, "/b/"), (Get, "/c/{x}"), (Get, "/d/*"), (Post, "/a/"), (Post, "/e")];
        let endpoints = list.map(|(method, pattern)| bare_endpoint(method, pattern));
        let lenient = Router::new(&endpoints, TrailingSlash::Redirected);
        let strict = Router::new(&endpoints, TrailingSlash::Strict);
        let other = |path: &str| Route::OtherSlash(path.to_owned());
        for (method, path, there) in [
            ("GET", "/a/", "/a"),
            ("HEAD", "/a/", "/a"),
            ("GET", "/b", "/b/"),
            ("GET", "/c/1%20/", "/c/1%20"),
            ("POST", "/a", "/a/"),
            ("POST", "/e/", "/e"),
        ] {
            assert_eq!(lenient.find(method, path), other(there), "{method} {path}");
            let strictly = strict.find(method, path);
            assert!(matches!(strictly, Route::NotFound | Route::OtherMethods(_)), "{method} {path}: {strictly:?}");
        }
        assert_eq!(lenient.find("GET", "/b/"), found(1, &[]));
        assert_eq!(lenient.find("GET", "/d"), found(3, &[""]));
        assert_eq!(lenient.find("GET", "/e/"), Route::NotFound, "there it is not for GET");
        assert_eq!(lenient.find("GET", "/c/%2e%2e/"), Route::BadParameter);
        for path in ["/a//", "//a/", "//a", "/c/", "/", "//"] {
            assert_eq!(lenient.find("GET", path), Route::NotFound, "{path}");
        }
    }

    #[test]
    fn values_that_lead_elsewhere_are_refused() {
        let router = router(&[(Method::Get, "/a/{x}/y"), (Method::Get, "/b/*")]);
        for path in [
            "/a/%2e%2e/y",
            "/a/x%2Fz/y",
            "/a/%3f/y",
            "/a/%23/y",
            "/a/%00/y",
            "/a/%/y",
            "/a/%ff/y",
            "/b/c/../d",
            "/b/%252e",
        ] {
            assert_eq!(router.find("GET", path), Route::BadParameter, "{path}");
        }
        assert_eq!(router.find("GET", &"/b".repeat(100)), Route::NotFound);
    }
}
