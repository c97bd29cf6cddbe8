//! Which versions a peer is made of, out of the files that pin them: what a comparison was made with must be told.

use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// The peer's own packages with their versions, in one line.
pub fn of(folder: &Path) -> String {
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).ok();
    let told = if let (Some(manifest), Some(lock)) = (read("Cargo.toml"), read("Cargo.lock")) {
        crates(&manifest, &lock)
    } else if let (Some(package), Some(lock)) = (read("package.json"), read("package-lock.json")) {
        npm(&package, &lock)
    } else if let Some(requirements) = read("requirements.txt") {
        python(&requirements)
    } else {
        said(folder)
    };
    if told.is_empty() { "of unknown versions".to_owned() } else { told }
}

/// Direct dependencies of a manifest, as its lock has them.
fn crates(manifest: &str, lock: &str) -> String {
    let version = |name: &str| {
        let entry = lock.split("[[package]]").find(|entry| entry.contains(&format!("name = \"{name}\"\n")))?;
        entry.lines().find_map(|line| line.strip_prefix("version = ")).map(|version| version.trim_matches('"'))
    };
    let direct = manifest.split("[dependencies]").nth(1).unwrap_or_default();
    let direct = direct.lines().take_while(|line| !line.starts_with('['));
    let names = direct.filter_map(|line| line.split_once('=').map(|(name, _)| name.trim()));
    joined(names.filter(|name| !name.starts_with('#')).filter_map(|name| Some((name, version(name)?))))
}

/// Direct dependencies of a package, as its lock has them.
fn npm(package: &str, lock: &str) -> String {
    let (Ok(package), Ok(lock)) = (serde_json::from_str::<Value>(package), serde_json::from_str::<Value>(lock)) else {
        return String::new();
    };
    let Some(direct) = package["dependencies"].as_object() else { return String::new() };
    let version = |name: &str| lock["packages"][format!("node_modules/{name}")]["version"].as_str();
    joined(direct.keys().filter_map(|name| Some((name.as_str(), version(name)?))))
}

/// Pinned lines of a list of requirements.
fn python(requirements: &str) -> String {
    joined(requirements.lines().filter_map(|line| line.split_once("==")).map(|(name, rest)| {
        let version = rest.split([' ', ';', '\\']).next().unwrap_or_default();
        (name.trim(), version)
    }))
}

/// What `start --version` prints.
fn said(folder: &Path) -> String {
    let output = Command::new(folder.join("start")).arg("--version").output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().next().unwrap_or_default().trim().to_owned()
}

fn joined<'a>(packages: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    packages.map(|(name, version)| format!("{name} {version}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_peer_says_its_versions() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
        for peer in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()) {
            let is_script =
                !["Cargo.toml", "package.json", "requirements.txt"].iter().any(|file| peer.join(file).exists());
            let told = of(&peer);
            // A script asks a program that this machine may lack.
            assert!(is_script || told.contains('.') && !told.contains("unknown"), "{}: {told}", peer.display());
        }
    }

    #[test]
    fn only_a_peers_own_packages_are_named() {
        let manifest =
            "[dependencies]\n# why\na = \"1\"\nb = { version = \"2\" }\n\n[profile.release]\nlto = \"thin\"\n";
        let lock = "[[package]]\nname = \"a\"\nversion = \"1.2.3\"\n[[package]]\nname = \"b\"\nversion = \"2.0.1\"\n\
                    [[package]]\nname = \"lto\"\nversion = \"9.9.9\"\n";
        assert_eq!(crates(manifest, lock), "a 1.2.3, b 2.0.1");
        let lock = r#"{"packages": {"node_modules/a": {"version": "4.5.6"}, "node_modules/c": {"version": "7.0.0"}}}"#;
        assert_eq!(npm(r#"{"dependencies": {"a": "^4"}}"#, lock), "a 4.5.6");
        assert_eq!(python("a==1.0 ; python_version > \"3\"\n# b\nc==2.1\n"), "a 1.0, c 2.1");
    }
}
