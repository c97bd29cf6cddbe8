//! Where a hook or a document is: a URL, taken apart once.

use crate::gateway::fetching::{Origin, Protocol};

/// A URL of `http` or `https`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Whom calls go to.
    pub origin: Origin,
    /// What they call it: the value of `Host`.
    pub authority: String,
    /// Path and query.
    pub target: String,
}

impl std::fmt::Display for Endpoint {
    /// Without the query, which may hold secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let path = self.target.split('?').next().unwrap_or_default();
        write!(f, "{}://{}{path}", if self.origin.tls { "https" } else { "http" }, self.authority)
    }
}

impl Endpoint {
    /// Another path below this one's.
    pub fn at(&self, path: &str) -> Endpoint {
        Endpoint { target: format!("{}{path}", self.target.trim_end_matches('/')), ..self.clone() }
    }

    /// Takes a URL apart.
    ///
    /// # Errors
    /// A sentence: what is wrong with it.
    pub fn read(text: &str) -> Result<Endpoint, String> {
        // What is before an `@` is a secret.
        let shown = if text.contains('@') { "a URL with credentials" } else { text };
        let wrong =
            |why: &str| format!("{shown:?}: {why}; expected a URL such as http://127.0.0.1:3000/centrifugo/connect");
        let (scheme, rest) = text.split_once("://").ok_or_else(|| wrong("it has no scheme"))?;
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            "grpc" | "grpcs" => return Err(wrong("hooks over gRPC are not offered")),
            _ => return Err(wrong("its scheme is neither http nor https")),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        if authority.contains('@') {
            return Err(wrong("credentials do not belong into a URL: use a static header for Authorization"));
        }
        let after_bracket = authority.rfind(']').map_or(0, |at| at + 1);
        let (host, port) = match authority[after_bracket..].split_once(':') {
            None => (authority, if tls { 443 } else { 80 }),
            Some((_, port)) => {
                let host = &authority[..authority.len() - port.len() - 1];
                let port: u16 = port.parse().map_err(|_| wrong("its port is no number up to 65535"))?;
                (host, port)
            }
        };
        if host.is_empty() || port == 0 || !host.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(wrong("it names no host"));
        }
        let target = target.split('#').next().unwrap_or_default();
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        if !target.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(wrong("its path has to be percent-encoded"));
        }
        let origin = Origin { host: host.to_ascii_lowercase(), port, tls, protocol: Protocol::Auto };
        Ok(Endpoint { origin, authority: authority.to_owned(), target })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        for (text, host, port, tls, target) in [
            ("http://Backend:3000/centrifugo/connect", "backend", 3000, false, "/centrifugo/connect"),
            ("HTTPS://example.com", "example.com", 443, true, "/"),
            ("http://[::1]?a=b#c", "[::1]", 80, false, "/?a=b"),
            ("https://[::1]:8443/x%20y", "[::1]", 8443, true, "/x%20y"),
        ] {
            let endpoint = Endpoint::read(text).unwrap();
            let Origin { host: found, port: at, tls: secured, .. } = &endpoint.origin;
            assert_eq!((&found[..], *at, *secured, &endpoint.target[..]), (host, port, tls, target));
        }
        assert_eq!(Endpoint::read("http://a:1/b?key=secret").unwrap().to_string(), "http://a:1/b");
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, says) in [
            ("example.com/hook", "no scheme"),
            ("grpc://a", "gRPC"),
            ("ftp://a", "neither http nor https"),
            ("http:///x", "no host"),
            ("http://:80/x", "no host"),
            ("http://a:0/", "no host"),
            ("http://a:x/", "port"),
            ("http://a:65536/", "port"),
            ("http://user:pass@a/", "static header"),
            ("grpc://user:pass@a/", "a URL with credentials"),
            ("http://a/b c", "percent-encoded"),
            ("http://ä/", "no host"),
        ] {
            let error = Endpoint::read(text).unwrap_err();
            assert!(error.contains(says) && !error.contains("pass@"), "{error}");
        }
    }
}
