//! What may come of a call instead of an answer, sorted by what its caller has to know: was it carried out?

use std::fmt;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// There is no connection: the call was not sent, and so was surely not carried out. Why.
    Away(String),
    /// The connection broke, or the answer did not come in time, after the call was sent: it may have been carried out, and
    /// it may still be. Why.
    Doubtful(String),
    /// Redis, or a limit of ours, said no: it was not carried out. (A script that fails half-way keeps what it wrote.)
    Refused {
        /// The error's first word: `WRONGTYPE`, `READONLY`, `NOPERM`, ...; `BUSY` also beyond our own limits.
        code: String,
        /// The words after it.
        message: String,
    },
}

impl Trouble {
    /// Whether trying the same again, later, can help: connections come back, and servers that load, fail over or are full
    /// for now say so.
    pub fn is_passing(&self) -> bool {
        match self {
            Trouble::Away(_) | Trouble::Doubtful(_) => true,
            Trouble::Refused { code, .. } => matches!(
                &**code,
                "BUSY"
                    | "LOADING"
                    | "MASTERDOWN"
                    | "READONLY"
                    | "CLUSTERDOWN"
                    | "TRYAGAIN"
                    | "NOREPLICAS"
                    | "OOM"
                    | "MOVED"
                    | "ASK"
                    | "MISCONF"
            ),
        }
    }

    /// Whether it is a refusal with this code.
    pub fn is(&self, wanted: &str) -> bool {
        matches!(self, Trouble::Refused { code, .. } if code == wanted)
    }

    /// A limit of ours.
    pub(super) fn busy(message: String) -> Trouble {
        Trouble::Refused { code: "BUSY".to_owned(), message }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Away(why) => write!(f, "Redis is away: {why}"),
            Trouble::Doubtful(why) => write!(f, "Redis has not answered: {why}"),
            Trouble::Refused { code, message } => write!(f, "Redis refused: {code} {message}"),
        }
    }
}

impl std::error::Error for Trouble {}
