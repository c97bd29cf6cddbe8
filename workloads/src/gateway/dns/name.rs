//! Names of hosts and services: what may be asked for, and what an answer may point to.

/// Bytes of a name as text, without the last dot (RFC 1035 section 2.3.4: 255 on the wire).
pub const NAME_BYTES_MAX: usize = 253;
/// Bytes between two dots.
pub const LABEL_BYTES_MAX: usize = 63;

/// A name, complete, in lower case, without a dot at its end. Letters, digits, `-` and `_` only: stricter than the
/// protocol, whose labels may hold anything.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Box<str>);

impl Name {
    /// Of text, with or without a dot at its end.
    pub fn new(text: &str) -> Option<Name> {
        let text = text.strip_suffix('.').unwrap_or(text);
        let known = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        let label = |label: &str| !label.is_empty() && label.len() <= LABEL_BYTES_MAX && label.bytes().all(known);
        let good = text.len() <= NAME_BYTES_MAX && text.split('.').all(label);
        good.then(|| Name(text.to_ascii_lowercase().into()))
    }

    /// This name within a domain.
    pub fn within(&self, domain: &Name) -> Option<Name> {
        Name::new(&format!("{}.{}", self.0, domain.0))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// How many dots are in it.
    pub fn dots(&self) -> usize {
        self.0.bytes().filter(|byte| *byte == b'.').count()
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_lower_case_and_within_their_limits() {
        assert_eq!(Name::new("Cart.Shop.").unwrap().as_str(), "cart.shop");
        assert_eq!(Name::new("_http._tcp.cart").unwrap().dots(), 2);
        let label = "a".repeat(63);
        let longest = [&label[..], &label, &label, &label[..61]].join(".");
        assert_eq!(longest.len(), NAME_BYTES_MAX);
        assert!(Name::new(&longest).is_some());
        for bad in ["", ".", "a..b", ".a", "a b", "ä", "a\\046b", &format!("{label}a"), &format!("{longest}a")] {
            assert_eq!(Name::new(bad), None, "{bad}");
        }
        let (cart, domain) = (Name::new("cart").unwrap(), Name::new("shop.local").unwrap());
        assert_eq!(cart.within(&domain), Name::new("cart.shop.local"));
        assert_eq!(Name::new(&longest).unwrap().within(&domain), None);
    }
}
