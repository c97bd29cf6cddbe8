//! The gateway's file, or what there is where none is named.

use crate::args::{Args, Command};
use crate::gateway::config;
use crate::gateway::reload::{Loaded, Source};

/// The gateway's file, if one is named.
pub fn source(args: &Args) -> Option<Source> {
    let path = match args.command {
        Command::Run => args.gateway.clone(),
        Command::Gateway => args.gateway.clone().or_else(|| args.config.clone()),
        _ => None,
    };
    let options = config::LoadOptions { allow_unsupported: args.allow_unsupported };
    path.map(|path| Source { path, options })
}

/// What the gateway's file says, if there is a gateway.
pub(super) fn load(command: Command, source: Option<&Source>) -> Result<Option<Loaded>, String> {
    match source {
        _ if !command.has_gateway() => Ok(None),
        Some(source) => source.load().map(Some),
        None => built_in().map(|gateway| Some(Loaded::without_file(gateway))),
    }
}

/// The gateway where no file is named: its own endpoints, and nothing behind it.
fn built_in() -> Result<config::Gateway, String> {
    let text = include_str!("../../gateway/built_in.json");
    let read = config::load_text("built-in", config::Syntax::Json, text, &config::LoadOptions::default());
    let lines =
        |problems: Vec<config::Problem>| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    read.map(|(gateway, _)| gateway).map_err(lines)
}
