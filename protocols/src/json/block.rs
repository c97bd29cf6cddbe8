//! The grammar of RFC 8259, up to 63 bytes at a time.
//!
//! Every byte is one bit of a few 64-bit masks ([`lanes`](super::lanes)), and every rule is a rule about neighbours, so
//! that a block costs about the same whatever is in it. Only brackets, escapes and words are gone through one by one.
//!
//! ```text
//! text      {"id" : 12 , "tags":["a\"b"]}
//! quotes     #  #        #    #  #    #
//! region     ###         #####   #####       from a quote to before its partner
//! scalar           ##
//! inside    .##################### . . .##   positions where the innermost open level is an object
//! ```
//!
//! Every token but the first follows another, so it is enough to say of each class of tokens what may follow it. With
//! `ends` the last bytes of a class's tokens and `white` the white space outside of strings, `(ends << 1) + white` moves
//! each bit over the white space behind its token: the carry runs through a run of ones and stops behind it. The same
//! addition moves a bit through digits and through strings.
//!
//! The block ends early where that saves the trouble: before a number, word or escape that runs over its end, and behind
//! the end of the whole value. Bit `len` is therefore always a place in the next block, at most bit 63; the class whose
//! bit lands there is the state to go on with. Whenever a block is not certain that all is well it takes nothing, and
//! the [automaton](super::automaton) has the word.

use super::automaton::{Automaton, Expect, Levels};
use super::lanes::{LANES, Lanes, below, parity};
use super::members::unescape_one;

/// The most that a block takes.
pub(super) const BLOCK_BYTES: usize = LANES - 1;

/// The states in the order of [`Step::landings`].
const LANDINGS: [Expect; 8] = [
    Expect::Value,
    Expect::FirstElement,
    Expect::FirstName,
    Expect::Name,
    Expect::Colon,
    Expect::Next,
    Expect::InName,
    Expect::InText,
];

/// Takes some of the first `len` of `bytes`, at most [`BLOCK_BYTES`]: how many, or `None` and nothing changed. The
/// automaton must be [between tokens](Automaton::is_between_tokens).
#[inline]
pub(super) fn advance(automaton: &mut Automaton, bytes: &[u8; LANES], mut len: usize) -> Option<usize> {
    let lanes = Lanes::new(bytes);
    let mut levels = automaton.levels;

    let backslashes = lanes.equal(b'\\') & below(len);
    let escaped = if backslashes == 0 { 0 } else { escapes(bytes, backslashes, &mut len) };
    if len == 0 {
        return None;
    }
    let quotes = lanes.equal(b'"') & !escaped;
    let in_string = matches!(automaton.expect, Expect::InName | Expect::InText);
    let region = parity(quotes) ^ if in_string { !0 } else { 0 };
    let outside = !(region | quotes);

    let folded = lanes.folded();
    let (opens, closes) = (folded.equal(b'{') & outside, folded.equal(b'}') & outside);
    let brackets = brackets(&mut levels, bytes, opens, closes, &mut len)?;

    let (commas, colons) = (lanes.equal(b',') & outside, lanes.equal(b':') & outside);
    let controls = lanes.within(0, 0x1F);
    let mut white = lanes.equal(b' ');
    if controls != 0 {
        white |= lanes.equal(b'\n') | lanes.either(b'\t', b'\r');
    }
    let scalars = outside & !(opens | closes | commas | colons | white);
    len = before_the_last_run(scalars, len);
    if len == 0 {
        return None;
    }

    let keep = below(len);
    let step = Step {
        white: white & outside & keep,
        quotes: quotes & keep,
        region: region & keep,
        opens: opens & keep,
        closes: closes & keep,
        commas: commas & keep,
        colons: colons & keep,
        scalars: scalars & keep,
    };
    let scalars_are_good = step.scalars == 0 || scalars_are_good(lanes, bytes, step.scalars);
    if (controls & region | backslashes & !region) & keep != 0 || !scalars_are_good {
        return None;
    }
    let landed = step.landings(automaton.expect, &brackets, len)?;
    (automaton.levels, automaton.expect) = (levels, LANDINGS[landed.trailing_zeros() as usize % LANDINGS.len()]);
    Some(len)
}

/// What the bytes of a block are, as far as it goes.
struct Step {
    white: u64,
    quotes: u64,
    region: u64,
    opens: u64,
    closes: u64,
    commas: u64,
    colons: u64,
    scalars: u64,
}

/// What only the levels know.
struct Brackets {
    /// The innermost open level is an object from here on.
    inside: u64,
    /// `{`
    curly: u64,
}

impl Step {
    /// Moves each class's bits to what follows its tokens; `seed` is set for the class of the token before the block.
    fn follow(&self, ends: u64, seed: bool) -> u64 {
        ((ends << 1 | seed as u64) + self.white) & !self.white
    }

    /// One bit for each of [`LANDINGS`], exactly one of them set; `None` if something follows what it must not.
    #[inline(always)]
    fn landings(&self, expect: Expect, brackets: &Brackets, len: usize) -> Option<u64> {
        let Step { quotes, region, opens, closes, commas, colons, scalars, .. } = *self;
        let string_begins = quotes & region;
        let value_begins = string_begins | opens | scalars & !(scalars << 1);

        let value = self.follow(colons | commas & !brackets.inside, expect == Expect::Value);
        let name = self.follow(commas & brackets.inside, expect == Expect::Name);
        let first_name = self.follow(brackets.curly, expect == Expect::FirstName);
        let first_element = self.follow(opens & !brackets.curly, expect == Expect::FirstElement);

        let names = (name | first_name) & string_begins | (expect == Expect::InName) as u64;
        let names_end = (names + region) & !region;
        let keep = below(len);
        let values_end = (quotes & !region | closes | scalars & !(scalars >> 1)) & !names_end;
        let colon = self.follow(names_end & keep, expect == Expect::Colon);
        let next = self.follow(values_end, expect == Expect::Next);

        let misplaced = value & !value_begins
            | name & !string_begins
            | first_name & !(string_begins | closes)
            | first_element & !(value_begins | closes)
            | colon & !colons
            | next & !(commas | closes);
        if misplaced & keep != 0 {
            return None;
        }
        let landed = |bits: u64, place: u32| (bits >> len & 1) << place;
        let (in_string, in_name) = (region >> (len - 1) & 1, names_end >> len & 1);
        Some(
            landed(value, 0)
                | landed(first_element, 1)
                | landed(first_name, 2)
                | landed(name, 3)
                | landed(colon, 4)
                | landed(next, 5)
                | in_name << 6
                | (in_string & !in_name) << 7,
        )
    }
}

/// The bits of all escapes. The block ends before one that is cut in two by its end, or wrong.
fn escapes(bytes: &[u8; LANES], backslashes: u64, len: &mut usize) -> u64 {
    let (mut escaped, mut left) = (0, backslashes);
    while left != 0 {
        let at = left.trailing_zeros() as usize;
        let Some(size) = escape_len(&bytes[at..*len]) else {
            *len = at;
            break;
        };
        escaped |= below(size) << at;
        left &= !escaped;
    }
    escaped
}

/// The length of the escape that begins here; `None` if it is not all there and right.
fn escape_len(text: &[u8]) -> Option<usize> {
    match text.get(1)? {
        b'u' => unescape_one(text).map(|(_, len)| len),
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(2),
        _ => None,
    }
}

/// Goes through the brackets, the only thing here that has a memory. `None` if they do not fit, or nest too deep.
#[inline(always)]
fn brackets(levels: &mut Levels, bytes: &[u8; LANES], opens: u64, closes: u64, len: &mut usize) -> Option<Brackets> {
    let from = |at: usize| !0 << at;
    let mut found = Brackets { inside: if levels.in_object() { !0 } else { 0 }, curly: 0 };
    let mut left = (opens | closes) & below(*len);
    while left != 0 {
        let at = left.trailing_zeros() as usize;
        left &= left - 1;
        // Square and curly ones differ in this bit, opening and closing alike.
        let object = bytes[at] & 0x20 != 0;
        if opens >> at & 1 == 1 {
            if !levels.open(object) {
                return None;
            }
            found.curly |= (object as u64) << at;
        } else {
            if levels.in_object() != object {
                return None;
            }
            levels.close();
            if levels.depth() == 0 {
                *len = at + 1;
                break;
            }
        }
        found.inside = found.inside & !from(at) | if levels.in_object() { from(at) } else { 0 };
    }
    Some(found)
}

/// Where the run begins that reaches up to `len`; `len` if none does.
fn before_the_last_run(runs: u64, len: usize) -> usize {
    len - (runs << (LANES - len)).leading_ones() as usize
}

/// Whether every run is a number or a word. All runs end within the block.
#[inline(always)]
fn scalars_are_good(lanes: Lanes, bytes: &[u8; LANES], scalars: u64) -> bool {
    let begins = scalars & !(scalars << 1);
    let digits = lanes.within(b'0', b'9') & scalars;
    let others = scalars & !digits;
    if others == 0 {
        return begins & (lanes.equal(b'0') & digits & digits >> 1) == 0;
    }
    let minus = lanes.equal(b'-') & others;
    let (mut left, mut words) = (begins & !(digits | minus), 0);
    while left != 0 {
        let at = left.trailing_zeros() as usize;
        left &= left - 1;
        let len = (scalars >> at).trailing_ones() as usize;
        if !matches!(&bytes[at..at + len], b"true" | b"false" | b"null") {
            return false;
        }
        words |= below(len) << at;
    }
    let numbers = scalars & !words;
    others & !words == 0 && begins & (lanes.equal(b'0') & digits & digits >> 1) == 0
        || numbers_are_good(lanes, numbers, digits, minus)
}

/// Goes through all numbers of the block at once: sign, integer, fraction, exponent.
fn numbers_are_good(lanes: Lanes, numbers: u64, digits: u64, minus: u64) -> bool {
    let begins = numbers & !(numbers << 1);
    let points = lanes.equal(b'.') & numbers;
    let exponents = lanes.folded().equal(b'e') & numbers;
    let signs = lanes.equal(b'+') & numbers | minus;
    let behind = |digit: u64| (digit + digits) & !digits;

    let integer = begins & !minus | (begins & minus) << 1;
    let integer_end = behind(integer & digits);
    let fraction = (integer_end & points) << 1;
    let fraction_end = behind(fraction & digits);
    let behind_e = ((integer_end | fraction_end) & exponents) << 1;
    let exponent = behind_e & !signs | (behind_e & signs) << 1;
    let exponent_end = behind(exponent & digits);

    let zero_led = integer & lanes.equal(b'0') & digits & digits >> 1;
    let no_digit = (integer | fraction | exponent) & !digits;
    let run_on = integer_end & !(points | exponents) | fraction_end & !exponents | exponent_end;
    (zero_led | no_digit | run_on & numbers) == 0
}
