//! How a service behaves: latency, sizes, and what goes wrong how often. Read from the command line and from `/control`
//! in the same words.

use super::distribution::{Latency, Sizes, duration};
use crate::random::Random;
use serde_json::{Value, json};
use std::time::Duration;

/// One service's behaviour. Shares are of requests, from 0 to 1, and are tried in the order in which they stand here.
#[derive(Clone, Debug, PartialEq)]
pub struct Behaviour {
    /// Its own time per answer.
    pub latency: Latency,
    /// Its body sizes.
    pub sizes: Sizes,
    /// Share that gets no answer ever, on a connection that stays open.
    pub stalls: f64,
    /// Share that is turned away unprocessed: `REFUSED_STREAM` in HTTP/2; in HTTP/1.1 the connection closes unanswered.
    pub refused: f64,
    /// Share that breaks off in the middle of the body: `RST_STREAM`, or the connection closes.
    pub resets: f64,
    /// Share that is answered with 500.
    pub errors: f64,
    /// Share that is answered late.
    pub late: f64,
    /// How much later.
    pub late_by: Duration,
    /// After so many requests a connection is retired: GOAWAY, or `Connection: close`. Zero: never.
    pub goaway_every: u64,
}

impl Default for Behaviour {
    fn default() -> Behaviour {
        Behaviour {
            latency: Latency::Uniform(Duration::from_millis(100), Duration::from_millis(500)),
            sizes: Sizes { least: 1 << 10, most: 100 << 10 },
            stalls: 0.0,
            refused: 0.0,
            resets: 0.0,
            errors: 0.0,
            late: 0.0,
            late_by: Duration::from_secs(3),
            goaway_every: 0,
        }
    }
}

/// What becomes of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// An answer with 200.
    Answer,
    /// An answer with 500.
    Error,
    /// The head and a part of the body.
    Reset,
    /// Turned away unprocessed.
    Refuse,
    /// Nothing.
    Stall,
}

impl Behaviour {
    /// Changes one setting.
    ///
    /// # Errors
    /// A sentence: no such setting, or no such value.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let share = || match value.parse() {
            Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
            _ => Err(format!("{name}={value}: a share is a number from 0 to 1")),
        };
        match name {
            "latency" => self.latency = value.parse()?,
            "sizes" => self.sizes = value.parse()?,
            "stalls" => self.stalls = share()?,
            "refused" => self.refused = share()?,
            "resets" => self.resets = share()?,
            "errors" => self.errors = share()?,
            "late" => self.late = share()?,
            "late_by" => self.late_by = duration(value).ok_or_else(|| format!("{name}={value}: use 3s or 500ms"))?,
            "goaway_every" => self.goaway_every = value.parse().map_err(|_| format!("{name}={value}: use a number"))?,
            _ => {
                return Err(format!(
                    "there is no setting {name:?}: use latency, sizes, stalls, refused, resets, errors, late, late_by \
                     or goaway_every"
                ));
            }
        }
        Ok(())
    }

    /// What becomes of the next request.
    pub fn fate(&self, random: &mut Random) -> Fate {
        let shares = [
            (self.stalls, Fate::Stall),
            (self.refused, Fate::Refuse),
            (self.resets, Fate::Reset),
            (self.errors, Fate::Error),
        ];
        shares.into_iter().find(|(share, _)| random.happens(*share)).map_or(Fate::Answer, |(_, fate)| fate)
    }

    /// How long the next answer takes; `fixed` is the part that a request asked for itself.
    pub fn delay(&self, fixed: Option<Duration>, random: &mut Random) -> Duration {
        let own = fixed.unwrap_or_else(|| self.latency.draw(random));
        own + if random.happens(self.late) { self.late_by } else { Duration::ZERO }
    }

    /// The behaviour as `/control` shows it.
    pub fn json(&self) -> Value {
        json!({
            "latency": self.latency.to_string(),
            "sizes": self.sizes.to_string(),
            "stalls": self.stalls,
            "refused": self.refused,
            "resets": self.resets,
            "errors": self.errors,
            "late": self.late,
            "late_by": format!("{}ms", self.late_by.as_millis()),
            "goaway_every": self.goaway_every,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_told_apart_and_checked() {
        let mut behaviour = Behaviour::default();
        for (name, value) in [("latency", "fixed:1ms"), ("sizes", "1KB"), ("errors", "0.1"), ("goaway_every", "100")] {
            behaviour.set(name, value).unwrap();
        }
        assert_eq!(behaviour.json()["latency"], "fixed:1ms");
        assert_eq!((behaviour.errors, behaviour.goaway_every), (0.1, 100));
        for (name, value) in
            [("errors", "1.1"), ("errors", "NaN"), ("late_by", "soon"), ("colour", "red"), ("sizes", "x")]
        {
            assert!(behaviour.set(name, value).is_err(), "{name}={value}");
        }
    }

    #[test]
    fn fates_have_their_shares() {
        let behaviour = Behaviour { errors: 0.05, resets: 0.05, ..Behaviour::default() };
        let mut random = Random::new(5);
        let fates: Vec<Fate> = (0..100_000).map(|_| behaviour.fate(&mut random)).collect();
        let count = |fate| fates.iter().filter(|&&other| other == fate).count();
        assert!((4_700..5_300).contains(&count(Fate::Reset)), "{}", count(Fate::Reset));
        assert!((4_400..5_100).contains(&count(Fate::Error)), "{}", count(Fate::Error));
        assert_eq!(count(Fate::Stall) + count(Fate::Refuse), 0);
    }
}
