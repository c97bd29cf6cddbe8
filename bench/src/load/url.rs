//! Where a load goes: a URL taken apart, and its name resolved once.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

/// What is spoken there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// `http`
    Http,
    /// `https`
    Https,
    /// `ws`
    Ws,
    /// `wss`
    Wss,
}

impl Scheme {
    /// As URLs have it.
    pub const fn name(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
            Scheme::Ws => "ws",
            Scheme::Wss => "wss",
        }
    }

    /// Whether it is encrypted.
    pub const fn is_secure(self) -> bool {
        matches!(self, Scheme::Https | Scheme::Wss)
    }

    /// Whether it is a WebSocket's.
    pub const fn is_websocket(self) -> bool {
        matches!(self, Scheme::Ws | Scheme::Wss)
    }

    const fn port(self) -> u16 {
        if self.is_secure() { 443 } else { 80 }
    }
}

/// Scheme, host and port: what connections are made to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// What is spoken.
    pub scheme: Scheme,
    /// A name or an address, the latter without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// An origin and what is asked for there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// Where.
    pub origin: Origin,
    /// Path and query; begins with `/`.
    pub target: String,
}

impl Url {
    /// Takes a URL apart.
    ///
    /// # Errors
    /// A sentence that says how URLs look.
    pub fn parse(text: &str) -> Result<Url, String> {
        let wrong = |what: &str| format!("the URL {text:?} {what}: write http://host:port/path");
        let (scheme, rest) = text.split_once("://").ok_or_else(|| wrong("has no scheme"))?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            "ws" => Scheme::Ws,
            "wss" => Scheme::Wss,
            _ => return Err(wrong("has a scheme that is none of http, https, ws and wss")),
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let at = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(at);
        if authority.contains('@') {
            return Err(wrong("has a user in it: pass --header 'Authorization: ...' instead"));
        }
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']').ok_or_else(|| wrong("has a bracket that nothing closes"))?;
                (host, port.strip_prefix(':').or((!port.is_empty()).then_some("")))
            }
            None => match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        if host.is_empty() || !host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:%".contains(&byte)) {
            return Err(wrong("has no host, or characters in it that may not be there"));
        }
        let port = match port {
            None => scheme.port(),
            Some(port) => port.parse().ok().filter(|&port| port > 0).ok_or_else(|| wrong("has a wrong port"))?,
        };
        if !target.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(wrong("has blanks or other characters that must be written as %20 and the like"));
        }
        let slash = if target.starts_with('/') { "" } else { "/" };
        let origin = Origin { scheme, host: host.to_owned(), port };
        Ok(Url { origin, target: format!("{slash}{target}") })
    }
}

impl Origin {
    /// Host and port as a `Host` field has them.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == self.scheme.port() { host } else { format!("{host}:{}", self.port) }
    }

    /// Its address: the first that the system gives, one of IPv4 where there are both.
    ///
    /// # Errors
    /// A sentence: there is none.
    pub fn resolve(&self) -> Result<SocketAddr, String> {
        if let Ok(address) = self.host.parse::<IpAddr>() {
            return Ok((address, self.port).into());
        }
        let found = (self.host.as_str(), self.port).to_socket_addrs();
        let mut all: Vec<SocketAddr> = found
            .map_err(|error| {
                format!("the name {:?} has no address ({error}): check its spelling, or give an IP address", self.host)
            })?
            .collect();
        all.sort_by_key(SocketAddr::is_ipv6);
        all.first().copied().ok_or_else(|| format!("the name {:?} has no address", self.host))
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://{}", self.scheme.name(), self.authority())
    }
}

impl std::fmt::Display for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", self.origin, self.target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        for (text, scheme, host, port, target) in [
            ("http://a", Scheme::Http, "a", 80, "/"),
            ("HTTP://a.example:8080/b?c=d#e", Scheme::Http, "a.example", 8080, "/b?c=d"),
            ("https://a?x", Scheme::Https, "a", 443, "/?x"),
            ("ws://[::1]:9/chat", Scheme::Ws, "::1", 9, "/chat"),
            ("wss://127.0.0.1/", Scheme::Wss, "127.0.0.1", 443, "/"),
            ("http://[::1]/", Scheme::Http, "::1", 80, "/"),
        ] {
            let url = Url::parse(text).unwrap();
            let origin = &url.origin;
            assert_eq!((origin.scheme, &origin.host[..], origin.port), (scheme, host, port), "{text}");
            assert_eq!(url.target, target, "{text}");
        }
        assert_eq!(Url::parse("ws://[::1]:9/chat").unwrap().to_string(), "ws://[::1]:9/chat");
        assert_eq!(Url::parse("http://a:80").unwrap().to_string(), "http://a/");
    }

    #[test]
    fn what_is_no_url_is_refused_with_one_that_is() {
        for text in [
            "",
            "a",
            "a:80",
            "ftp://a",
            "http://",
            "http://:80",
            "http://a:0",
            "http://a:x",
            "http://a:99999",
            "http://u@a/",
            "http://a/b c",
            "http://a/\u{e9}",
            "http://[::1",
            "http://a b/",
            "http://[::1]x",
        ] {
            assert!(Url::parse(text).unwrap_err().contains("http://host:port/path"), "{text:?}");
        }
    }

    #[test]
    fn addresses_need_no_name_service() {
        let address = |text| Url::parse(text).unwrap().origin.resolve().unwrap().to_string();
        assert_eq!(address("http://127.0.0.1:81"), "127.0.0.1:81");
        assert_eq!(address("http://[::1]:81"), "[::1]:81");
        assert_eq!(address("http://localhost:81"), "127.0.0.1:81");
    }
}
