//! The peers that `--vs` knows, and how each is made ready.
//!
//! A peer is a folder in `bench/peers/`. One with a `Cargo.toml` is built from the registry and gives a program
//! `peer-NAME`. Any other has a script `start`: `start --prepare` installs what is missing, or says in one sentence why
//! it cannot; called with a server's options it becomes the server, under the same process number. A program of that
//! name in the folder that `ANNULUS_BENCH_BIN` names is used as it is.

use super::{built, last_line};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What a peer is compared in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// `ws-echo` and `ws-broadcast`.
    WebSocket,
    /// `gateway`.
    Gateway,
    /// `image`.
    Image,
}

/// Names and roles, in the order in which they are listed to people.
const PEERS: [(&str, Role); 13] = [
    ("fastwebsockets", Role::WebSocket),
    ("tokio-tungstenite", Role::WebSocket),
    ("monoio", Role::WebSocket),
    ("glommio", Role::WebSocket),
    ("bun", Role::WebSocket),
    ("axum-reqwest", Role::Gateway),
    ("axum-reqwest-tuned", Role::Gateway),
    ("nginx-lua", Role::Gateway),
    ("fastify-undici", Role::Gateway),
    ("sharp", Role::Image),
    ("pyvips", Role::Image),
    ("pillow", Role::Image),
    ("opencv", Role::Image),
];

/// The names of all peers with this role.
pub fn names(role: Role) -> Vec<&'static str> {
    PEERS.iter().filter(|(_, of)| *of == role).map(|(name, _)| *name).collect()
}

/// Builds or installs a peer and gives the program to start.
///
/// # Errors
/// A sentence: there is no such peer for this role, or it could not be made ready.
pub fn ready(root: &Path, peer: &str, role: Role) -> Result<PathBuf, String> {
    let known = names(role);
    if !known.contains(&peer) {
        let scenario = match role {
            Role::WebSocket => "WebSocket scenarios",
            Role::Gateway => "the gateway",
            Role::Image => "images",
        };
        return Err(format!("there is no peer {peer:?} for {scenario}; there are {}", known.join(", ")));
    }
    let folder = root.join("bench/peers").join(peer);
    let program = std::env::var_os("ANNULUS_BENCH_BIN").map(|bin| Path::new(&bin).join(format!("peer-{peer}")));
    match program.filter(|program| program.is_file()) {
        Some(program) => Ok(program),
        None if folder.join("Cargo.toml").is_file() => build(&folder, peer),
        None => prepare(&folder, peer),
    }
}

fn build(folder: &Path, peer: &str) -> Result<PathBuf, String> {
    let target = folder.join("target");
    let mut command = Command::new("cargo");
    command.args(["build", "--release", "--quiet", "--locked", "--manifest-path"]).arg(folder.join("Cargo.toml"));
    command.env("CARGO_TARGET_DIR", &target);
    built(command, peer)?;
    Ok(target.join("release").join(format!("peer-{peer}")))
}

fn prepare(folder: &Path, peer: &str) -> Result<PathBuf, String> {
    let start = folder.join("start");
    let mut command = Command::new(&start);
    let output = command.arg("--prepare").stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("cannot run {}: {error}", start.display()))?;
    if output.status.success() {
        return Ok(start);
    }
    let said = last_line(&String::from_utf8_lossy(&output.stderr));
    Err(format!("{peer} is not ready to run: {}", said.unwrap_or_else(|| output.status.to_string())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_folder_is_a_peer_and_every_peer_a_folder() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
        let entries = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
        let found: BTreeSet<String> = entries
            .filter(|path| path.join("Cargo.toml").is_file() || path.join("start").is_file())
            .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
            .collect();
        assert_eq!(found, PEERS.iter().map(|(name, _)| (*name).to_owned()).collect());
    }

    #[test]
    fn an_unknown_peer_is_answered_with_the_known_ones_of_its_role() {
        let error = ready(Path::new("/"), "nginx-lua", Role::WebSocket).unwrap_err();
        assert!(error.contains("\"nginx-lua\"") && error.contains("monoio, glommio, bun"), "{error}");
        assert!(!error.contains("axum"), "{error}");
    }
}
