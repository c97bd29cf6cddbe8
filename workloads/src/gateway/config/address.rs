//! Upstreams and networks as they are written: `http://users:8080`, `10.0.0.0/8`.

use std::net::{IpAddr, Ipv6Addr};

use super::model::{Host, Network, Scheme};

/// An upstream. Without `raw` as KrakenD sanitises them: a scheme, a name or address, a port, nothing else. With `raw`
/// (`disable_host_sanitize`) a base path may follow.
///
/// # Errors
/// A sentence that says what is wrong and what to do.
pub fn host(text: &str, raw: bool) -> Result<Host, String> {
    let (scheme, rest) = match text.split_once("://") {
        Some(("http", rest)) => (Scheme::Http, rest),
        Some(("https", rest)) => (Scheme::Https, rest),
        // What a WebSocket's URL says (RFC 6455 section 3): the handshake is HTTP.
        Some(("ws", rest)) => (Scheme::Http, rest),
        Some(("wss", rest)) => (Scheme::Https, rest),
        Some((other, _)) => return Err(format!("the scheme {other:?} is not spoken: there are http and https")),
        None => (Scheme::Http, text),
    };
    let (authority, path) = match rest.find('/') {
        Some(slash) => rest.split_at(slash),
        None => (rest, ""),
    };
    let base_path = path.trim_end_matches('/');
    if !base_path.is_empty() && !raw {
        return Err(format!("the path {base_path:?} belongs into url_pattern, or set disable_host_sanitize"));
    }
    if base_path.contains(['?', '#', '{', '}']) || base_path.contains(|c: char| !c.is_ascii_graphic()) {
        return Err(format!("the path {base_path:?} must hold neither query, fragment, placeholders nor spaces"));
    }
    if authority.contains('@') {
        return Err("a user and password have no place in a host: send a header instead".to_owned());
    }
    let (name, port) = name_and_port(authority, scheme.default_port())?;
    Ok(Host { scheme, name, port, base_path: base_path.to_owned() })
}

fn name_and_port(authority: &str, default_port: u16) -> Result<(String, u16), String> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (address, after) = rest.split_once(']').ok_or("the bracket of an IPv6 address is not closed")?;
        let address: Ipv6Addr = address.parse().map_err(|_| format!("{address:?} is not an IPv6 address"))?;
        let port = match after.strip_prefix(':') {
            Some(text) => port(text)?,
            None if after.is_empty() => default_port,
            None => return Err(format!("expected a port after the bracket, found {after:?}")),
        };
        return Ok((address.to_string(), port));
    }
    let (name, port) = match authority.split_once(':') {
        Some((name, text)) => (name, port(text)?),
        None => (authority, default_port),
    };
    if !is_name(name) {
        return Err(format!("{name:?} is neither a name nor an address"));
    }
    Ok((name.to_ascii_lowercase(), port))
}

fn port(text: &str) -> Result<u16, String> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port > 0).ok_or(format!("{text:?} is not a port: 1 to 65535"))
}

/// Letters, digits, hyphens and, for SRV records, underscores between dots (RFC 1035 section 2.3.4).
fn is_name(name: &str) -> bool {
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte));
    let labels = name.strip_suffix('.').unwrap_or(name);
    plain && name.len() <= 253 && labels.split('.').all(|label| (1..=63).contains(&label.len()))
}

/// A network, or an address as the network of only that.
///
/// # Errors
/// A sentence.
pub fn network(text: &str) -> Result<Network, String> {
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| format!("{address:?} is not an address"))?;
    let bits = if address.is_ipv4() { 32 } else { 128 };
    let prefix = match prefix {
        None => bits,
        Some(text) => text
            .parse()
            .ok()
            .filter(|prefix| *prefix <= bits)
            .ok_or(format!("{text:?} is not a prefix's length: 0 to {bits}"))?,
    };
    Ok(Network { address, prefix })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_that_are_read() {
        for (text, raw, expected) in [
            ("users", false, "http://users"),
            ("http://Users:8080/", false, "http://users:8080"),
            ("https://a.b_c-d:443", false, "https://a.b_c-d"),
            ("http://a:443", false, "http://a:443"),
            ("http://[::1]:81", false, "http://[::1]:81"),
            ("http://127.0.0.1:8000", false, "http://127.0.0.1:8000"),
            ("https://a/base/v1/", true, "https://a/base/v1"),
        ] {
            let host = host(text, raw).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(host.to_string(), expected);
        }
    }

    #[test]
    fn hosts_that_are_not() {
        for (text, says) in [
            ("", "\"\" is neither a name"),
            ("http://", "\"\" is neither a name"),
            ("ftp://a", "the scheme \"ftp\" is not spoken"),
            ("http://a/b", "belongs into url_pattern"),
            ("http://a:0", "\"0\" is not a port"),
            ("http://a:+80", "\"+80\" is not a port"),
            ("http://a:65536", "is not a port"),
            ("http://a b", "is neither a name"),
            ("http://u:p@a", "a user and password"),
            ("http://[::1", "is not closed"),
            ("http://[x]", "is not an IPv6 address"),
            ("http://[::1]x", "expected a port"),
            ("http://ä", "is neither a name"),
            ("http://a..b", "is neither a name"),
        ] {
            let error = host(text, false).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
        assert!(host("http://a/b?c", true).unwrap_err().contains("neither query"));
    }

    #[test]
    fn networks() {
        assert_eq!(network("10.0.0.0/8").unwrap().to_string(), "10.0.0.0/8");
        assert_eq!(network("::1").unwrap().to_string(), "::1/128");
        for (text, says) in [("10.0.0/8", "not an address"), ("1.1.1.1/33", "0 to 32"), ("::/x", "0 to 128")] {
            assert!(network(text).unwrap_err().contains(says), "{text}");
        }
    }
}
