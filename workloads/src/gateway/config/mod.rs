//! The gateway's configuration: a KrakenD v3 file in JSON, YAML or TOML, read once into plain structs.
//!
//! ```text
//! text --json, yaml, toml--> tree (lines and columns) --root, endpoint, backend, extra, ours--> model
//!                                 \____________ report: every problem, every note ____________/
//! ```
//!
//! [`load`] either gives a [`Gateway`] in which everything is resolved, or every problem that can be found in one
//! reading. It never gives half of it, and nothing in a file is passed over without a word: what KrakenD knows and we
//! do not offer is a problem, or with `--allow-unsupported` a note and a 501.

mod access;
pub(super) mod address;
mod backend;
mod check;
mod compat;
pub(crate) mod duration;
mod endpoint;
mod extra;
mod guard;
pub(crate) mod json;
pub mod model;
mod openapi;
mod ours;
mod path;
mod print;
mod read;
pub(crate) mod report;
mod root;
pub mod support;
mod telemetry;
mod template;
pub(crate) mod toml;
pub(crate) mod tree;
mod websocket;
pub(crate) mod yaml;

use std::path::Path;

pub use compat::compat_differences;
pub use model::Gateway;
pub use openapi::openapi;
pub use print::print_effective;
pub use report::{Finding, Note, Problem};
pub use tree::Syntax;

use report::Report;
use tree::Place;

/// Bytes of a configuration file; beyond: it is not read.
const FILE_BYTES_MAX: usize = 64 << 20;

/// How a file is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoadOptions {
    /// What KrakenD knows and we do not offer is a note, and its endpoints answer 501, instead of a problem.
    pub allow_unsupported: bool,
}

/// Reads a file. Its syntax follows from its extension, or from its text if that says nothing; `-` is standard input.
///
/// # Errors
/// Every problem with it, in the file's order; at least one.
pub fn load(path: &Path, options: &LoadOptions) -> Result<(Gateway, Vec<Note>), Vec<Problem>> {
    let name = path.display().to_string();
    let fail = |at: Place, says: String| {
        let mut report = Report::new(&name, options.allow_unsupported);
        report.problem(at, "", says);
        Err(report.finish().0)
    };
    let bytes = match read(path) {
        Ok(bytes) if bytes.len() > FILE_BYTES_MAX => {
            return fail(
                Place::START,
                format!("the file has more than {FILE_BYTES_MAX} bytes: is it a configuration?"),
            );
        }
        Ok(bytes) => bytes,
        Err(error) => return fail(Place::START, format!("cannot read the file: {error}. Check its path")),
    };
    match String::from_utf8(bytes) {
        Ok(text) => load_text(&name, Syntax::of(path, &text), &text, options),
        Err(error) => {
            let good = error.utf8_error().valid_up_to();
            let text = String::from_utf8_lossy(&error.as_bytes()[..good]).into_owned();
            fail(tree::Lines::new(&text).place(good), "the file is not UTF-8 from here on".to_owned())
        }
    }
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    let most = FILE_BYTES_MAX as u64 + 1;
    match path.as_os_str() == "-" {
        true => std::io::stdin().take(most).read_to_end(&mut bytes)?,
        false => std::fs::File::open(path)?.take(most).read_to_end(&mut bytes)?,
    };
    Ok(bytes)
}

/// Reads a text; `name` is for messages only.
///
/// # Errors
/// As [`load`].
pub fn load_text(
    name: &str,
    syntax: Syntax,
    text: &str,
    options: &LoadOptions,
) -> Result<(Gateway, Vec<Note>), Vec<Problem>> {
    let mut report = Report::new(name, options.allow_unsupported);
    let gateway = tree::parse(syntax, text, &mut report).map(|root| root::gateway(&root, &mut report));
    let (problems, notes) = report.finish();
    match gateway.filter(|_| problems.is_empty()) {
        Some(gateway) => Ok((gateway, notes)),
        None => Err(problems),
    }
}
