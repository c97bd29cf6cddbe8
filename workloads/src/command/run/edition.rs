//! The gateway's file, or what there is where none is named.

use std::sync::Arc;

use crate::args::{Args, Command};
use crate::gateway::config;
use crate::gateway::reload::{Dates, Editions, Source};
use crate::gateway::service::Edition;

/// The gateway's file, if one is named.
pub fn source(args: &Args) -> Option<Source> {
    let path = match args.command {
        Command::Run => args.gateway.clone(),
        Command::Gateway | Command::Check => args.gateway.clone().or_else(|| args.config.clone()),
        _ => None,
    };
    let options = config::LoadOptions { allow_unsupported: args.allow_unsupported };
    path.map(|path| Source { path, options })
}

/// What the gateway's file says, if there is a gateway.
pub(super) fn gateway_of(command: Command, source: Option<&Source>) -> Result<Option<config::Gateway>, String> {
    match source {
        _ if !command.has_gateway() => Ok(None),
        Some(source) => {
            let read = config::load(&source.path, &source.options);
            read.map(|(gateway, _)| Some(gateway)).map_err(|problems| lines(&problems))
        }
        None => built_in().map(Some),
    }
}

/// The first edition of the gateway, if there is one, and what files it was made of.
pub(super) fn open(command: Command, source: Option<&Source>) -> Result<(Option<Arc<Editions>>, Dates), String> {
    match source {
        _ if !command.has_gateway() => Ok((None, Dates::new())),
        Some(source) => {
            let (edition, dates) = source.read()?;
            Ok((Some(Editions::new(edition)), dates))
        }
        None => Ok((Some(Editions::new(Edition::load(built_in()?)?)), Dates::new())),
    }
}

/// The gateway where no file is named: its own endpoints, and nothing behind it.
fn built_in() -> Result<config::Gateway, String> {
    let text = include_str!("../../gateway/built_in.json");
    let read = config::load_text("built-in", config::Syntax::Json, text, &config::LoadOptions::default());
    read.map(|(gateway, _)| gateway).map_err(|problems| lines(&problems))
}

fn lines(problems: &[config::Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
