//! Pages of other origins (the Fetch standard, section 3.3): browsers ask before they send what a page could not send without
//! scripts, and keep answers from pages that nobody has let in. Other programs are not held up by any of this.

use crate::gateway::config::model::Cors;
use crate::gateway::request::{Reply, Request};

/// A `security/cors`, ready to be asked.
pub struct Origins {
    cors: Cors,
    /// What is let in, in lower case: before and after a `*`, or all of it.
    patterns: Vec<(String, Option<String>)>,
    methods: String,
    exposed: String,
    /// All origins are let in, and the same is said to all.
    is_open: bool,
}

impl Origins {
    /// As the file says.
    pub fn new(cors: &Cors) -> Origins {
        let pattern = |origin: &String| match origin.to_ascii_lowercase().split_once('*') {
            Some((before, after)) => (before.to_owned(), Some(after.to_owned())),
            None => (origin.to_ascii_lowercase(), None),
        };
        Origins {
            patterns: cors.origins.iter().map(pattern).collect(),
            methods: cors.methods.join(", "),
            exposed: cors.exposed.join(", "),
            is_open: cors.origins.iter().any(|origin| origin == "*"),
            cors: cors.clone(),
        }
    }

    /// The answer to a preflight, if the request is one.
    pub fn preflight(&self, request: &Request) -> Option<Reply> {
        let wanted = request.fields.text("access-control-request-method")?;
        let origin = request.fields.text("origin")?;
        if request.method != "OPTIONS" {
            return None;
        }
        let vary = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers";
        let mut reply = Reply::empty(self.cors.preflight_status).with("vary", vary);
        let is_method = self.cors.methods.iter().any(|method| method == wanted || method == "*");
        let headers = request.fields.text("access-control-request-headers").unwrap_or_default();
        // Without what would allow it, the browser refuses the page, and says why in its console.
        if !self.lets_in(origin) || !is_method || !self.allows_headers(headers) {
            return Some(reply);
        }
        self.let_in(origin, &mut reply);
        reply = reply.with("access-control-allow-methods", self.allowed(wanted));
        if !headers.is_empty() {
            reply = reply.with("access-control-allow-headers", headers);
        }
        if self.cors.private_network && request.fields.text("access-control-request-private-network") == Some("true") {
            reply = reply.with("access-control-allow-private-network", "true");
        }
        if !self.cors.max_age.is_zero() {
            reply = reply.with("access-control-max-age", &self.cors.max_age.as_secs().to_string());
        }
        Some(reply)
    }

    /// Gives an answer what a page needs to read it.
    pub fn mark(&self, request: &Request, reply: &mut Reply) {
        // An upstream's own word for the same would let in whom the file does not, or make two, which browsers refuse.
        reply.fields.remove_all(|name| name.starts_with("access-control-allow-"));
        if !self.is_open {
            reply.fields.push("vary", b"Origin");
        }
        let Some(origin) = request.fields.text("origin").filter(|origin| self.lets_in(origin)) else { return };
        self.let_in(origin, reply);
        if !self.exposed.is_empty() {
            reply.fields.push("access-control-expose-headers", self.exposed.as_bytes());
        }
    }

    /// Whether a request comes from a page that nobody has let in and that is not our own. Programs that are no browsers
    /// name no page.
    pub fn refuses(&self, request: &Request) -> bool {
        let Some(origin) = request.fields.get("origin") else { return false };
        let Ok(origin) = std::str::from_utf8(origin) else { return true };
        let is_own = origin.split_once("://").is_some_and(|(_, host)| host.eq_ignore_ascii_case(&request.authority));
        !is_own && !self.lets_in(origin)
    }

    fn let_in(&self, origin: &str, reply: &mut Reply) {
        let whom = if self.is_open { "*" } else { origin };
        reply.fields.push("access-control-allow-origin", whom.as_bytes());
        if self.cors.credentials {
            reply.fields.push("access-control-allow-credentials", b"true");
        }
    }

    fn allowed<'a>(&'a self, wanted: &'a str) -> &'a str {
        if self.cors.methods.iter().any(|method| method == "*") { wanted } else { &self.methods }
    }

    fn lets_in(&self, origin: &str) -> bool {
        let origin = origin.to_ascii_lowercase();
        self.patterns.iter().any(|(before, after)| match after {
            None => *before == origin,
            Some(after) => {
                origin.len() >= before.len() + after.len() && origin.starts_with(before) && origin.ends_with(after)
            }
        })
    }

    fn allows_headers(&self, list: &str) -> bool {
        let mut names = list.split(',').map(|name| name.trim().to_ascii_lowercase()).filter(|name| !name.is_empty());
        names.all(|name| self.cors.headers.iter().any(|allowed| *allowed == name || allowed == "*"))
    }
}
