//! Whether a browser that asks was sent by a page of ours: services that take requests without a key must not be used by
//! other sites through their visitors.

use std::net::IpAddr;

/// Whether a `Host` field names this machine whatever a name server says, as `localhost:8000` or `[::1]` do.
pub fn is_local_name(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let name = name.to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost") || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Whether a request comes from another site's page: by its origin, or by a name that was pointed at this machine (DNS
/// rebinding). Where anybody may come, names are not looked at.
pub fn is_foreign<'a>(field: impl Fn(&str) -> Option<&'a str>, any_name: bool) -> bool {
    let Some(host) = field("host") else { return false };
    let from_elsewhere = field("origin").is_some_and(|origin| {
        let authority = origin.split_once("://").map_or("", |(_, authority)| authority);
        !authority.eq_ignore_ascii_case(host)
    });
    from_elsewhere || !(any_name || is_local_name(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_other_sites_are_foreign() {
        let of = |host: &'static str, origin: Option<&'static str>, any_name: bool| {
            let field = move |name: &str| match name {
                "host" => Some(host),
                "origin" => origin,
                _ => None,
            };
            is_foreign(field, any_name)
        };
        assert!(!of("127.0.0.1:8070", None, false));
        assert!(!of("[::1]:8070", Some("http://[::1]:8070"), false));
        assert!(!of("localhost:8070", Some("http://LOCALHOST:8070"), false));
        assert!(of("localhost:8070", Some("http://localhost:3000"), false));
        assert!(of("localhost:8070", Some("null"), false));
        assert!(of("rebound.example:8070", None, false));
        assert!(of("rebound.example:8070", Some("http://rebound.example:8070"), false));
        assert!(!of("images.example", None, true));
        assert!(of("images.example", Some("https://evil.example"), true));
    }
}
