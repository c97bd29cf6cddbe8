//! Writes what a report looks like, of a run that is made up: `cargo run --example report_demo FOLDER`.

use annulus_bench::report::{demo, results, text};
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(folder) = std::env::args().nth(1) else {
        eprintln!("name a folder to write to");
        return ExitCode::from(2);
    };
    let record = demo::record();
    print!("{}", text::summary(&record));
    match results::write(Path::new(&folder), "demo", &[("demo".to_owned(), record)]) {
        Ok(folder) => {
            println!("\nwritten to {}", folder.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}
