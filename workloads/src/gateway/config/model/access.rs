//! How lines of the access log are written.

/// The form of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessFormat {
    /// Columns, for people.
    Text,
    /// An object, for programs.
    Json,
    /// As a pattern says.
    Pattern(AccessPattern),
}

/// What a line is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessPattern {
    /// As it was written, or the name of one that everybody knows.
    pub source: String,
    /// In order.
    pub pieces: Vec<AccessPiece>,
}

/// A part of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessPiece {
    /// As it stands.
    Literal(String),
    /// Something about the request.
    Variable(AccessVariable),
    /// A field of the request, its name in lower case.
    Header(String),
}

/// What a pattern can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // The documentation has a table of them.
pub enum AccessVariable {
    Time,
    TimeApache,
    TimeMillis,
    Client,
    Peer,
    Method,
    Path,
    Protocol,
    Host,
    Endpoint,
    Status,
    Bytes,
    Micros,
    Seconds,
    Id,
    Why,
}
