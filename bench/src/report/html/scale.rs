//! Axes: from values to places between 0 and 1, with ticks at 1, 2 and 5.

/// A mark on an axis.
#[derive(Clone, Debug, PartialEq)]
pub struct Tick {
    /// Between 0 and 1.
    pub at: f64,
    /// What is written there; nothing for a mere line.
    pub label: String,
    /// Written on a narrow screen, too.
    pub is_strong: bool,
}

/// From zero upwards.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Linear {
    most: f64,
    step: f64,
}

impl Linear {
    /// An axis that holds all values up to `most`, with about four ticks.
    pub fn to(most: f64) -> Linear {
        let most = if most.is_finite() && most > 0.0 { most } else { 1.0 };
        let step = step(most / 4.0);
        Linear { most: (most / step).ceil() * step, step }
    }

    /// Where a value is.
    pub fn at(&self, value: f64) -> f64 {
        (value / self.most).clamp(0.0, 1.0)
    }

    /// Ticks with labels.
    pub fn ticks(&self, label: impl Fn(f64) -> String) -> Vec<Tick> {
        let count = (self.most / self.step).round() as usize;
        let values = (0..=count).map(|index| index as f64 * self.step);
        values.map(|value| Tick { at: self.at(value), label: label(value), is_strong: true }).collect()
    }
}

/// By powers of ten, between two positive values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Log {
    low: f64,
    high: f64,
}

impl Log {
    /// An axis that holds both values; it ends at 1, 2 or 5 times a power of ten.
    pub fn between(low: f64, high: f64) -> Log {
        let low = low.max(1.0);
        let high = high.max(low * 1.000_1);
        let rungs = rungs(low / 10.0, high * 10.0);
        let below = rungs.iter().copied().rfind(|rung| *rung <= low * 1.000_001).unwrap_or(low);
        let above = rungs.iter().copied().find(|rung| *rung >= high * 0.999_999).unwrap_or(high);
        Log { low: below, high: if above > below { above } else { below * 2.0 } }
    }

    /// Where a value is.
    pub fn at(&self, value: f64) -> f64 {
        ((value.max(self.low) / self.low).ln() / (self.high / self.low).ln()).clamp(0.0, 1.0)
    }

    /// Ticks with labels: all of 1, 2 and 5 on a short axis, powers of ten on a long one.
    pub fn ticks(&self, label: impl Fn(f64) -> String) -> Vec<Tick> {
        let decades = (self.high / self.low).log10();
        let within = rungs(self.low * 0.999, self.high * 1.001);
        let tick = |value: f64| {
            let is_power = (value.log10() - value.log10().round()).abs() < 1e-6;
            let is_written = is_power || decades < 2.2;
            Tick { at: self.at(value), label: if is_written { label(value) } else { String::new() }, is_strong: true }
        };
        within.into_iter().map(tick).collect()
    }
}

/// The smallest of 1, 2 and 5 times a power of ten that is not below.
pub fn step(least: f64) -> f64 {
    let power = 10f64.powf(least.max(1e-12).log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|rung| rung * power).find(|rung| *rung >= least * 0.999_999).unwrap_or(power)
}

/// 1, 2 and 5 times powers of ten, between two values.
fn rungs(low: f64, high: f64) -> Vec<f64> {
    let (first, last) = (low.log10().floor() as i32, high.log10().ceil() as i32);
    let all = (first..=last).flat_map(|power| [1.0, 2.0, 5.0].map(|rung| rung * 10f64.powi(power)));
    all.filter(|rung| (low..=high).contains(rung)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linear_axes_hold_their_values_and_count_in_ones_twos_and_fives() {
        let axis = Linear::to(2013.0);
        let ticks = axis.ticks(|value| format!("{value}"));
        assert_eq!(ticks.iter().map(|tick| tick.label.as_str()).collect::<Vec<_>>(), ["0", "1000", "2000", "3000"]);
        assert_eq!((axis.at(0.0), axis.at(1500.0), axis.at(9999.0)), (0.0, 0.5, 1.0));
        for most in [0.0, f64::NAN, 0.003, 1.0, 7.0, 99.9, 1e9] {
            let axis = Linear::to(most);
            assert!((2..=6).contains(&axis.ticks(|_| String::new()).len()), "{most}: {axis:?}");
            assert!(!most.is_finite() || axis.most >= most);
        }
        assert_eq!([step(1.0), step(1.1), step(3.0), step(6.0), step(0.03)], [1.0, 2.0, 5.0, 10.0, 0.05]);
    }

    #[test]
    fn logarithmic_axes_hold_their_values_and_end_at_a_tick() {
        let axis = Log::between(130_000.0, 210_000_000.0);
        assert_eq!(axis, Log { low: 100_000.0, high: 500_000_000.0 });
        assert_eq!((axis.at(100_000.0), axis.at(1.0), axis.at(1e12)), (0.0, 0.0, 1.0));
        let ticks = axis.ticks(|value| format!("{value}"));
        assert_eq!((ticks[0].at, ticks[ticks.len() - 1].at), (0.0, 1.0));
        let written: Vec<_> = ticks.iter().filter(|tick| !tick.label.is_empty()).collect();
        assert_eq!(written.len(), 4, "powers of ten alone");
        assert_eq!(Log::between(300.0, 700.0).ticks(|value| format!("{value}")).len(), 3);
        for (low, high) in [(0.0, 0.0), (5.0, 5.0), (1000.0, 1000.0), (1.0, 1.2e11)] {
            let axis = Log::between(low, high);
            assert!(axis.high > axis.low && axis.at(high) <= 1.0, "{axis:?}");
        }
    }
}
