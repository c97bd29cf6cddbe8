//! A gateway under load: what its processor spends, what it adds to the services' own time, and what happens when they
//! or it have too much to do.
//!
//! Added latency is the answer's time minus the slowest service's own time, which every body tells (see
//! [`crate::upstreams::body`]); it is the same for every gateway that passes bodies on.

pub mod answer;
pub mod attack;
mod cases;
pub mod config;
pub mod generator;
mod launch;
pub mod multiplexed;
pub mod rig;
pub mod shop;
pub mod tally;

use crate::record::Record;
use crate::scenario::Settings;
use config::Upstream;
use rig::Outside;
use std::fmt;
use std::str::FromStr;

/// What is done to the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// No gateway at all: what generator and services cost and add themselves.
    Direct,
    /// Small bodies, steady rate: processor time and added latency.
    Cpu,
    /// Five times the rate for a while.
    Spike,
    /// Twice what it can carry.
    Overload,
    /// One service that takes requests and never answers.
    BlackHole,
    /// Services that refuse streams, retire connections and break answers off.
    Storm,
    /// A tenth of all answers wrong, late or broken, for long.
    Soak,
    /// Clients, and then a service, that abuse the protocol.
    Attack,
    /// Small answers beside large ones.
    Fairness,
    /// Answers that are kept, and answers that are compressed.
    Kept,
    /// A service with a long tail, asked once and asked again.
    Hedged,
}

impl Case {
    /// All of them.
    pub const ALL: [Case; 11] = [
        Case::Direct,
        Case::Cpu,
        Case::Spike,
        Case::Overload,
        Case::BlackHole,
        Case::Storm,
        Case::Soak,
        Case::Attack,
        Case::Fairness,
        Case::Kept,
        Case::Hedged,
    ];
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Case::Direct => "direct",
            Case::Cpu => "cpu",
            Case::Spike => "spike",
            Case::Overload => "overload",
            Case::BlackHole => "blackhole",
            Case::Storm => "storm",
            Case::Soak => "soak",
            Case::Attack => "attack",
            Case::Fairness => "fairness",
            Case::Kept => "kept",
            Case::Hedged => "hedged",
        })
    }
}

impl FromStr for Case {
    type Err = String;

    fn from_str(text: &str) -> Result<Case, String> {
        Case::ALL.into_iter().find(|case| case.to_string() == text).ok_or_else(|| {
            let names = Case::ALL.map(|case| case.to_string());
            format!("there is no case {text:?}: use {}", names.join(", "))
        })
    }
}

/// How the gateway is measured.
#[derive(Clone, Debug)]
pub struct Options {
    /// What is done to it.
    pub case: Case,
    /// What it speaks to the services.
    pub upstream: Upstream,
    /// Services per request, where the case does not mix them.
    pub fan_out: usize,
    /// A gateway that somebody else started, instead of ours.
    pub outside: Option<Outside>,
    /// The port for the services, where somebody else's gateway expects them.
    pub shop_port: Option<u16>,
    /// Requested instead of the case's own paths.
    pub path: Option<String>,
}

/// Runs a case.
///
/// # Errors
/// A sentence: a process could not be started, or is gone.
pub fn run(settings: &Settings, options: &Options) -> Result<Record, String> {
    cases::run(settings, options)
}

/// The owner's case, as far as this machine carries it, and what that says about four cores.
///
/// # Errors
/// As [`run`].
pub fn seed_target(settings: &Settings, options: &Options) -> Result<Record, String> {
    cases::seed_target(settings, options)
}

/// The shortest run that needs everything here, with the services in the gateway's place.
///
/// # Errors
/// As [`run`].
pub fn smoke(settings: &Settings) -> Result<Record, String> {
    let options = Options {
        case: Case::Direct,
        upstream: Upstream::Http1,
        fan_out: 1,
        outside: None,
        shop_port: None,
        path: None,
    };
    run(settings, &options)
}
