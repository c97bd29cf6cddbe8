//! Who may use the API: whoever shows the key.

use annulus_protocols::http1::RequestHead;

use crate::secret::is_same;

/// Whether the request shows `key`: in `X-API-Key`, in `Authorization: apikey KEY`, or in the query's `api_key`. An
/// empty key is shown by nobody.
///
/// A comparison takes as long as what is offered is, whatever of it is right.
pub fn has_key(head: &RequestHead<'_>, key: &str) -> bool {
    let fields = head.fields();
    let in_field = fields.get("x-api-key").is_some_and(|offered| is_same(offered, key));
    in_field
        || fields.get("authorization").and_then(after_scheme).is_some_and(|offered| is_same(offered, key))
        || in_query(head.query().unwrap_or_default()).is_some_and(|offered| is_same(&offered, key))
}

/// What follows the scheme `apikey`, which is of no case (RFC 9110 section 11.1).
fn after_scheme(value: &[u8]) -> Option<&[u8]> {
    let at = value.iter().position(|&byte| byte == b' ')?;
    let (scheme, offered) = value.split_at(at);
    scheme.eq_ignore_ascii_case(b"apikey").then(|| offered.trim_ascii())
}

/// The first `api_key` of a query, decoded. One that is decoded wrongly is none.
fn in_query(query: &str) -> Option<Vec<u8>> {
    let encoded = query.split('&').find_map(|pair| pair.strip_prefix("api_key="))?;
    let (mut offered, mut bytes) = (Vec::with_capacity(encoded.len()), encoded.bytes());
    while let Some(byte) = bytes.next() {
        offered.push(match byte {
            b'+' => b' ',
            b'%' => {
                let (high, low) = (bytes.next()?, bytes.next()?);
                let digits = [high, low].map(|digit| (digit as char).to_digit(16));
                let [Some(high), Some(low)] = digits else { return None };
                (high << 4 | low) as u8
            }
            byte => byte,
        });
    }
    Some(offered)
}

#[cfg(test)]
mod tests {
    use super::*;
    use annulus_protocols::Input;
    use annulus_protocols::http1::{Event, Limits, Server};

    fn shows(target: &str, field: &str) -> bool {
        let mut bytes = format!("POST {target} HTTP/1.1\r\nhost: a\r\n{field}\r\n").into_bytes();
        let mut input = Input::new(&mut bytes);
        match Server::new().next_event(&Limits::DEFAULT, 0, &mut input).unwrap() {
            Event::Head(head) => has_key(&head, "s3cret+ä"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_key_may_be_in_three_places() {
        for (target, field) in [
            ("/api/info", "X-API-Key: s3cret+ä\r\n"),
            ("/api/info", "authorization: apikey s3cret+ä\r\n"),
            ("/api/info", "Authorization: ApiKey  s3cret+ä\r\n"),
            ("/api/info?a=b&api_key=s3cret%2B%c3%A4", ""),
            ("/api/info?api_key=s3cret%2B%c3%A4", "X-API-Key: wrong\r\n"),
        ] {
            assert!(shows(target, field), "{target} {field}");
        }
    }

    #[test]
    fn nothing_else_is_the_key() {
        for (target, field) in [
            ("/api/info", ""),
            ("/api/info", "X-API-Key:\r\n"),
            ("/api/info", "X-API-Key: s3cret+\r\n"),
            ("/api/info", "X-API-Key: s3cret+äs3cret+ä\r\n"),
            ("/api/info", "Authorization: Bearer s3cret+ä\r\n"),
            ("/api/info", "Authorization: s3cret+ä\r\n"),
            ("/api/info", "Authorization: apikey\r\n"),
            ("/api/info?api_key=s3cret+%c3%A4", ""),
            ("/api/info?api_key=s3cret%2", ""),
            ("/api/info?xapi_key=s3cret%2B%c3%A4", ""),
        ] {
            assert!(!shows(target, field), "{target} {field}");
        }
    }
}
