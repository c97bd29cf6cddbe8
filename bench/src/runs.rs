//! Runs of this program by itself, each in a process of its own: what one pins, warms or leaves behind is not the next one's.

use crate::ground;
use crate::janitor::{self, Left};
use crate::record::Record;
use crate::report::json;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};

/// Runs a scenario by its command line, without the options that say where its result goes; its words are passed on.
///
/// # Errors
/// A sentence: it could not be run, or why it ended without a result.
pub fn run(arguments: &[String]) -> Result<Record, String> {
    let program = std::env::current_exe().map_err(|error| format!("this program cannot find itself: {error}"))?;
    let file = temporary();
    let ended = spawn(Command::new(program).args(arguments).arg("--json").arg(&file.0));
    let (status, said) = ended.map_err(|error| format!("this program cannot be run by itself: {error}"))?;
    match std::fs::read_to_string(&file.0) {
        Ok(text) => {
            let mut record = json::read(&text).map_err(|error| format!("its own result is not one: {error}"))?;
            // As a person would run it: where the result went is nobody's business.
            let command = record.facts.iter_mut().find(|(name, _)| name == "command");
            command.into_iter().for_each(|(_, words)| *words = format!("annulus-bench {}", arguments.join(" ")));
            Ok(record)
        }
        // A run that has no result said why.
        Err(_) => Err(said.unwrap_or_else(|| format!("it ended without a result ({status})"))),
    }
}

/// Runs it to its end; the last line that it said.
fn spawn(command: &mut Command) -> std::io::Result<(ExitStatus, Option<String>)> {
    let mut child = janitor::spawn(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()))?;
    let mut last = None;
    if let Some(stderr) = child.stderr.take() {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            eprintln!("{line}");
            last = Some(line.trim().trim_start_matches("annulus-bench: ").to_owned())
                .filter(|line| !line.is_empty())
                .or(last);
        }
    }
    Ok((child.wait()?, last))
}

/// A file that is removed at the end.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        let _never_written_or_left_to_a_person = std::fs::remove_file(&self.0);
    }
}

fn temporary() -> Temporary {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let name = ground::name(&format!("{}.json", COUNT.fetch_add(1, Ordering::Relaxed)));
    let file = std::env::temp_dir().join(name);
    janitor::note(&Left::File(file.clone()));
    Temporary(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_words_of_a_run_are_kept() {
        let said = |script: &str| spawn(Command::new("sh").args(["-c", script])).unwrap();
        let (status, last) = said("echo one >&2; echo annulus-bench: no such luck >&2; echo >&2; exit 2");
        assert_eq!((status.code(), last.as_deref()), (Some(2), Some("no such luck")));
        assert_eq!(said("true").1, None);
    }
}
