//! `annulus check`: reads a configuration and tells what is wrong with it, without serving anything.

use std::path::Path;

use super::paint::Paint;
use super::run::source;
use super::words::Words;
use super::{Ended, Trouble};
use crate::args::{Args, Command};
use crate::chat::node::Node;
use crate::config::{Config, is_ours};
use crate::gateway::config;
use crate::gateway::service::Edition;
use crate::image::service::Image;
use crate::journal::to_errors;

/// Checks all files that the words name; whether all are well.
pub fn main(words: &Words) -> Ended {
    let named = words.operands().iter().map(String::as_str).chain(words.values("--config")).map(|file| (file, None));
    let gateways = words.values("--gateway").map(|file| (file, Some(Command::Gateway)));
    let files: Vec<_> = named.chain(gateways).collect();
    if files.is_empty() {
        return Err(Trouble::Words("check which file? For example: annulus check gateway.yaml".to_owned()));
    }
    let asked = Args::of(Command::Check, words).map_err(Trouble::Words)?;
    let mut are_well = true;
    let told = words.value("--as").and_then(Command::named);
    for (file, known) in files {
        let path = Path::new(file);
        let service = match known.or(told) {
            Some(service) => service,
            None if is_ours(path) => Command::Run,
            None => Command::Gateway,
        };
        let args = Args { command: service, config: Some(path.into()), gateway: None, ..asked.clone() };
        are_well &= match service {
            Command::Gateway => of_gateway(&args)?,
            _ if asked.print_config || asked.print_openapi => {
                return Err(Trouble::Words(format!("{file} is no gateway's file: only those can be printed")));
            }
            _ => of_service(path, &args),
        };
    }
    Ok(are_well)
}

/// Tells what is wrong with a file of the chat's and the image service's.
fn of_service(path: &Path, args: &Args) -> bool {
    let paint = Paint::of_output();
    let config = match Config::load(args) {
        Ok(config) => config,
        Err(sentence) => {
            to_errors(format_args!("{}: {sentence}", Paint::of_errors().bad("annulus")));
            return false;
        }
    };
    // Where a file is checked, its certificates and keys need not be.
    let elsewhere = [
        args.command.has_chat().then(|| Node::check(&config.chat)),
        args.command.has_image().then(|| Image::check(&config.image)),
    ];
    for why in elsewhere.into_iter().flatten().filter_map(Result::err) {
        crate::answer!("{} here it could not start: {why}", paint.notable("note:"));
    }
    crate::answer!("{}: {}", path.display(), paint.good("no problems"));
    true
}

/// Tells what is wrong with a gateway's file, and what the other behaviour would change; or prints what it comes to.
pub fn of_gateway(args: &Args) -> Ended {
    let Some(source) = source(args) else {
        return Err(Trouble::Words("of which file? Name one by --config".to_owned()));
    };
    let (paint, path) = (Paint::of_output(), source.path.display());
    match config::load(&source.path, &source.options) {
        Err(problems) => {
            problems.iter().for_each(|problem| crate::answer!("{}", marked(paint, &problem.to_string())));
            let plural = if problems.len() == 1 { "" } else { "s" };
            let who = Paint::of_errors().bad("annulus");
            to_errors(format_args!("{who}: {path} has {} problem{plural}", problems.len()));
            return Ok(false);
        }
        Ok((gateway, _)) if args.print_config => crate::answer!("{}", config::print_effective(&gateway)),
        Ok((gateway, _)) if args.print_openapi => crate::answer!("{}", config::openapi(&gateway).trim_end()),
        Ok((gateway, notes)) => {
            notes.iter().for_each(|note| crate::answer!("{}", marked(paint, &note.to_string())));
            for difference in config::compat_differences(&gateway) {
                crate::answer!("{} {difference}", paint.dim("compat:"));
            }
            let count = gateway.endpoints.len();
            // Where a file is checked, its certificates need not be.
            if let Err(why) = Edition::load(gateway) {
                crate::answer!("{} here it could not start: {why}", paint.notable("note:"));
            }
            let plural = if count == 1 { "" } else { "s" };
            crate::answer!("{path}: {count} endpoint{plural}, {}", paint.good("no problems"));
        }
    }
    Ok(true)
}

/// A finding with its place, which is what eyes look for.
fn marked(paint: Paint, finding: &str) -> String {
    match finding.split_once(": ") {
        Some((place, says)) => format!("{}: {says}", paint.bold(place)),
        None => finding.to_owned(),
    }
}
