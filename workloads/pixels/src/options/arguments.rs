//! The arguments of an option, and what is wrong with them.

use crate::fault::{Fault, Kind};
use crate::recipe::{Gravity, Length};

/// The arguments of one option.
pub(super) struct Arguments<'a> {
    pub(super) option: &'a str,
    pub(super) list: Vec<&'a str>,
}

impl<'a> Arguments<'a> {
    pub(super) fn wrong<T>(&self, what: impl std::fmt::Display) -> Result<T, Fault> {
        let option: String = self.option.chars().take(80).collect();
        refuse(format!("\"{}\": {what}", option.escape_debug()))
    }

    pub(super) fn at_most(&self, count: usize) -> Result<(), Fault> {
        if self.list.len() > count {
            return self.wrong(format_args!("it has {} arguments; at most {count} are understood", self.list.len()));
        }
        Ok(())
    }

    /// The argument at `at`, unless it is absent or empty: then what was said before, or the default, stays.
    pub(super) fn given(&self, at: usize) -> Option<&'a str> {
        self.list.get(at).copied().filter(|argument| !argument.is_empty())
    }

    pub(super) fn flag(&self, at: usize) -> Result<Option<bool>, Fault> {
        match self.given(at) {
            None => Ok(None),
            Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(Some(true)),
            Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(Some(false)),
            Some(other) => self.wrong(format_args!("\"{}\" is neither 1 nor 0", other.escape_debug())),
        }
    }

    pub(super) fn whole<N: std::str::FromStr + PartialOrd + std::fmt::Display>(
        &self,
        at: usize,
        least: N,
        most: N,
    ) -> Result<Option<N>, Fault> {
        let Some(argument) = self.given(at) else { return Ok(None) };
        match argument.parse::<N>() {
            Ok(number) if number >= least && number <= most => Ok(Some(number)),
            _ => self.wrong(format_args!("\"{}\" is no whole number from {least} to {most}", argument.escape_debug())),
        }
    }

    pub(super) fn number(&self, at: usize, least: f32, most: f32) -> Result<Option<f32>, Fault> {
        let Some(argument) = self.given(at) else { return Ok(None) };
        match argument.parse::<f32>() {
            // Adding nothing makes a negative zero a positive one, which has another text.
            Ok(number) if number >= least && number <= most => Ok(Some(number + 0.0)),
            _ => self.wrong(format_args!("\"{}\" is no number from {least} to {most}", argument.escape_debug())),
        }
    }

    pub(super) fn needed<T>(&self, value: Option<T>) -> Result<T, Fault> {
        match value {
            Some(value) => Ok(value),
            None => self.wrong("an argument is missing"),
        }
    }

    pub(super) fn gravity(&self, at: usize) -> Result<Option<Gravity>, Fault> {
        let Some(name) = self.given(at) else { return Ok(None) };
        let gravity = match name {
            "fp" => {
                let (x, y) = (self.number(at + 1, 0.0, 1.0)?, self.number(at + 2, 0.0, 1.0)?);
                self.at_most(at + 3)?;
                return Ok(Some(Gravity::Focus(self.needed(x)?, self.needed(y)?)));
            }
            "sm" => Gravity::Smart,
            "obj" | "objw" => {
                return self.wrong("objects are not told from each other here; use sm, or say where");
            }
            _ => match Gravity::named(name) {
                Some(gravity) => gravity,
                None => {
                    let all = "ce, no, so, ea, we, noea, nowe, soea, sowe, sm and fp:x:y";
                    return self.wrong(format_args!("there are the gravities {all}"));
                }
            },
        };
        self.at_most(at + 3)?;
        if (at + 1..at + 3).any(|offset| !matches!(self.given(offset), None | Some("0"))) {
            return self.wrong("offsets of a gravity are not offered here; use fp:x:y");
        }
        Ok(Some(gravity))
    }

    pub(super) fn length(&self, at: usize) -> Result<Option<Length>, Fault> {
        Ok(self.number(at, 0.0, 1e9)?.map(|number| match number {
            share if share > 0.0 && share < 1.0 => Length::Share(share),
            pixels => Length::Pixels(pixels as u32),
        }))
    }
}

/// A refusal.
pub(super) fn refuse<T>(what: String) -> Result<T, Fault> {
    Err(Fault::new(Kind::BadRequest, what))
}
