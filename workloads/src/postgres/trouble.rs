//! What goes wrong with a database, sorted by what to do about it.
//!
//! | kind | what is done | SQLSTATE classes |
//! |---|---|---|
//! | `Passing` | try again, with growing waits | 08 connection, 25 (a standby), 26, 40 serialization, 53 resources, 55, 57, 58 |
//! | `Setup` | try again slowly, and say loudly what a person has to change | 28 login, 3D, 3F, 42 missing tables and rights |
//! | `Data` | bisect the batch down to the row | 22, 23, 21, 38, 39, 44, 54, P0: what rows, checks and triggers cause |
//!
//! A code that is in no class here is passing: trying again loses nothing.

use std::fmt;
use std::io;

use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::ErrorResponseBody;

/// What to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It will probably go away.
    Passing,
    /// A person has to change something.
    Setup,
    /// It is because of a row.
    Data,
}

/// What went wrong.
#[derive(Clone, Debug)]
pub struct Trouble {
    /// What to do about it.
    pub kind: Kind,
    /// Whether the connection can be used further.
    pub session_lives: bool,
    words: String,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

impl Trouble {
    /// The connection broke, or was never made.
    pub(crate) fn transport(doing: &str, error: &io::Error) -> Trouble {
        Trouble { kind: Kind::Passing, session_lives: false, words: format!("{doing}: {error}") }
    }

    /// It did not happen, or not in time.
    pub(crate) fn passing(words: String) -> Trouble {
        Trouble { kind: Kind::Passing, session_lives: false, words }
    }

    /// The server does not speak as it should.
    pub(crate) fn protocol(words: &str) -> Trouble {
        let words = format!("the database server breaks its protocol: {words}");
        Trouble { kind: Kind::Passing, session_lives: false, words }
    }

    /// A person has to change something.
    pub(crate) fn setup(words: String) -> Trouble {
        Trouble { kind: Kind::Setup, session_lives: false, words }
    }

    /// None of several servers let us in: what each of them said. It may pass if that of one may.
    pub(crate) fn of_all(troubles: Vec<(String, Trouble)>) -> Trouble {
        let passing = troubles.iter().any(|(_, trouble)| trouble.kind == Kind::Passing);
        let kind = if passing { Kind::Passing } else { Kind::Setup };
        let told = |(host, trouble): &(String, Trouble)| match trouble.words.contains(host.as_str()) {
            true => trouble.words.clone(),
            false => format!("{host}: {trouble}"),
        };
        let words: Vec<String> = troubles.iter().map(told).collect();
        Trouble { kind, session_lives: false, words: words.join("; ") }
    }

    /// The row cannot be sent at all.
    pub(crate) fn row(words: String) -> Trouble {
        Trouble { kind: Kind::Data, session_lives: true, words }
    }

    /// What the server answered.
    pub(crate) fn of_server(body: &ErrorResponseBody) -> Trouble {
        let (mut severity, mut code, mut message, mut more) =
            (String::new(), String::new(), String::new(), String::new());
        let mut fields = body.fields();
        // A field that cannot be read ends them: what came before it is told.
        while let Ok(Some(field)) = fields.next() {
            let text = String::from_utf8_lossy(field.value_bytes());
            match field.type_() {
                b'V' => severity = text.into_owned(),
                b'S' if severity.is_empty() => severity = text.into_owned(),
                b'C' => code = text.into_owned(),
                b'M' => message = text.into_owned(),
                b'D' | b'H' => more = format!("{more} ({text})"),
                _ => {}
            }
        }
        let kind = kind(&code);
        let session_lives = severity == "ERROR" && !matches!(code.get(..2), Some("25" | "26" | "57" | "0A"));
        let remedy = remedy(&code).map(|remedy| format!(". Fix: {remedy}.")).unwrap_or_default();
        Trouble { kind, session_lives, words: format!("{message}{more} (SQLSTATE {code}){remedy}") }
    }
}

fn kind(code: &str) -> Kind {
    match code.get(..2) {
        Some("28" | "3D" | "3F" | "42") => Kind::Setup,
        Some("21" | "22" | "23" | "38" | "39" | "44" | "54" | "P0") => Kind::Data,
        _ => Kind::Passing,
    }
}

fn remedy(code: &str) -> Option<&'static str> {
    match code {
        "28P01" => Some("put the right user and password into the database URL"),
        "28000" => Some("let this user and this machine in, in the server's pg_hba.conf"),
        "3D000" => Some("create the database, or name another one in the database URL"),
        "42501" => Some(
            "grant this user INSERT and SELECT on the tables of annulus; where they are not there, CREATE on the schema, and, if \
             another user made annulus_schema, INSERT and UPDATE on that",
        ),
        "42P01" | "42703" => Some("restore that table, or drop the tables of annulus: they are made anew when absent"),
        "42P07" => Some("rename what has that name, or give annulus another schema (options=-c search_path=...)"),
        "42P10" => Some("give the table back the primary key that annulus made it with"),
        "53300" => Some("raise the server's max_connections, or use fewer connections here"),
        "53100" => Some("free space on the server's disk"),
        "25006" => Some(
            "the server takes no writes: name the primary in the database URL, or all servers (postgres://user@one,two/db)",
        ),
        "26000" => Some("a pooler between has to keep prepared statements (PgBouncer 1.21: max_prepared_statements)"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;
    use postgres_protocol::message::backend::Message;

    fn trouble(fields: &[(u8, &str)]) -> Trouble {
        let mut body: Vec<u8> =
            fields.iter().flat_map(|(kind, text)| [&[*kind], text.as_bytes(), b"\0"].concat()).collect();
        body.push(0);
        let mut message = BytesMut::from(&b"E"[..]);
        message.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
        message.extend_from_slice(&body);
        match Message::parse(&mut message) {
            Ok(Some(Message::ErrorResponse(body))) => Trouble::of_server(&body),
            _ => panic!("no error"),
        }
    }

    #[test]
    fn codes_say_what_to_do() {
        let cases = [
            ("08006", Kind::Passing),
            ("40001", Kind::Passing),
            ("40P01", Kind::Passing),
            ("53300", Kind::Passing),
            ("57P01", Kind::Passing),
            ("XX000", Kind::Passing),
            ("", Kind::Passing),
            ("28P01", Kind::Setup),
            ("3D000", Kind::Setup),
            ("42501", Kind::Setup),
            ("22021", Kind::Data),
            ("23514", Kind::Data),
            ("54000", Kind::Data),
            ("P0001", Kind::Data),
        ];
        for (code, kind) in cases {
            assert_eq!(trouble(&[(b'V', "ERROR"), (b'C', code)]).kind, kind, "{code}");
        }
    }

    #[test]
    fn words_have_message_code_and_remedy() {
        let wrong = trouble(&[(b'S', "FATAL"), (b'C', "28P01"), (b'M', "password authentication failed"), (b'D', "x")]);
        let says = wrong.to_string();
        assert!(says.starts_with("password authentication failed (x) (SQLSTATE 28P01). Fix: "), "{says}");
        assert!(!wrong.session_lives);
        assert!(trouble(&[(b'V', "ERROR"), (b'C', "22021")]).session_lives);
        // A backend that says so ends, whatever the severity.
        assert!(!trouble(&[(b'V', "ERROR"), (b'C', "57P01")]).session_lives);
    }
}
