//! Keeps documents in order: every link leads somewhere, every file that is named is there, every guide can be found, and fences
//! say whether they are run. What they say is run by `.ci/docs-test`.
//!
//! Reads the tree as text.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Rooms, and what else a path of ours begins with.
const BEGINNINGS: [&str; 6] = ["engine/", "protocols/", "workloads/", "bench/", "perf/", ".ci/"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn markdown(folder: &Path, found: &mut Vec<PathBuf>) {
    for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && !matches!(&name[..], "target" | "node_modules" | ".venv" | ".git") {
            markdown(&path, found);
        } else if name.ends_with(".md") {
            found.push(path);
        }
    }
}

/// Every document, and its lines without those in fences.
fn documents() -> Vec<(PathBuf, Vec<String>)> {
    let mut paths = Vec::new();
    markdown(&root(), &mut paths);
    assert!(paths.len() > 15, "the documents were not found");
    paths.sort();
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        let mut is_in_fence = false;
        let lines = text.lines().map(|line| {
            let is_mark = line.trim_start().starts_with("```");
            is_in_fence ^= is_mark;
            if is_in_fence || is_mark { String::new() } else { line.to_owned() }
        });
        let lines = lines.collect();
        assert!(!is_in_fence, "{}: a fence has no end", path.display());
        (path, lines)
    };
    paths.into_iter().map(read).collect()
}

/// What headings can be linked by, as the usual renderers make it of them.
fn anchors(lines: &[String]) -> BTreeSet<String> {
    let headings = lines.iter().filter(|line| line.starts_with('#'));
    let anchor = |line: &String| {
        let text = line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
        text.chars().filter(|letter| letter.is_alphanumeric() || matches!(letter, '-' | '_')).collect()
    };
    headings.map(anchor).collect()
}

/// Targets of links and pictures that are not elsewhere.
fn links(line: &str) -> Vec<&str> {
    let targets = line.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next());
    targets.filter(|target| !target.contains("://") && !target.starts_with("mailto:")).collect()
}

/// Whether a path of ours is there; that of a module may be without its ending.
fn is_there(file: &str) -> bool {
    root().join(file).exists() || root().join(format!("{file}.rs")).exists()
}

/// Texts in backticks that are paths of ours.
fn named(line: &str) -> Vec<&str> {
    let is_path = |text: &&str| {
        BEGINNINGS.iter().any(|beginning| text.starts_with(beginning))
            && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-/".contains(&byte))
    };
    line.split('`').skip(1).step_by(2).filter(is_path).collect()
}

#[test]
fn every_link_leads_somewhere() {
    let documents = documents();
    let mut looked = 0;
    let mut wrong = Vec::new();
    for (path, lines) in &documents {
        for (number, line) in lines.iter().enumerate() {
            let place = || format!("{}:{}", path.strip_prefix(root()).unwrap().display(), number + 1);
            for target in links(line) {
                looked += 1;
                let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
                let target_path = match file {
                    "" => path.clone(),
                    _ => path.parent().unwrap().join(file),
                };
                let Ok(target_path) = target_path.canonicalize() else {
                    wrong.push(format!("{}: there is no {file}", place()));
                    continue;
                };
                let other = documents.iter().find(|(path, _)| path.canonicalize().unwrap() == target_path);
                let has = |anchor: &str| other.is_some_and(|(_, lines)| anchors(lines).contains(anchor));
                if !anchor.is_empty() && !has(anchor) {
                    wrong.push(format!("{}: {file} has no heading #{anchor}", place()));
                }
            }
            wrong.extend(
                named(line)
                    .into_iter()
                    .filter(|file| !is_there(file))
                    .map(|file| format!("{}: there is no {file}", place())),
            );
        }
    }
    assert!(looked > 50, "{looked} links");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Who reads the first page finds all others from there.
#[test]
fn every_guide_can_be_reached_from_the_first_page() {
    let documents = documents();
    let mut reached: BTreeSet<PathBuf> = [root().join("README.md").canonicalize().unwrap()].into();
    let mut open: Vec<PathBuf> = reached.iter().cloned().collect();
    while let Some(path) = open.pop() {
        let Some((_, lines)) = documents.iter().find(|(other, _)| other.canonicalize().unwrap() == path) else {
            continue;
        };
        for target in lines.iter().flat_map(|line| links(line)) {
            let file = target.split('#').next().unwrap();
            if let Ok(found) = path.parent().unwrap().join(file).canonicalize()
                && reached.insert(found.clone())
            {
                open.push(found);
            }
        }
    }
    let guides = root().join("workloads/docs").canonicalize().unwrap();
    let lost: Vec<&PathBuf> = documents
        .iter()
        .map(|(path, _)| path)
        .filter(|path| path.starts_with(&guides) && !reached.contains(*path))
        .collect();
    assert!(lost.is_empty(), "nothing leads from README.md to {lost:?}");
}

/// A fence that is not run says why, so that `.ci/docs-test` can list it.
#[test]
fn fences_say_whether_they_are_run() {
    let guides = root().join("workloads/docs");
    let mut paths = vec![root().join("README.md")];
    markdown(&guides, &mut paths);
    let mut run = 0;
    for path in paths {
        for (number, line) in fs::read_to_string(&path).unwrap().lines().enumerate() {
            let Some(info) = line.trim_start().strip_prefix("```").filter(|info| !info.is_empty()) else { continue };
            let (language, rest) = info.split_once(' ').unwrap_or((info, ""));
            let has_reason = |word: &str| rest.strip_prefix(word).is_some_and(|why| why.len() > 4);
            let is_fine = match language {
                "sh" | "js" | "python" => rest.is_empty() || rest == "server" || has_reason("no-run: "),
                "json" | "toml" | "yaml" => rest.is_empty() || has_reason("part: ") || has_reason("no-run: "),
                // Other names of the same, which nobody would run.
                "bash" | "shell" | "console" | "javascript" | "py" | "yml" => false,
                _ => rest.is_empty(),
            };
            assert!(is_fine, "{}:{}: {info:?}", path.display(), number + 1);
            run += usize::from(matches!(language, "sh" | "js" | "python") && !rest.starts_with("no-run"));
        }
    }
    assert!(run > 30, "only {run} fences are run");
}
