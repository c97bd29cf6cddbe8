//! DNS messages (RFC 1035): questions written, answers read.
//!
//! What is read is held to what was asked: the id, that it is an answer, and the question itself must be ours, or the
//! message is somebody else's. A name's compression pointers must point backwards, so they cannot go round. Only records
//! that answer the question count, reached over aliases from its name; what else a server adds is ignored, so it can
//! answer for nobody but who was asked about.

use std::net::IpAddr;

use super::name::{LABEL_BYTES_MAX, NAME_BYTES_MAX, Name};

/// The longest answer that we take over UDP: what passes everywhere unfragmented (DNS flag day 2020). Longer ones come
/// truncated, and are asked for again over TCP.
pub const UDP_BYTES_MAX: usize = 1232;
/// Aliases from a name to its addresses, at most; more are a loop.
pub const ALIASES_MAX: usize = 8;
/// Records that count in an answer; a message with more is refused.
pub const RECORDS_MAX: usize = 1024;

const HEADER: usize = 12;
const CLASS_IN: u16 = 1;
const CNAME: u16 = 5;
const SOA: u16 = 6;
const OPT: u16 = 41;

impl Fault {
    /// For people.
    pub fn reason(self) -> &'static str {
        match self {
            Fault::NotOurs => "answers to another question, possibly forged",
            Fault::Malformed => "a malformed answer",
            Fault::TooManyRecords => "an answer with too many records",
            Fault::TooManyAliases => "an alias of an alias, and so on",
        }
    }
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses (RFC 3596).
    Aaaa,
    /// Services (RFC 2782).
    Srv,
}

impl Kind {
    fn number(self) -> u16 {
        match self {
            Kind::A => 1,
            Kind::Aaaa => 28,
            Kind::Srv => 33,
        }
    }
}

/// One host of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Lower ones are asked first.
    pub priority: u16,
    /// The share among those of the same priority.
    pub weight: u16,
    /// Where it listens.
    pub port: u16,
    /// The host's name.
    pub host: Name,
}

/// A record that answers the question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// Of [`Kind::A`] and [`Kind::Aaaa`].
    Address(IpAddr),
    /// Of [`Kind::Srv`].
    Service(Service),
}

/// What a server says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The answer, and for how many seconds it may be kept.
    Found(Vec<Record>, u32),
    /// The name is another name's alias; the server did not follow it. And for how many seconds that is so.
    Alias(Name, u32),
    /// There are no such records, and for how many seconds that is known (RFC 2308); `None` if the server did not say.
    Nothing(Option<u32>),
    /// It did not fit: ask over TCP.
    Truncated,
    /// The server could not answer, or would not: the response code (RFC 6895 section 2.3).
    Failed(u16),
}

/// Response code: the question was not understood.
pub const FORMAT_ERROR: u16 = 1;
/// Response code: there is no such name.
const NAME_ERROR: u16 = 3;
/// Response code: this kind of question is not known.
pub const NOT_IMPLEMENTED: u16 = 4;

/// Why a message is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It does not answer this question: another id, name, type or class, or no answer at all. Perhaps a forgery.
    NotOurs,
    /// It ends early, or a name in it goes nowhere.
    Malformed,
    /// It has more than [`RECORDS_MAX`] records.
    TooManyRecords,
    /// More than [`ALIASES_MAX`] aliases.
    TooManyAliases,
}

/// Appends a question; with `edns`, the server may answer with [`UDP_BYTES_MAX`] bytes over UDP (RFC 6891).
pub fn write_question(out: &mut Vec<u8>, id: u16, name: &Name, kind: Kind, edns: bool) {
    const RECURSION_DESIRED: u16 = 0x0100;
    for word in [id, RECURSION_DESIRED, 1, 0, 0, u16::from(edns)] {
        out.extend_from_slice(&word.to_be_bytes());
    }
    for label in name.as_str().split('.') {
        out.push(label.len() as u8);
        out.extend_from_slice(label.as_bytes());
    }
    out.push(0);
    out.extend_from_slice(&kind.number().to_be_bytes());
    out.extend_from_slice(&CLASS_IN.to_be_bytes());
    if edns {
        // The root, OPT, our size, version 0 without flags, no options.
        out.push(0);
        out.extend_from_slice(&OPT.to_be_bytes());
        out.extend_from_slice(&(UDP_BYTES_MAX as u16).to_be_bytes());
        out.extend_from_slice(&[0; 6]);
    }
}

/// Reads the answer to a question.
///
/// # Errors
/// Why it is none.
pub fn read_reply(message: &[u8], id: u16, name: &Name, kind: Kind) -> Result<Reply, Fault> {
    let mut reader = Reader { message, at: 0 };
    let header = reader.header().map_err(|_| Fault::NotOurs)?;
    let code = header.flags & 0xf;
    if header.id != id || header.flags & 0x8000 == 0 || header.flags & 0x7800 != 0 {
        return Err(Fault::NotOurs);
    }
    // Who does not understand a question need not repeat it.
    if header.questions == 0 && matches!(code, FORMAT_ERROR | NOT_IMPLEMENTED) {
        return Ok(Reply::Failed(code));
    }
    if header.questions != 1 || !reader.asks(name, kind)? {
        return Err(Fault::NotOurs);
    }
    if header.flags & 0x0200 != 0 {
        return Ok(Reply::Truncated);
    }
    let sections = reader.sections(&header)?;
    match code | sections.extended_code << 4 {
        0 | NAME_ERROR => sections.conclude(name, kind),
        code => Ok(Reply::Failed(code)),
    }
}

struct Header {
    id: u16,
    flags: u16,
    questions: u16,
    /// Of answers, authorities and additional records.
    counts: [u16; 3],
}

/// The records that may matter.
#[derive(Default)]
struct Sections<'m> {
    answers: Vec<RawRecord<'m>>,
    negative_ttl: Option<u32>,
    extended_code: u16,
}

struct RawRecord<'m> {
    owner: String,
    kind: u16,
    ttl: u32,
    /// Its data, in a reader that can follow pointers out of it.
    data: Reader<'m>,
    end: usize,
}

impl Sections<'_> {
    /// Follows aliases from `name` to the records of `kind`.
    fn conclude(self, name: &Name, kind: Kind) -> Result<Reply, Fault> {
        let (mut owner, mut ttl) = (name.as_str().to_owned(), u32::MAX);
        for _ in 0..=ALIASES_MAX {
            let mut found = Vec::new();
            for record in self.answers.iter().filter(|record| record.owner == owner) {
                if record.kind == kind.number() {
                    found.extend(record.read(kind)?);
                    ttl = ttl.min(record.ttl);
                }
            }
            if !found.is_empty() {
                return Ok(Reply::Found(found, ttl));
            }
            let alias = self.answers.iter().find(|record| record.kind == CNAME && record.owner == owner);
            match alias {
                Some(record) => {
                    ttl = ttl.min(record.ttl);
                    owner = record.target()?;
                }
                // Where the end of the chain has no such records, the server says so with an SOA record.
                None if owner != name.as_str() && self.negative_ttl.is_none() => {
                    return Name::new(&owner).map(|name| Reply::Alias(name, ttl)).ok_or(Fault::Malformed);
                }
                None => return Ok(Reply::Nothing(self.negative_ttl)),
            }
        }
        Err(Fault::TooManyAliases)
    }
}

impl RawRecord<'_> {
    /// The record, unless it is one of none: a service at `.` is decidedly not offered (RFC 2782).
    fn read(&self, kind: Kind) -> Result<Option<Record>, Fault> {
        let mut data = self.data;
        let record = match kind {
            Kind::A => Record::Address(IpAddr::from(data.array::<4>()?)),
            Kind::Aaaa => Record::Address(IpAddr::from(data.array::<16>()?)),
            Kind::Srv => {
                let (priority, weight, port) = (data.word()?, data.word()?, data.word()?);
                let host = data.name()?;
                if host.is_empty() {
                    return self.whole(data, None);
                }
                let host = Name::new(&host).ok_or(Fault::Malformed)?;
                Record::Service(Service { priority, weight, port, host })
            }
        };
        self.whole(data, Some(record))
    }

    fn target(&self) -> Result<String, Fault> {
        let mut data = self.data;
        let target = data.name()?;
        self.whole(data, target)
    }

    /// RFC 2308 section 5: the lesser of the SOA record's own time to live and its last field.
    fn negative_ttl(&self) -> Result<u32, Fault> {
        let mut data = self.data;
        data.name()?;
        data.name()?;
        data.take(16)?;
        let minimum = data.double()?;
        self.whole(data, minimum.min(self.ttl))
    }

    /// What was read, if that was all of the record's data.
    fn whole<T>(&self, data: Reader<'_>, value: T) -> Result<T, Fault> {
        if data.at == self.end { Ok(value) } else { Err(Fault::Malformed) }
    }
}

#[derive(Clone, Copy)]
struct Reader<'m> {
    message: &'m [u8],
    at: usize,
}

impl<'m> Reader<'m> {
    fn take(&mut self, len: usize) -> Result<&'m [u8], Fault> {
        let bytes = self.message.get(self.at..self.at + len).ok_or(Fault::Malformed)?;
        self.at += len;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        self.take(N)?.try_into().map_err(|_| Fault::Malformed)
    }

    fn word(&mut self) -> Result<u16, Fault> {
        self.array().map(u16::from_be_bytes)
    }

    fn double(&mut self) -> Result<u32, Fault> {
        self.array().map(u32::from_be_bytes)
    }

    fn header(&mut self) -> Result<Header, Fault> {
        let (id, flags, questions) = (self.word()?, self.word()?, self.word()?);
        let counts = [self.word()?, self.word()?, self.word()?];
        debug_assert_eq!(self.at, HEADER);
        Ok(Header { id, flags, questions, counts })
    }

    /// Whether the question is this one.
    fn asks(&mut self, name: &Name, kind: Kind) -> Result<bool, Fault> {
        let (asked, number, class) = (self.name()?, self.word()?, self.word()?);
        Ok(asked == name.as_str() && number == kind.number() && class == CLASS_IN)
    }

    /// The text of a name: lower case, and what is no letter, digit, `-` or `_` as `\` and its number, so that no two
    /// names have the same text.
    fn name(&mut self) -> Result<String, Fault> {
        let (mut text, mut reader, mut jumped, mut wire) = (String::new(), *self, false, 0);
        // Pointers lead to before where the name (or the part before the last pointer) began: RFC 1035 section 4.1.4
        // says "prior occurrence", and so they end.
        let mut bound = reader.at;
        loop {
            let len = reader.take(1)?[0] as usize;
            match len {
                0 => break,
                1..=LABEL_BYTES_MAX => {
                    wire += len + 1;
                    if wire > NAME_BYTES_MAX + 1 {
                        return Err(Fault::Malformed);
                    }
                    push_label(&mut text, reader.take(len)?);
                }
                0xc0.. => {
                    let target = (len & 0x3f) << 8 | reader.take(1)?[0] as usize;
                    if !jumped {
                        self.at = reader.at;
                    }
                    if target >= bound {
                        return Err(Fault::Malformed);
                    }
                    (jumped, bound, reader.at) = (true, target, target);
                }
                _ => return Err(Fault::Malformed),
            }
        }
        if !jumped {
            self.at = reader.at;
        }
        Ok(text)
    }

    fn record(&mut self) -> Result<(RawRecord<'m>, u16), Fault> {
        let (owner, kind, class, ttl) = (self.name()?, self.word()?, self.word()?, self.double()?);
        let len = self.word()? as usize;
        let data = *self;
        self.take(len)?;
        // RFC 2181 section 8: with the highest bit set, it is zero.
        let ttl = if ttl > i32::MAX as u32 && kind != OPT { 0 } else { ttl };
        Ok((RawRecord { owner, kind, ttl, data, end: self.at }, class))
    }

    fn sections(mut self, header: &Header) -> Result<Sections<'m>, Fault> {
        let [answers, authorities, additional] = header.counts.map(usize::from);
        if answers + authorities + additional > RECORDS_MAX {
            return Err(Fault::TooManyRecords);
        }
        let mut sections = Sections::default();
        for index in 0..answers + authorities + additional {
            let (record, class) = self.record()?;
            match record.kind {
                // An OPT record's class is a size, and its time to live begins with the code's upper bits.
                OPT if index >= answers + authorities => sections.extended_code = (record.ttl >> 24) as u16,
                _ if class != CLASS_IN => {}
                SOA if (answers..answers + authorities).contains(&index) => {
                    sections.negative_ttl = Some(record.negative_ttl()?);
                }
                _ if index < answers => sections.answers.push(record),
                _ => {}
            }
        }
        Ok(sections)
    }
}

fn push_label(text: &mut String, label: &[u8]) {
    use std::fmt::Write;
    if !text.is_empty() {
        text.push('.');
    }
    for byte in label {
        match byte {
            b'-' | b'_' | b'0'..=b'9' | b'a'..=b'z' => text.push(*byte as char),
            b'A'..=b'Z' => text.push(byte.to_ascii_lowercase() as char),
            // Writing to a string does not fail.
            other => _ = write!(text, "\\{other:03}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use annulus_engine::driver::sim::Random;

    use super::*;

    /// `cart.shop A?`, id 0x1234, as a server would see it; and the same, answered: flags, counts, then records.
    fn answer(flags: u16, counts: [u16; 3], records: &[u8]) -> Vec<u8> {
        let mut message = Vec::new();
        for word in [0x1234, 0x8180 | flags, 1, counts[0], counts[1], counts[2]] {
            message.extend_from_slice(&u16::to_be_bytes(word));
        }
        message.extend_from_slice(b"\x04cart\x04shop\0\0\x01\0\x01");
        message.extend_from_slice(records);
        message
    }

    fn cart() -> Name {
        Name::new("cart.shop").unwrap()
    }

    fn read(message: &[u8]) -> Result<Reply, Fault> {
        read_reply(message, 0x1234, &cart(), Kind::A)
    }

    fn address(text: &str) -> Record {
        Record::Address(text.parse().unwrap())
    }

    const A: &[u8] = b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\x0a\0\0\x01";
    const SOA_30: &[u8] = b"\xc0\x11\0\x06\0\x01\0\0\0\x3c\0\x16\0\0\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x1e";

    #[test]
    fn a_question_is_written_as_it_should_be() {
        let mut out = Vec::new();
        write_question(&mut out, 0x1234, &cart(), Kind::Srv, true);
        let expected = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\x01\x04cart\x04shop\0\0\x21\0\x01\0\0\x29\x04\xd0\0\0\0\0\0\0";
        assert_eq!(out, expected);
        out.clear();
        write_question(&mut out, 1, &cart(), Kind::A, false);
        assert_eq!(out.len(), 12 + 11 + 4);
    }

    #[test]
    fn addresses_are_found_directly_and_over_aliases() {
        let second = b"\x04CART\xc0\x11\0\x01\0\x01\0\0\0\x1e\0\x04\x0a\0\0\x02";
        let both = answer(0, [2, 0, 0], &[A, second].concat());
        assert_eq!(read(&both), Ok(Reply::Found(vec![address("10.0.0.1"), address("10.0.0.2")], 30)));
        // cart.shop → b.shop → c.shop, out of order.
        let chain = b"\x01c\xc0\x11\0\x01\0\x01\0\0\0\x09\0\x04\x0a\0\0\x03\
            \x01b\xc0\x11\0\x05\0\x01\0\0\0\x08\0\x04\x01c\xc0\x11\
            \xc0\x0c\0\x05\0\x01\0\0\0\x0a\0\x04\x01b\xc0\x11";
        assert_eq!(read(&answer(0, [3, 0, 0], chain)), Ok(Reply::Found(vec![address("10.0.0.3")], 8)));
        let alias = &chain[chain.len() - 16..];
        assert_eq!(read(&answer(0, [1, 0, 0], alias)), Ok(Reply::Alias(Name::new("b.shop").unwrap(), 10)));
        assert_eq!(read(&answer(3, [1, 1, 0], &[alias, SOA_30].concat())), Ok(Reply::Nothing(Some(30))));
        // An alias of itself.
        let itself = b"\xc0\x0c\0\x05\0\x01\0\0\0\x0a\0\x02\xc0\x0c";
        assert_eq!(read(&answer(0, [1, 0, 0], itself)), Err(Fault::TooManyAliases));
    }

    #[test]
    fn services_and_v6_addresses_are_read() {
        let mut message = answer(0, [2, 0, 0], &[]);
        message[12 + 11 + 1] = 33;
        message.extend_from_slice(b"\xc0\x0c\0\x21\0\x01\0\0\0\x3c\0\x0a\0\x01\0\x02\x1f\x90\x01a\xc0\x11");
        message.extend_from_slice(b"\xc0\x0c\0\x21\0\x01\0\0\0\x3c\0\x07\0\0\0\0\0\0\0");
        let host = Name::new("a.shop").unwrap();
        let service = Record::Service(Service { priority: 1, weight: 2, port: 8080, host });
        let read = |message: &[u8], kind| read_reply(message, 0x1234, &cart(), kind);
        assert_eq!(read(&message, Kind::Srv), Ok(Reply::Found(vec![service], 60)), "one at the root is none");
        let mut message = answer(0, [1, 0, 0], b"\xc0\x0c\0\x1c\0\x01\0\0\0\x3c\0\x10\x20\x01");
        message.extend_from_slice(&[0; 13]);
        message.push(9);
        message[12 + 11 + 1] = 28;
        assert_eq!(read(&message, Kind::Aaaa), Ok(Reply::Found(vec![address("2001::9")], 60)));
    }

    #[test]
    fn absence_failure_and_truncation_are_told_apart() {
        assert_eq!(read(&answer(0, [0, 1, 0], SOA_30)), Ok(Reply::Nothing(Some(30))));
        assert_eq!(read(&answer(3, [0, 1, 0], SOA_30)), Ok(Reply::Nothing(Some(30))));
        assert_eq!(read(&answer(3, [0, 0, 0], &[])), Ok(Reply::Nothing(None)));
        assert_eq!(read(&answer(2, [0, 0, 0], &[])), Ok(Reply::Failed(2)));
        assert_eq!(read(&answer(0x200, [9, 0, 0], &A[..7])), Ok(Reply::Truncated), "cut within a record");
        // EDNS: version 1 is needed, says the server: code 16.
        assert_eq!(read(&answer(0, [0, 0, 1], b"\0\0\x29\x10\0\x01\0\0\0\0\0")), Ok(Reply::Failed(16)));
        let mut without_question = answer(1, [0, 0, 0], &[]);
        without_question.truncate(12);
        without_question[5] = 0;
        assert_eq!(read(&without_question), Ok(Reply::Failed(FORMAT_ERROR)));
        // A time to live with its highest bit set.
        let mut negative = answer(0, [1, 0, 0], A);
        let ttl_at = negative.len() - 10;
        negative[ttl_at] = 0xff;
        assert_eq!(read(&negative), Ok(Reply::Found(vec![address("10.0.0.1")], 0)));
    }

    #[test]
    fn what_was_not_asked_for_is_not_ours_and_not_believed() {
        let good = answer(0, [1, 0, 0], A);
        let changed = |at: usize, to: u8| {
            let mut message = good.clone();
            message[at] = to;
            read(&message)
        };
        for (at, to) in [(0, 0), (2, 0x01), (2, 0x89), (5, 0), (5, 2), (13, b'k'), (24, 28), (26, 3)] {
            assert_eq!(changed(at, to), Err(Fault::NotOurs), "byte {at}");
        }
        assert_eq!(changed(13, b'C'), read(&good), "case does not matter");
        // A record of another name, another class, and in another section.
        let other = b"\x01b\xc0\x11\0\x01\0\x01\0\0\0\x3c\0\x04\x0a\0\0\x09";
        let chaos = b"\xc0\x0c\0\x01\0\x03\0\0\0\x3c\0\x04\x0a\0\0\x09";
        assert_eq!(read(&answer(0, [2, 0, 0], &[other, &chaos[..]].concat())), Ok(Reply::Nothing(None)));
        assert_eq!(read(&answer(0, [0, 0, 1], A)), Ok(Reply::Nothing(None)));
        // A label with a dot in it is not two labels.
        let mut dotted = good.clone();
        dotted.splice(12..23, *b"\x09cart.shop\0");
        assert_eq!(read(&dotted), Err(Fault::NotOurs));
    }

    #[test]
    fn pointers_go_backwards_and_names_end() {
        for record in [
            &b"\xc0\x1b"[..],    // at itself
            b"\xc0\x1d\xc0\x1b", // forwards, and back
            b"\xc0\xff",         // out of the message
            b"\x01a\xc0\x1b",    // to the part before it: an endless name
            b"\x40a",            // a label of a kind that was never used
            b"\x80",
        ] {
            let whole = [record, &A[2..]].concat();
            assert_eq!(read(&answer(0, [1, 0, 0], &whole)), Err(Fault::Malformed), "{record:x?}");
        }
        let long = [&b"\x3f"[..], &[b'a'; 63]].concat().repeat(4);
        assert_eq!(read(&answer(0, [1, 0, 0], &[&long, &b"\0"[..], &A[2..]].concat())), Err(Fault::Malformed));
        // An address of five bytes, a service whose name ends before its data.
        assert_eq!(
            read(&answer(0, [1, 0, 0], b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x05\x0a\0\0\x01\0")),
            Err(Fault::Malformed)
        );
        assert_eq!(read(&answer(0, [1025, 0, 0], A)), Err(Fault::TooManyRecords));
        assert_eq!(read(&answer(0, [2, 0, 0], A)), Err(Fault::Malformed));
        assert_eq!(read(&answer(0, [1, 0, 0], b"\x05abc")), Err(Fault::Malformed));
    }

    #[test]
    fn no_bytes_make_it_panic_or_answer_for_another_name() {
        let chain =
            b"\xc0\x0c\0\x05\0\x01\0\0\0\x0a\0\x04\x01b\xc0\x11\x01b\xc0\x11\0\x01\0\x01\0\0\0\x09\0\x04\x0a\0\0\x03";
        let seeds = [answer(0, [1, 0, 0], A), answer(0, [2, 0, 0], chain), answer(3, [0, 1, 0], SOA_30)];
        let mut found = 0;
        for seed in 0..100_000 {
            let mut random = Random::new(seed);
            let mut message = random.pick(&seeds).unwrap().clone();
            for _ in 0..random.between(1, 4) {
                let at = random.below(message.len());
                match random.below(4) {
                    0 => message.truncate(at),
                    1 => message.insert(at, random.bits() as u8),
                    2 => message[at] = *random.pick(&[0, 0xc0, 0xff, 0x3f, 0x0c]).unwrap(),
                    _ => message[at] = random.bits() as u8,
                }
                if message.is_empty() {
                    message.push(0);
                }
            }
            let noise: Vec<u8> = (0..random.below(64)).map(|_| random.bits() as u8).collect();
            assert_eq!(read(&noise), Err(Fault::NotOurs));
            match read(&message) {
                Ok(reply) => {
                    found += u32::from(matches!(reply, Reply::Found(..)));
                    assert_eq!(message[..2], [0x12, 0x34]);
                }
                Err(_) => assert_eq!(read_reply(&message, 0, &cart(), Kind::Srv).ok(), None),
            }
        }
        assert!(found > 1000, "{found}");
    }
}
