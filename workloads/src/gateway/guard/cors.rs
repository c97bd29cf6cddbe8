//! Pages of other origins (the Fetch standard, section 3.3): browsers ask before they send what a page could not send without
//! scripts, and keep answers from pages that nobody has let in. Other programs are not held up by any of this.

use crate::gateway::config::model::Cors;
use crate::gateway::request::{Reply, Request};

/// A `security/cors`, ready to be asked.
pub struct Origins {
    cors: Cors,
    methods: String,
    exposed: String,
    /// All origins are let in, and the same is said to all.
    is_open: bool,
}

impl Origins {
    /// As the file says.
    pub fn new(cors: &Cors) -> Origins {
        let is_open = cors.origins.iter().any(|origin| origin == "*");
        Origins { methods: cors.methods.join(", "), exposed: cors.exposed.join(", "), cors: cors.clone(), is_open }
    }

    /// The answer to a preflight, if the request is one.
    pub fn preflight(&self, request: &Request) -> Option<Reply> {
        let wanted = request.fields.text("access-control-request-method")?;
        let origin = request.fields.text("origin")?;
        if request.method != "OPTIONS" {
            return None;
        }
        let reply = Reply::empty(self.cors.preflight_status);
        let vary = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers";
        let reply = reply.with("vary", vary);
        let is_method = self.cors.methods.iter().any(|method| method == wanted || method == "*");
        let headers = request.fields.text("access-control-request-headers").unwrap_or_default();
        // Without what would allow it, the browser refuses the page, and says why in its console.
        if !self.lets_in(origin) || !is_method || !self.allows_headers(headers) {
            return Some(reply);
        }
        let mut reply = self.marked(reply, origin).with("access-control-allow-methods", self.allowed(wanted));
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

    /// An answer with what a page needs to read it.
    pub fn mark(&self, request: &Request, mut reply: Reply) -> Reply {
        // An upstream's own word for the same would let in whom the file does not, or make two, which browsers refuse.
        reply.fields.remove_all(|name| name.starts_with("access-control-allow-"));
        let reply = if self.is_open { reply } else { reply.with("vary", "Origin") };
        let Some(origin) = request.fields.text("origin") else { return reply };
        if !self.lets_in(origin) {
            return reply;
        }
        let reply = self.marked(reply, origin);
        match self.exposed.is_empty() {
            true => reply,
            false => reply.with("access-control-expose-headers", &self.exposed),
        }
    }

    fn marked(&self, reply: Reply, origin: &str) -> Reply {
        let reply = reply.with("access-control-allow-origin", if self.is_open { "*" } else { origin });
        if self.cors.credentials { reply.with("access-control-allow-credentials", "true") } else { reply }
    }

    fn allowed<'a>(&'a self, wanted: &'a str) -> &'a str {
        if self.cors.methods.iter().any(|method| method == "*") { wanted } else { &self.methods }
    }

    fn lets_in(&self, origin: &str) -> bool {
        let origin = origin.to_ascii_lowercase();
        self.cors.origins.iter().any(|pattern| match pattern.to_ascii_lowercase().split_once('*') {
            None => pattern.eq_ignore_ascii_case(&origin),
            Some((before, after)) => {
                origin.len() >= before.len() + after.len() && origin.starts_with(before) && origin.ends_with(after)
            }
        })
    }

    fn allows_headers(&self, list: &str) -> bool {
        let mut names = list.split(',').map(|name| name.trim().to_ascii_lowercase()).filter(|name| !name.is_empty());
        names.all(|name| self.cors.headers.iter().any(|allowed| *allowed == name || allowed == "*"))
    }
}
