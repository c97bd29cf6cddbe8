//! Figures as people read them: three digits, a unit that fits, thousands apart.

/// A time in nanoseconds, as in `950 ns`, `12.3 µs`, `4.36 ms`, `1.20 s`.
pub fn duration(ns: u64) -> String {
    let ns = ns as f64;
    // What rounds to a thousand belongs to the next unit.
    let (value, unit) = match ns {
        ns if ns < 999.5 => return format!("{ns:.0} ns"),
        ns if ns < 999.5e3 => (ns / 1e3, "µs"),
        ns if ns < 999.5e6 => (ns / 1e6, "ms"),
        ns => (ns / 1e9, "s"),
    };
    format!("{} {unit}", three(value))
}

/// A time in nanoseconds that is round, as at an axis: `1 ms`, `500 µs`.
pub fn round_duration(ns: f64) -> String {
    let (value, unit) = match ns {
        ns if ns < 1e3 => (ns, "ns"),
        ns if ns < 1e6 => (ns / 1e3, "µs"),
        ns if ns < 1e9 => (ns / 1e6, "ms"),
        ns => (ns / 1e9, "s"),
    };
    format!("{} {unit}", number(value))
}

/// A length of time in seconds, as in `60 s`, `2.5 s`.
pub fn seconds(seconds: f64) -> String {
    format!("{} s", number((seconds * 10.0).round() / 10.0))
}

/// Bytes, as in `512 B`, `1.20 MiB`.
pub fn bytes(bytes: u64) -> String {
    let mut value = bytes as f64;
    if value < 999.5 {
        return format!("{bytes} B");
    }
    let mut unit = "";
    for larger in ["KiB", "MiB", "GiB", "TiB", "PiB"] {
        value /= 1024.0;
        unit = larger;
        if value < 999.5 {
            break;
        }
    }
    format!("{} {unit}", three(value))
}

/// Bytes that may be fewer than none.
pub fn growth(bytes_more: i64) -> String {
    let sign = if bytes_more < 0 { "\u{2212}" } else { "+" };
    format!("{sign}{}", bytes(bytes_more.unsigned_abs()))
}

/// A whole number with its thousands apart: `12,345`.
pub fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut apart = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            apart.push(',');
        }
        apart.push(digit);
    }
    apart
}

/// A number with three decimals at most, none that say nothing, and its thousands apart.
pub fn number(value: f64) -> String {
    if !value.is_finite() {
        return "none".to_owned();
    }
    let rounded = (value.abs() * 1000.0).round();
    if rounded >= 1e18 {
        return format!("{value:.3e}");
    }
    let sign = if value < 0.0 && rounded > 0.0 { "\u{2212}" } else { "" };
    let (whole, thousandths) = ((rounded / 1000.0).floor() as u64, (rounded % 1000.0) as u64);
    let decimals = if thousandths > 0 { format!(".{thousandths:03}") } else { String::new() };
    format!("{sign}{}{}", count(whole), decimals.trim_end_matches('0'))
}

/// How often per second: `12,345/s`, `0.52/s`.
pub fn rate(per_s: f64) -> String {
    if per_s >= 99.5 { format!("{}/s", count(per_s.round() as u64)) } else { format!("{}/s", three(per_s)) }
}

/// A share as percent: `0.67 %`.
pub fn percent(share: f64) -> String {
    format!("{} %", three(share * 100.0))
}

/// One and many: `1 round`, `3 rounds`.
pub fn of(number: usize, noun: &str) -> String {
    format!("{} {noun}{}", count(number as u64), if number == 1 { "" } else { "s" })
}

/// `1`, `1 and 3`, `1, 2 and 4`.
pub fn list(numbers: &[usize]) -> String {
    let words: Vec<String> = numbers.iter().map(usize::to_string).collect();
    match words.split_last() {
        None => String::new(),
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
    }
}

/// Three digits of a number that is not negative.
fn three(value: f64) -> String {
    match value {
        value if value < 0.000_5 => "0".to_owned(),
        value if value < 0.999_5 => format!("{value:.3}"),
        value if value < 9.995 => format!("{value:.2}"),
        value if value < 99.95 => format!("{value:.1}"),
        value => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_three_digits_and_a_unit_that_fits() {
        let told = [0, 999, 999_499, 999_500, 4_358_000, 999_600_000, 1_204_000_000, 120_000_000_000].map(duration);
        assert_eq!(told, ["0 ns", "999 ns", "999 µs", "1.00 ms", "4.36 ms", "1.00 s", "1.20 s", "120 s"]);
        assert_eq!([200.0, 1e6, 5e10].map(round_duration), ["200 ns", "1 ms", "50 s"]);
        assert_eq!([seconds(60.0), seconds(2.54), seconds(0.1)], ["60 s", "2.5 s", "0.1 s"]);
    }

    #[test]
    fn bytes_have_binary_units() {
        assert_eq!([0, 999, 1000, 1024, 1_572_864].map(bytes), ["0 B", "999 B", "0.977 KiB", "1.00 KiB", "1.50 MiB"]);
        assert_eq!([growth(-2048), growth(0)], ["−2.00 KiB", "+0 B"]);
        assert!(bytes(u64::MAX).ends_with(" PiB"));
    }

    #[test]
    fn thousands_stand_apart_and_empty_decimals_are_left_out() {
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([0.9, 3.0, 73_928.043, -0.25, -0.0001].map(number), ["0.9", "3", "73,928.043", "−0.25", "0"]);
        assert_eq!([number(f64::NAN), number(1e20)], ["none", "1.000e20"]);
        assert_eq!([rate(12_345.4), rate(0.52), rate(0.0)], ["12,345/s", "0.520/s", "0/s"]);
        assert_eq!([percent(0.0067), percent(1.0)], ["0.670 %", "100 %"]);
    }

    #[test]
    fn lists_end_with_and() {
        assert_eq!([list(&[]), list(&[1]), list(&[1, 3]), list(&[1, 2, 4])], ["", "1", "1 and 3", "1, 2 and 4"]);
        assert_eq!([of(1, "round"), of(3, "round")], ["1 round", "3 rounds"]);
    }
}
