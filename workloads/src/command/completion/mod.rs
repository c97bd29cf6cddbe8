//! `annulus completion`: what lets a shell complete the words of the table.
//!
//! What a shell's script can say differs; what it has to know is here, once.

mod bash;
mod fish;
mod zsh;

use super::table::{Entry, Takes};
use super::words::Words;
use super::{Ended, Trouble};

/// Shells that are known.
pub const SHELLS: &[&str] = &["bash", "zsh", "fish"];

/// Prints the script of a shell.
pub fn main(words: &Words) -> Ended {
    let Some(shell) = words.operands().first() else {
        return Err(Trouble::Words("for which shell? For example: annulus completion bash".to_owned()));
    };
    crate::answer!("{}", script(shell).trim_end());
    Ok(true)
}

fn script(shell: &str) -> String {
    match shell {
        "zsh" => zsh::script(),
        "fish" => fish::script(),
        _ => bash::script(),
    }
}

/// What bash and fish have read before a command's last word, with that word: nothing before the first.
fn before_second(name: &str) -> String {
    if name.contains(' ') { name.to_owned() } else { format!(" {name}") }
}

/// What can stand behind a command besides its flags: each operand by its place, the last one for all further places if there
/// may be several.
fn operands(entry: &Entry) -> impl Iterator<Item = (usize, Takes, bool)> {
    entry.operands.iter().enumerate().map(|(at, operand)| (at, operand.takes, operand.several))
}

#[cfg(test)]
mod tests {
    use super::super::commands::COMMANDS;
    use super::*;

    #[test]
    fn every_script_knows_every_command_and_flag() {
        for shell in SHELLS {
            let script = script(shell);
            for entry in COMMANDS {
                let second = entry.name.rsplit(' ').next().unwrap();
                assert!(script.contains(second), "{shell}: {}", entry.name);
                for flag in entry.flags() {
                    let bare = flag.name.trim_start_matches('-');
                    assert!(script.contains(bare), "{shell}: {} {}", entry.name, flag.name);
                }
            }
            assert!(script.is_ascii(), "{shell}");
        }
    }
}
