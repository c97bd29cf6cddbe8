//! A short version of everything, as `make bench` runs it: each scenario in small, the owner's cases, and a folder of results.

use crate::record::Record;
use crate::report::{results, seeds as table};
use crate::{runs, seeds};
use std::path::{Path, PathBuf};

/// Scenarios by the names of their files, with their command lines. Small enough that all take some minutes, large enough
/// that their figures mean something.
const RUNS: [(&str, &[&str]); 11] = [
    ("ws-echo", &["ws-echo", "--vs", "fastwebsockets", "--size", "512", "--rounds", "5", "--seconds", "2"]),
    ("ws-broadcast", &["ws-broadcast", "--vs", "fastwebsockets", "--rounds", "3", "--seconds", "2"]),
    ("ws-idle-echo", &["ws-idle", "--sockets", "8000"]),
    ("ws-idle-chat", &["ws-idle", "--target", "chat", "--sockets", "8000"]),
    ("chat-deliver", &["chat", "--seconds", "10"]),
    ("chat-ack", &["chat", "--case", "ack", "--rounds", "3", "--seconds", "2"]),
    ("chat-room", &["chat", "--case", "room", "--rounds", "3", "--seconds", "2"]),
    ("gateway-cpu", &["gateway", "--case", "cpu", "--vs", "axum-reqwest-tuned", "--rounds", "3", "--seconds", "2"]),
    ("gateway-blackhole", &["gateway", "--case", "blackhole", "--seconds", "3"]),
    ("image-pipeline", &["image", "--case", "pipeline", "--rounds", "2"]),
    ("image-beside", &["image", "--case", "beside", "--rounds", "3", "--seconds", "2"]),
];
/// Seconds of each of the owner's cases; whole, `annulus-bench seeds` runs them.
const SEED_SECONDS: f64 = 10.0;

/// Runs everything and writes `root/date`. What could not run is said and left out; the rest is there.
///
/// # Errors
/// A sentence: nothing ran, or the folder cannot be written.
pub fn run(root: &Path) -> Result<PathBuf, String> {
    let mut records: Vec<(String, Record)> = Vec::new();
    let mut missing = Vec::new();
    for (name, arguments) in RUNS {
        eprintln!("{name}");
        let arguments: Vec<String> = arguments.iter().map(|word| (*word).to_owned()).collect();
        match runs::run(&arguments) {
            Ok(record) => records.push((name.to_owned(), record)),
            Err(why) => missing.push(format!("{name}: {why}")),
        }
    }
    let (lines, cases) = seeds::run(Some(SEED_SECONDS));
    records.extend(cases);
    if records.is_empty() {
        return Err(format!("nothing ran: {}", missing.join("; ")));
    }
    let folder = results::write(root, &results::today(), &records)?;
    let facts = records.first().map(|(_, record)| record.facts.clone()).unwrap_or_default();
    write(&folder.join("seeds.html"), &table::html(&facts, &lines))?;
    let mut text = table::text(&lines);
    text.extend(missing.iter().map(|why| format!("NOT RUN {why}\n")));
    write(&folder.join("seeds.txt"), &text)?;
    print!("{text}");
    Ok(folder)
}

fn write(file: &Path, text: &str) -> Result<(), String> {
    std::fs::write(file, text).map_err(|error| format!("cannot write {}: {error}", file.display()))
}
