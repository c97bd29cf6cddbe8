//! Keeps the house in order: walls between rooms, headers, no dead files, where unsafe code may be, what we depend on.
//!
//! Reads the tree as text and asks cargo for the dependencies; knows nothing of any crate's inside.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Room, package, which of our packages it may use, and how many foreign crates it may bring at most.
const ROOMS: [(&str, &str, &[&str], usize); 6] = [
    ("engine", "annulus-engine", &[], 45),
    ("protocols", "annulus-protocols", &[], 12),
    ("workloads", "annulus", &["annulus-engine", "annulus-protocols", "annulus-perf", "annulus-pixels"], 241),
    ("workloads/pixels", "annulus-pixels", &[], 105),
    ("bench", "annulus-bench", &["annulus-engine", "annulus-protocols", "annulus-perf"], 80),
    ("perf", "annulus-perf", &[], 60),
];

/// Outside `engine/src/sys`, the only files with unsafe code: `engine/src/lib.rs` names the same.
const UNSAFE_FILES: [&str; 3] = ["engine/src/frame.rs", "engine/src/mailbox.rs", "engine/src/task.rs"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Rust files below `folder`, without build outputs and installed packages.
fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.map(|entry| entry.unwrap().path()) {
        let name = entry.file_name().unwrap().to_string_lossy().into_owned();
        if entry.is_dir() && !matches!(name.as_str(), "target" | "node_modules" | "peers" | ".venv" | ".git") {
            rust_files(&entry, files);
        } else if name.ends_with(".rs") {
            files.push(entry);
        }
    }
}

fn all_rust_files() -> Vec<(String, String)> {
    let mut files = Vec::new();
    for (room, ..) in ROOMS {
        rust_files(&root().join(room), &mut files);
    }
    // A room may be in another one.
    files.sort();
    files.dedup();
    assert!(files.len() > 50, "the tree was not found");
    let text = |path: PathBuf| {
        let name = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
        (name, fs::read_to_string(path).unwrap())
    };
    files.into_iter().map(text).collect()
}

#[test]
fn walls_between_rooms_stand() {
    for (room, _, allowed, _) in ROOMS {
        let manifest = fs::read_to_string(root().join(room).join("Cargo.toml")).unwrap();
        for line in manifest.lines().filter(|line| line.contains("{ path = \"") || line.starts_with("annulus")) {
            let package = line.split([' ', '=', '.']).next().unwrap();
            assert!(allowed.contains(&package), "{room} must not use {package}");
        }
    }
}

#[test]
fn dependencies_stay_within_their_budget() {
    for (room, package, _, budget) in ROOMS {
        let arguments = ["tree", "--offline", "--package", package, "--edges", "normal", "--prefix", "none"];
        let output = Command::new(env!("CARGO")).args(arguments).current_dir(root()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let tree = String::from_utf8(output.stdout).unwrap();
        let crates: BTreeSet<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
        let foreign: Vec<&&str> = crates.iter().filter(|name| !name.starts_with("annulus")).collect();
        println!("{room}: {} foreign crates of at most {budget}", foreign.len());
        assert!(foreign.len() <= budget, "{room} depends on {} crates: {foreign:?}", foreign.len());
    }
}

/// What `deny.toml` lists behind a key, one on each line.
fn listed(policy: &str, key: &str) -> BTreeSet<String> {
    let (_, rest) = policy.split_once(&format!("\n{key} = [")).unwrap_or_else(|| panic!("deny.toml has no {key}"));
    let (list, _) = rest.split_once("\n]").unwrap();
    // A text by itself, or a table that begins with a crate's name.
    list.lines().filter_map(|line| line.split('"').nth(1)).map(str::to_owned).collect()
}

/// Whether a licence, as SPDX writes it or as older manifests do with a slash, can be had by what is allowed.
fn is_allowed(licence: &str, allowed: &BTreeSet<String>) -> bool {
    let licence = licence.replace('/', " OR ");
    let words: Vec<String> =
        licence.replace('(', " ( ").replace(')', " ) ").split_whitespace().map(str::to_owned).collect();
    let mut at = 0;
    let verdict = any_of(&words, &mut at, allowed);
    assert_eq!(at, words.len(), "{licence:?} cannot be read");
    verdict
}

fn any_of(words: &[String], at: &mut usize, allowed: &BTreeSet<String>) -> bool {
    let mut verdict = all_of(words, at, allowed);
    while words.get(*at).is_some_and(|word| word == "OR") {
        *at += 1;
        verdict |= all_of(words, at, allowed);
    }
    verdict
}

fn all_of(words: &[String], at: &mut usize, allowed: &BTreeSet<String>) -> bool {
    let mut verdict = one_of(words, at, allowed);
    while words.get(*at).is_some_and(|word| word == "AND") {
        *at += 1;
        verdict &= one_of(words, at, allowed);
    }
    verdict
}

fn one_of(words: &[String], at: &mut usize, allowed: &BTreeSet<String>) -> bool {
    let mut name = words[*at].clone();
    *at += 1;
    if name == "(" {
        let verdict = any_of(words, at, allowed);
        assert_eq!(words[*at], ")");
        *at += 1;
        return verdict;
    }
    if words.get(*at).is_some_and(|word| word == "WITH") {
        name = format!("{name} WITH {}", words[*at + 1]);
        *at += 2;
    }
    allowed.contains(&name)
}

#[test]
fn licences_are_told_apart() {
    let allowed: BTreeSet<String> = ["MIT", "ISC", "A WITH B"].map(str::to_owned).into();
    for (licence, is) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("GPL-3.0 OR MIT", true),
        ("MIT/Apache-2.0", true),
        ("MIT AND GPL-3.0", false),
        ("(GPL-3.0 OR MIT) AND ISC", true),
        ("ISC AND (GPL-3.0 OR X)", false),
        ("A WITH B", true),
        ("A", false),
    ] {
        assert_eq!(is_allowed(licence, &allowed), is, "{licence}");
    }
}

/// What of `deny.toml` can be told without the tool that is made for it: `make check` runs that too, where it is installed.
#[test]
fn dependencies_are_licensed_and_come_as_the_policy_says() {
    let policy = fs::read_to_string(root().join("deny.toml")).unwrap();
    let (allowed, excepted, banned) =
        (listed(&policy, "allow"), listed(&policy, "exceptions"), listed(&policy, "deny"));
    // For this machine: what others would need is not downloaded here.
    let arguments = ["tree", "--offline", "--workspace", "--edges", "normal,build,dev", "--prefix", "none"];
    let output = Command::new(env!("CARGO")).args(arguments).args(["--format", "{p};{l}"]).current_dir(root()).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let crates: BTreeSet<(&str, &str)> =
        text.lines().filter_map(|line| line.trim_end_matches(" (*)").split_once(';')).collect();
    assert!(crates.len() > 100, "the tree was not found");
    let mut used = BTreeSet::new();
    for (package, licence) in crates {
        let name = package.split(' ').next().unwrap();
        assert!(!banned.contains(name), "deny.toml bans {name}");
        if excepted.contains(name) {
            used.insert(name.to_owned());
        } else if !name.starts_with("annulus") {
            assert!(is_allowed(licence, &allowed), "{name} is licensed {licence:?}, which deny.toml does not allow");
        }
    }
    assert_eq!(used, excepted, "an exception that nobody needs");
    let lock = fs::read_to_string(root().join("Cargo.lock")).unwrap();
    let sources: BTreeSet<&str> = lock.lines().filter_map(|line| line.strip_prefix("source = \"")).collect();
    assert!(sources.len() == 1 && sources.iter().all(|source| source.starts_with("registry+")), "{sources:?}");
}

/// Numbers of a page's text, in order: `1,048,576`, `16 KiB`, `256 million`, `10 s`. With each, whether it is of seconds.
fn numbers_told(text: &str) -> Vec<(u64, bool)> {
    let words: Vec<&str> = text.split_whitespace().map(|word| word.trim_end_matches([',', ';'])).collect();
    let number = |word: &str| word.split('/').next().unwrap().replace(',', "").parse::<u64>().ok();
    let numbers = words.iter().enumerate().filter_map(|(at, word)| Some((at, number(word)?)));
    let with_unit = numbers.map(|(at, number)| match words.get(at + 1) {
        Some(&"KiB") => (number << 10, false),
        Some(&"MiB") => (number << 20, false),
        Some(&"million") => (number * 1_000_000, false),
        Some(&"s") => (number, true),
        _ => (number, false),
    });
    with_unit.collect()
}

/// Numbers that a name is given in a file, as a constant or as a field's default: the first place that has any.
fn numbers_of(text: &str, name: &str) -> Vec<u64> {
    let values = text.lines().map(|line| line.trim().trim_start_matches("pub ")).filter_map(|line| {
        let constant = line.strip_prefix("const ").and_then(|rest| rest.strip_prefix(name)?.strip_prefix(':'));
        match constant {
            Some(rest) => rest.split_once('=').map(|(_, value)| value),
            None => line.strip_prefix(name)?.strip_prefix(':'),
        }
    });
    let numbers = |value: &str| {
        let value = value.split("//").next().unwrap().replace('_', "");
        let parts = value.split(|c: char| !c.is_ascii_digit()).filter(|part| !part.is_empty());
        // A type such as `u64` has a number, too.
        let is_type = |at: usize| value[..at].ends_with(['u', 'i', 'f']);
        let at = |part: &str| part.as_ptr() as usize - value.as_ptr() as usize;
        let parts: Vec<u64> = parts.filter(|part| !is_type(at(part))).filter_map(|part| part.parse().ok()).collect();
        match parts[..] {
            [number, bits] if value.contains("<<") => vec![number << bits],
            [one, other] if value.contains('*') => vec![one * other],
            _ => parts,
        }
    };
    values.map(numbers).find(|numbers| !numbers.is_empty()).unwrap_or_default()
}

#[test]
fn numbers_are_read_from_pages_and_from_code() {
    let told = numbers_told("1000, 10,000 in 10 s; 64 KiB, 2 million, half, 5000/s, 8");
    let expected = [1000, 10_000, 10, 65_536, 2_000_000, 5000, 8].map(|number| (number, number == 10));
    assert_eq!(told, expected);
    let code = "    pub a_max: u64,\n    pub const A: u64 = 8 << 20;\n/// [`B`]\nconst B: usize = 16 * 1_024; // as of 1999\n\
        c: Rate::OFF,\n c: Rate { per_second: 5_000, burst: 9 },\n a_max: 10_000,\nD: Duration = Duration::from_secs(60);\n";
    assert_eq!((numbers_of(code, "A"), numbers_of(code, "B")), (vec![8 << 20], vec![16_384]));
    assert_eq!((numbers_of(code, "c"), numbers_of(code, "a_max")), (vec![5000, 9], vec![10_000]));
    assert_eq!((numbers_of(code, "D"), numbers_of(code, "a")), (vec![60], vec![]));
}

/// A page that names a limit which is no longer there, or another number than the code has, would promise what nobody keeps. In each
/// row the numbers stand in the order of the names, and the names in the order of the files, of which the last has the rest.
#[test]
fn limits_of_the_security_page_are_what_it_says() {
    let page = fs::read_to_string(root().join("SECURITY.md")).unwrap();
    let (_, rest) = page.split_once("\n## Limits\n").unwrap();
    let (section, _) = rest.split_once("\n## ").unwrap();
    let (mut rows, mut numbers) = (0, 0);
    for row in section.lines().filter(|line| line.starts_with("| ") && line.contains(".rs`")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').collect();
        let quoted = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
        let (names, files) = (quoted(cells[1]), quoted(cells[4]));
        let mut told = numbers_told(cells[2]).into_iter();
        for (at, name) in names.iter().enumerate() {
            let file = files.get(at).unwrap_or(files.last().unwrap());
            let text = fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
            assert!(text.contains(name), "{file} has no {name}");
            // Where the default is made of what the machine has, the page has words for it.
            if cells[2].trim().starts_with("half of") {
                continue;
            }
            let has = numbers_of(&text, name);
            assert!(!has.is_empty(), "{file}: {name} is given no number there");
            for number in has {
                let (told, is_of_seconds) =
                    told.next().unwrap_or_else(|| panic!("the page has no number for {name}: {row}"));
                let in_milliseconds = is_of_seconds && name.to_lowercase().split('_').any(|word| word == "ms");
                let told = if in_milliseconds { told * 1000 } else { told };
                assert_eq!(told, number, "{name} in {file}, and on the page: {row}");
                numbers += 1;
            }
        }
        assert_eq!(told.next(), None, "a number without a name: {row}");
        rows += 1;
    }
    assert!(rows > 25 && numbers > 35, "{rows} rows, {numbers} numbers");
}

#[test]
fn every_file_says_what_it_is() {
    for (name, text) in all_rust_files() {
        assert!(text.starts_with("//!") || text.starts_with("#!["), "{name} has no //! header");
    }
}

#[test]
fn every_source_file_is_a_module_of_its_parent() {
    let files = all_rust_files();
    let is_declared = |parent: &str, module: &str| {
        files.iter().any(|(name, text)| {
            name == parent
                && text.lines().any(|line| {
                    let line = line.trim();
                    let at =
                        line.strip_suffix(&format!("mod {module};")).or(line.strip_suffix(&format!("mod {module} {{")));
                    at.is_some_and(|before| before.is_empty() || before.starts_with("pub"))
                })
        })
    };
    for (name, _) in files.iter().filter(|(name, _)| name.contains("/src/") && !name.contains("/fuzz/")) {
        let (folder, file) = name.rsplit_once('/').unwrap();
        let (folder, module) = match file {
            "lib.rs" | "main.rs" => continue,
            "mod.rs" => folder.rsplit_once('/').unwrap(),
            _ => (folder, file.strip_suffix(".rs").unwrap()),
        };
        if folder.ends_with("/bin") {
            continue;
        }
        let parents = ["mod.rs", "lib.rs", "main.rs"].map(|parent| format!("{folder}/{parent}"));
        let declared =
            parents.iter().any(|parent| is_declared(parent, module)) || is_declared(&format!("{folder}.rs"), module);
        assert!(declared, "{name} is part of nothing");
    }
}

#[test]
fn unsafe_code_stays_where_it_is_named() {
    let word = concat!("un", "safe");
    for (name, text) in all_rust_files() {
        let allowed = name.starts_with("engine/src/sys/") || UNSAFE_FILES.contains(&name.as_str());
        let code = text.lines().map(|line| line.split("//").next().unwrap());
        let uses = code.filter(|line| {
            [" {", " fn ", " impl ", " extern "].iter().any(|after| line.contains(&format!("{word}{after}")))
        });
        assert!(allowed || uses.count() == 0, "{name} has {word} code");
    }
}

#[test]
fn nothing_is_left_unfinished() {
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("to", "do!("), concat!("unimple", "mented!(")];
    for (name, text) in all_rust_files() {
        for mark in marks {
            assert!(!text.contains(mark), "{name} has {mark}");
        }
    }
}

/// Lists, without failing: a file or function that outgrew its noun is a reason to look, not to stop.
#[test]
fn outgrown_files_and_functions_are_listed() {
    for (name, text) in all_rust_files() {
        let lines: Vec<&str> = text.lines().collect();
        if lines.len() > 800 {
            println!("{name}: {} lines", lines.len());
        }
        let mut begin = None;
        for (at, line) in lines.iter().enumerate() {
            let indent = line.len() - line.trim_start().len();
            let starts = line.contains("fn ") && !line.trim_start().starts_with("//") && line.trim_end().ends_with('{');
            if starts && begin.is_none() {
                begin = Some((at, indent, line.trim()));
            }
            if let Some((first, of, what)) = begin
                && indent == of
                && line.trim() == "}"
            {
                if at - first > 70 {
                    println!("{name}:{}: {} lines: {what}", first + 1, at - first);
                }
                begin = None;
            }
        }
    }
}
