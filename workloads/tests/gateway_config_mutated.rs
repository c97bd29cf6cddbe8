//! Files that went wrong on the way: thousands of seeded mutations of a good one, in each syntax. Whatever a file holds,
//! it is read or refused with places in it; nothing panics, and what is read prints as a file that can be read.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

use std::path::Path;

use annulus::gateway::config::{LoadOptions, Syntax, compat_differences, load_text, print_effective};

const ROUNDS: usize = 4_000;

/// xorshift64*: the same sequence on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }
}

const PIECES: [&str; 40] = [
    "{",
    "}",
    "[",
    "]",
    "\"",
    "'",
    ",",
    ":",
    "\n",
    " ",
    "\t",
    "\\",
    "\\u",
    "#",
    "&a ",
    "*a",
    "<<: *a\n",
    "---\n",
    "null",
    "true",
    "-1",
    "1e999",
    "99999999999999999999",
    "0x",
    "{{ .x }}",
    "{id}",
    "{resp9_x}",
    "{JWT.a}",
    "/*",
    "//",
    "..",
    "\0",
    "\u{feff}",
    "é",
    "😀",
    "\"\"",
    "[]",
    "{}",
    "= ",
    "[[endpoints]]\n",
];

fn mutated(text: &str, random: &mut Random) -> String {
    let mut characters: Vec<char> = text.chars().collect();
    for _ in 0..=random.below(4) {
        let at = random.below(characters.len());
        let length = random.below(30).min(characters.len() - at);
        match random.below(5) {
            0 => drop(characters.drain(at..at + length)),
            1 => drop(characters.splice(at..at, PIECES[random.below(PIECES.len())].chars())),
            2 => drop(characters.splice(at..at + length.min(3), PIECES[random.below(PIECES.len())].chars())),
            3 => {
                let copy: Vec<char> = characters[at..at + length].to_vec();
                let to = random.below(characters.len());
                characters.splice(to..to, copy);
            }
            _ => characters.truncate(characters.len() - random.below(characters.len() / 20)),
        }
        if characters.is_empty() {
            characters.push('{');
        }
    }
    characters.into_iter().collect()
}

#[test]
fn mutated_files_are_read_or_refused() {
    for (name, syntax, seed) in [("json", Syntax::Json, 1), ("yaml", Syntax::Yaml, 2), ("toml", Syntax::Toml, 3)] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/gateway/shop.{name}"));
        let text = std::fs::read_to_string(path).unwrap();
        let mut random = Random(seed);
        let (mut read, mut refused) = (0, 0);
        for _ in 0..ROUNDS {
            let text = mutated(&text, &mut random);
            let lines = text.matches('\n').count() as u32 + 2;
            let options = LoadOptions { allow_unsupported: random.below(2) == 0 };
            match load_text("x", syntax, &text, &options) {
                Ok((gateway, notes)) => {
                    read += 1;
                    assert!(notes.iter().all(|note| note.location.line <= lines), "{notes:?}");
                    compat_differences(&gateway);
                    let printed = print_effective(&gateway);
                    // A host of an endpoint that only answers 501 may be missing, which a second reading refuses.
                    if gateway.endpoints.iter().all(|endpoint| endpoint.unsupported.is_none()) {
                        let again = load_text("printed", Syntax::Json, &printed, &options);
                        let (again, _) = again.unwrap_or_else(|problems| panic!("{text}\n{printed}\n{problems:#?}"));
                        let again = print_effective(&again);
                        let differs = printed.lines().zip(again.lines()).find(|(first, second)| first != second);
                        assert!(differs.is_none() && again == printed, "{differs:?}\n{text}");
                    }
                }
                Err(problems) => {
                    refused += 1;
                    assert!(!problems.is_empty(), "{text}");
                    for problem in problems {
                        assert!((1..=lines).contains(&problem.location.line), "{problem}\n{text}");
                        assert!(problem.location.column > 0 && !problem.says.is_empty(), "{problem}\n{text}");
                    }
                }
            }
        }
        // Both happen often enough to have been tested.
        assert!(read > ROUNDS / 50 && refused > ROUNDS / 2, "{name}: {read} read, {refused} refused");
    }
}
