//! Durations as Go writes them: `1h30m`, `1.5s`, `300ms`.

use std::time::Duration;

/// Go counts nanoseconds in 63 bits: about 292 years.
const NANOSECONDS_MAX: u128 = i64::MAX as u128;

const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000), // U+00B5
    ("μs", 1_000), // U+03BC
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Reads one.
///
/// # Errors
/// What is wrong with it, as half a sentence.
pub fn parse(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    if text.starts_with('-') {
        return Err("it must not be negative".to_owned());
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest.is_empty() {
        return Err("it is empty".to_owned());
    }
    let mut nanoseconds = 0;
    while !rest.is_empty() {
        let (part, after) = part(rest)?;
        nanoseconds += part;
        if nanoseconds > NANOSECONDS_MAX {
            return Err("it is longer than 292 years".to_owned());
        }
        rest = after;
    }
    Ok(Duration::from_nanos(nanoseconds as u64))
}

/// A number with its unit, in nanoseconds, and what comes after.
fn part(text: &str) -> Result<(u128, &str), String> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, after) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return Err("a number is missing".to_owned());
    }
    let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
    let (unit, rest) = after.split_at(end);
    let Some((_, scale)) = UNITS.iter().find(|(name, _)| *name == unit) else {
        return Err(match unit {
            "" => "the unit is missing: ns, us, ms, s, m or h".to_owned(),
            _ => format!("{unit:?} is no unit: there are ns, us, ms, s, m and h"),
        });
    };
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().unwrap_or(u128::MAX) };
    let nanoseconds = whole.saturating_mul(u128::from(*scale)).min(NANOSECONDS_MAX + 1);
    Ok((nanoseconds + u128::from(part_of(*scale, fraction)), rest))
}

/// A decimal fraction of a unit, rounded as Go rounds it: in floating point, from as many digits as 63 bits hold.
fn part_of(scale: u64, digits: &str) -> u64 {
    let (mut fraction, mut divisor) = (0_u64, 1.0);
    for digit in digits.bytes() {
        let longer = fraction.checked_mul(10).and_then(|fraction| fraction.checked_add(u64::from(digit - b'0')));
        let Some(longer) = longer.filter(|longer| *longer <= 1 << 63) else { break };
        fraction = longer;
        divisor *= 10.0;
    }
    (fraction as f64 * (scale as f64 / divisor)) as u64
}

/// Writes one so that [`parse`] reads the same: the largest unit that leaves no fraction, hours and minutes apart.
pub fn format(duration: Duration) -> String {
    let nanoseconds = duration.as_nanos();
    if nanoseconds == 0 {
        return "0s".to_owned();
    }
    let (seconds, below) = (duration.as_secs(), duration.subsec_nanos());
    if below > 0 {
        let units = [("ms", 1_000_000), ("us", 1_000), ("ns", 1)];
        let (unit, scale) =
            units.into_iter().find(|(_, scale)| nanoseconds.is_multiple_of(*scale)).unwrap_or(("ns", 1));
        return format!("{}{unit}", nanoseconds / scale);
    }
    let parts = [(seconds / 3600, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s")];
    parts.iter().filter(|(count, _)| *count > 0).map(|(count, unit)| format!("{count}{unit}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_go() {
        for (text, nanoseconds) in [
            ("0", 0),
            ("0s", 0),
            ("300ms", 300_000_000),
            ("1.5s", 1_500_000_000),
            ("1h30m", 5_400_000_000_000),
            ("1h15m30.918273645s", 4_530_918_273_645),
            (".5s", 500_000_000),
            ("5.s", 5_000_000_000),
            ("+5s", 5_000_000_000),
            ("12µs", 12_000),
            ("12μs", 12_000),
            ("3us4ns", 3_004),
            ("0.3333333333333333333h", 1_200_000_000_000),
            ("9223372036854775807ns", i64::MAX as u64),
        ] {
            let duration = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(duration.as_nanos(), u128::from(nanoseconds), "{text}");
            assert_eq!(parse(&format(duration)), Ok(duration), "{text} {}", format(duration));
        }
    }

    #[test]
    fn others_are_refused() {
        for (text, says) in [
            ("", "empty"),
            ("3", "the unit is missing"),
            ("-3s", "negative"),
            ("s", "a number is missing"),
            (".s", "a number is missing"),
            ("1..5s", "a number is missing"),
            ("3 s", "\" s\" is no unit"),
            ("3d", "\"d\" is no unit"),
            ("1h30", "the unit is missing"),
            ("9223372036854775808ns", "292 years"),
            ("99999999999999999999999999999999999999999999999h", "292 years"),
            ("∞", "a number is missing"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(says), "{text:?}: {error}");
        }
    }

    #[test]
    fn the_shortest_form_is_written() {
        for (millis, text) in
            [(5_400_000, "1h30m"), (1_500, "1500ms"), (2_000, "2s"), (3_600_000, "1h"), (60_000, "1m")]
        {
            assert_eq!(format(Duration::from_millis(millis)), text);
        }
        assert_eq!(format(Duration::from_nanos(1_000_001)), "1000001ns");
    }
}
