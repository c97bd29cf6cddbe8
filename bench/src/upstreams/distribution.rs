//! How long answers take and how large they are, as people write it: `100-500ms`, `1-100KB`.

use crate::random::Random;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Longest latency that is drawn or accepted.
pub const LATENCY_MAX: Duration = Duration::from_secs(120);
/// Largest body that is made.
pub const BODY_BYTES_MAX: usize = 8 << 20;
/// The 99th percentile of the standard normal distribution.
const NORMAL_P99: f64 = 2.326_347_9;

/// A service's own time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Latency {
    /// Always the same; `0` is answered in the same turn.
    Fixed(Duration),
    /// Equally likely from the first to the second.
    Uniform(Duration, Duration),
    /// The logarithm is normal: a median and a long tail, given by its 99th percentile.
    LogNormal {
        /// The median.
        p50: Duration,
        /// The 99th percentile.
        p99: Duration,
    },
}

impl Latency {
    /// One value.
    pub fn draw(&self, random: &mut Random) -> Duration {
        match *self {
            Latency::Fixed(duration) => duration,
            Latency::Uniform(least, most) => least + (most - least).mul_f64(random.uniform()),
            Latency::LogNormal { p50, p99 } => {
                let spread = (p99.as_secs_f64() / p50.as_secs_f64()).ln() / NORMAL_P99;
                let seconds = p50.as_secs_f64() * (spread * random.normal()).exp();
                Duration::from_secs_f64(seconds.min(LATENCY_MAX.as_secs_f64()))
            }
        }
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |duration: &Duration| duration.as_secs_f64() * 1e3;
        match self {
            Latency::Fixed(duration) => write!(f, "fixed:{}ms", ms(duration)),
            Latency::Uniform(least, most) => write!(f, "{}-{}ms", ms(least), ms(most)),
            Latency::LogNormal { p50, p99 } => write!(f, "lognormal:{}ms,{}ms", ms(p50), ms(p99)),
        }
    }
}

impl FromStr for Latency {
    type Err = String;

    fn from_str(text: &str) -> Result<Latency, String> {
        let wrong = || {
            format!(
                "{text:?} is no latency: use 0, fixed:20ms, 100-500ms or lognormal:50ms,400ms, at most {LATENCY_MAX:?}"
            )
        };
        if let Some(pair) = text.strip_prefix("lognormal:") {
            let (p50, p99) =
                pair.split_once(',').and_then(|pair| Some((duration(pair.0)?, duration(pair.1)?))).ok_or_else(wrong)?;
            return if p50.is_zero() || p99 < p50 { Err(wrong()) } else { Ok(Latency::LogNormal { p50, p99 }) };
        }
        if let Some((least, most)) = text.split_once('-') {
            // The unit is often written once.
            let unit = most.trim_start_matches(|digit: char| digit.is_ascii_digit() || digit == '.');
            let least = duration(least).or_else(|| duration(&format!("{least}{unit}"))).ok_or_else(wrong)?;
            let most = duration(most).ok_or_else(wrong)?;
            return if most < least { Err(wrong()) } else { Ok(Latency::Uniform(least, most)) };
        }
        duration(text.strip_prefix("fixed:").unwrap_or(text)).map(Latency::Fixed).ok_or_else(wrong)
    }
}

/// `20ms`, `1.5s`, `250us`; `0` needs no unit.
pub fn duration(text: &str) -> Option<Duration> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let number: f64 = digits.parse().ok().filter(|number: &f64| number.is_finite() && *number >= 0.0)?;
    let seconds = match &text[digits.len()..] {
        "s" => number,
        "ms" => number / 1e3,
        "us" => number / 1e6,
        "" if number == 0.0 => 0.0,
        _ => return None,
    };
    (seconds <= LATENCY_MAX.as_secs_f64()).then(|| Duration::from_secs_f64(seconds))
}

/// Body sizes, log-uniform: each doubling between the bounds is equally likely.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// The smallest, in bytes.
    pub least: usize,
    /// The largest, in bytes.
    pub most: usize,
}

impl Sizes {
    /// `count` sizes that are equally likely together make up the distribution: the middles of equal steps of the
    /// logarithm.
    pub fn classes(&self, count: usize) -> impl Iterator<Item = usize> {
        let (least, ratio) = (self.least as f64, self.most as f64 / self.least as f64);
        // One size needs one class.
        let count = if ratio == 1.0 { 1 } else { count };
        (0..count).map(move |class| (least * ratio.powf((class as f64 + 0.5) / count as f64)).round() as usize)
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.least, self.most)
    }
}

impl FromStr for Sizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Sizes, String> {
        let wrong = || format!("{text:?} is no size: use 1KB, 512 or 1-100KB, at most {BODY_BYTES_MAX} bytes");
        let (least, most) = match text.split_once('-') {
            Some((least, most)) => {
                let unit = most.trim_start_matches(|digit: char| digit.is_ascii_digit());
                // In `1-100KB` the unit belongs to both.
                let least = if least.ends_with(|letter: char| letter.is_ascii_digit()) {
                    format!("{least}{unit}")
                } else {
                    least.to_owned()
                };
                (bytes(&least).ok_or_else(wrong)?, bytes(most).ok_or_else(wrong)?)
            }
            None => (bytes(text).ok_or_else(wrong)?, bytes(text).ok_or_else(wrong)?),
        };
        if least == 0 || most < least { Err(wrong()) } else { Ok(Sizes { least, most }) }
    }
}

/// `512`, `512B`, `1KB`, `2MB`; KB are 1,024 bytes.
fn bytes(text: &str) -> Option<usize> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" | "B" => 1,
        "KB" => 1 << 10,
        "MB" => 1 << 20,
        _ => return None,
    };
    digits.parse::<usize>().ok()?.checked_mul(unit).filter(|&bytes| bytes <= BODY_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(number: u64) -> Duration {
        Duration::from_millis(number)
    }

    #[test]
    fn latencies_are_read_as_people_write_them() {
        assert_eq!("0".parse(), Ok(Latency::Fixed(Duration::ZERO)));
        assert_eq!("fixed:20ms".parse(), Ok(Latency::Fixed(ms(20))));
        assert_eq!("100-500ms".parse(), Ok(Latency::Uniform(ms(100), ms(500))));
        assert_eq!("100ms-2s".parse(), Ok(Latency::Uniform(ms(100), ms(2000))));
        assert_eq!("lognormal:50ms,400ms".parse(), Ok(Latency::LogNormal { p50: ms(50), p99: ms(400) }));
        for wrong in
            ["", "5", "-3ms", "fixed:", "500-100ms", "lognormal:0,5ms", "lognormal:9ms,5ms", "3h", "1e9s", "NaNs"]
        {
            assert!(wrong.parse::<Latency>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_is_shown_can_be_read_again() {
        for text in ["fixed:0ms", "fixed:20ms", "100-500ms", "lognormal:50ms,400ms"] {
            let latency: Latency = text.parse().unwrap();
            assert_eq!(latency.to_string(), text);
        }
        assert_eq!("1-100KB".parse::<Sizes>().unwrap().to_string().parse(), "1-100KB".parse::<Sizes>());
    }

    #[test]
    fn a_log_normal_has_its_percentiles() {
        let latency = Latency::LogNormal { p50: ms(50), p99: ms(400) };
        let mut random = Random::new(3);
        let mut many: Vec<u128> = (0..100_000).map(|_| latency.draw(&mut random).as_micros()).collect();
        many.sort_unstable();
        assert!((48_500..51_500).contains(&many[50_000]), "{}", many[50_000]);
        assert!((370_000..430_000).contains(&many[99_000]), "{}", many[99_000]);
    }

    #[test]
    fn sizes_are_spread_by_their_logarithm() {
        let sizes: Sizes = "1-100KB".parse().unwrap();
        assert_eq!(sizes, Sizes { least: 1024, most: 102_400 });
        let classes: Vec<usize> = sizes.classes(16).collect();
        assert!(classes.is_sorted() && classes.len() == 16);
        assert!(classes[0] > 1024 && classes[15] < 102_400);
        // Half of them lie below the geometric middle of the bounds.
        assert_eq!(classes.iter().filter(|&&size| size < 10_240).count(), 8);
        assert_eq!("1KB".parse::<Sizes>().unwrap().classes(16).collect::<Vec<_>>(), [1024]);
        for wrong in ["", "0", "KB", "9-1KB", "100MB", "1.5KB", "-5"] {
            assert!(wrong.parse::<Sizes>().is_err(), "{wrong:?}");
        }
    }
}
