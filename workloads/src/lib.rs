//! The services built on the engine, and the one binary that runs them.

pub mod args;
mod backoff;
pub mod chat;
pub mod config;
pub mod console;
pub mod doctor;
mod durable;
pub mod fetch;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod gateway;
mod hex;
pub mod image;
pub mod jose;
pub mod nearest;
pub mod outbound;
mod pace;
mod percent;
pub mod postgres;
pub mod process;
pub mod redis;
mod schema;
pub mod serve;
mod voice;

/// Prints a line for people. A closed standard output ends nothing: a service goes on without its log.
#[macro_export]
macro_rules! say {
    ($($words:tt)*) => {{
        use std::io::Write;
        let _nobody_listens = writeln!(std::io::stdout(), $($words)*);
    }};
}
