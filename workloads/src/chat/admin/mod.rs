//! The console at `/admin/`: a page that shows once a second what the node does, and publishes.
//!
//! | request | answer |
//! |---|---|
//! | `GET /admin/` | the page, with `page.css` and `page.js` beside it; no secret is in them, so anybody may have them |
//! | `POST /admin/login` | `{"password"}` for `{"token"}`, good for [`TOKEN_SECONDS`] |
//! | `GET /admin/state` | the figures: [`State`] |
//! | `POST /admin/publish` | `{"channel","data"}`: the API's `publish`, word for word |
//!
//! The last two want the token in `Authorization: Bearer`. `door.rs` says who may come in, `state.rs` what is told.
//! The console counts nothing by itself: its figures are those of `/metrics`.

mod door;
mod state;

use std::sync::{Mutex, PoisonError};

use annulus_protocols::http1::RequestHead;

pub use door::{Door, LOGIN_BYTES_MAX, Refusal, TOKEN_SECONDS, network};
pub use state::{Measured, OfDatabase, OfLog, OfShard, Recent, State, Times};

use super::config::Config;

/// What everything of the console is under.
pub const ROOT: &str = "/admin/";
/// The page needs its own script and style, and figures from where it came from; nothing else, and nothing inline.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// A part of the page, in the binary.
#[derive(Debug, PartialEq, Eq)]
pub struct Part {
    name: &'static str,
    kind: &'static str,
    /// Its text.
    pub text: &'static str,
}

static PARTS: [Part; 3] = [
    Part { name: "", kind: "text/html; charset=utf-8", text: include_str!("page.html") },
    Part { name: "page.css", kind: "text/css; charset=utf-8", text: include_str!("page.css") },
    Part { name: "page.js", kind: "text/javascript; charset=utf-8", text: include_str!("page.js") },
];

impl Part {
    /// The fields that it is sent with.
    pub fn fields(&self) -> [(&'static str, &'static str); 5] {
        [
            ("content-type", self.kind),
            ("content-security-policy", PAGE_POLICY),
            ("cache-control", "no-cache"),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
        ]
    }
}

/// What is asked of the console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// A part of the page.
    Page(&'static Part),
    /// The page, by a name that it does not have: its other parts would not be found beside that.
    Slash,
    /// Figures.
    State,
    /// A token for a password.
    Login,
    /// Publish something.
    Publish,
    /// Something that is there, by another method.
    NotAllowed(&'static str),
}

/// What of the console a path and a method ask for, if it is the console's.
pub fn route(method: &str, path: &str) -> Option<Ask> {
    let ask = match path.strip_prefix(ROOT) {
        None if path == "/admin" => Ask::Slash,
        None => return None,
        Some("state") => Ask::State,
        Some("login") => Ask::Login,
        Some("publish") => Ask::Publish,
        Some(name) => Ask::Page(PARTS.iter().find(|part| part.name == name)?),
    };
    let (is_its_method, its) = match ask {
        Ask::Login | Ask::Publish => (method == "POST", "POST"),
        _ => (matches!(method, "GET" | "HEAD"), "GET, HEAD"),
    };
    Some(if is_its_method { ask } else { Ask::NotAllowed(its) })
}

/// The console of a node.
pub struct Console {
    /// Who may come in.
    pub door: Door,
    measured: Mutex<Measured>,
}

impl Console {
    /// As the configuration has it.
    ///
    /// # Errors
    /// A sentence: the system has no randomness.
    pub fn open(config: &Config) -> Result<Console, String> {
        Ok(Console { door: Door::open(config)?, measured: Mutex::default() })
    }

    /// What is remembered from one look at the figures to the next.
    pub fn measured<T>(&self, look: impl FnOnce(&mut Measured) -> T) -> T {
        // Held for the comparison of a few histograms, once a second and open page.
        look(&mut self.measured.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether a request may have what it asks for, at this second of the Unix clock.
    ///
    /// # Errors
    /// What to answer instead.
    pub fn admit(&self, ask: Ask, head: &RequestHead<'_>, now_s: u64) -> Result<(), Refusal> {
        match ask {
            Ask::State | Ask::Publish => self.door.admit(head, now_s),
            Ask::Login => self.door.check_origin(head),
            Ask::Page(_) | Ask::Slash | Ask::NotAllowed(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for() {
        assert_eq!(route("GET", "/admin"), Some(Ask::Slash));
        assert_eq!(route("HEAD", "/admin/"), Some(Ask::Page(&PARTS[0])));
        assert_eq!(route("GET", "/admin/page.js"), Some(Ask::Page(&PARTS[2])));
        assert_eq!(route("GET", "/admin/state"), Some(Ask::State));
        assert_eq!(route("POST", "/admin/login"), Some(Ask::Login));
        assert_eq!(route("GET", "/admin/publish"), Some(Ask::NotAllowed("POST")));
        assert_eq!(route("POST", "/admin/state"), Some(Ask::NotAllowed("GET, HEAD")));
        for path in ["/admin/else", "/administration", "/", "/admin//", "/admin/page.html"] {
            assert_eq!(route("GET", path), None, "{path}");
        }
    }

    #[test]
    fn the_page_needs_nothing_inline_and_nothing_from_elsewhere() {
        let page = PARTS[0].text;
        assert!(!page.contains("<style") && !page.contains(" style=") && !page.contains(" onclick"));
        assert_eq!(page.matches("<script").count(), page.matches("<script type=\"module\" src=\"page.js\">").count());
        for part in &PARTS {
            let text = part.text.replace("http://www.w3.org/2000/svg", "");
            assert!(
                !text.contains("http://") && !text.contains("https://") && !text.contains("@import"),
                "{}",
                part.name
            );
        }
    }
}
