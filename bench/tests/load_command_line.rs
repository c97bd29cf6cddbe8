//! The command line of loads: what it refuses, what it shows, and how it exits.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

mod common;

use common::{GOOD, Server, free_port};
use std::process::Command;

/// Exit code, standard output, standard error.
fn bench(arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_annulus-bench")).args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn what_makes_no_sense_is_refused_in_a_sentence() {
    let url = "http://127.0.0.1:1/";
    for (arguments, said) in [
        (&["http"][..], "no URL"),
        (&["http", "nonsense", "--rate", "1"], "http://host:port/path"),
        (&["http", "ws://127.0.0.1/", "--rate", "1"], "annulus-bench ws"),
        (&["ws", url, "--rate", "1"], "annulus-bench http"),
        (&["http", url, "--rate", "0"], "--rate"),
        (&["http", url, "--rate", "1", "--seconds", "0"], "--seconds"),
        (&["http", url, "--rate", "1", "--warm-up", "soon"], "--warm-up"),
        (&["http", url, "--rate", "1", "--timeout", "0s"], "--timeout"),
        (&["http", url, "--rate", "1", "--connections", "0"], "--connections"),
        (&["http", url, "--rate", "1", "--threads", "1000"], "--threads"),
        (&["http", url, "--rate", "1", "--streams", "0"], "--streams"),
        (&["http", url, "--rate", "1", "--rounds", "0"], "--rounds"),
        (&["http", url, "--rate", "1", "--header", "nonsense"], "Name: value"),
        (&["http", url, "--rate", "1", "--method", "a b"], "a b"),
        (&["http", url, "--rate", "1", "--body", "@/nowhere/at/all"], "/nowhere/at/all"),
        (&["http", url, "--rate", "1", "--urls", "/nowhere/at/all"], "/nowhere/at/all"),
        (&["http", url, "--trace", "/nowhere/at/all"], "/nowhere/at/all"),
        (&["http", url, "--rate", "1", "--expect", "ok"], "--expect"),
        (&["http", url, "--rate", "1", "--generator-cores", "x"], "--generator-cores"),
        (&["http", url, "--steps", "1,x"], "1000,2000,4000"),
        (&["http", url, "--spike", "5x:1s"], "--rate"),
        (&["http", url, "--rate", "1", "--spike", "5"], "5x:2s"),
        (&["http", url, "--search", "fast"], "p99:10ms"),
        (&["http", url, "--rate", "1", "--saturate"], "--saturate"),
        (&["http", url, "--rate", "1", "--steps", "1", "--spike", "5x:1s"], "cannot be used with"),
        (&["http", "--compare", url], "2 values"),
        (&["http", "--compare", url, url, "--names", "one"], "--names"),
        (&["http", url, "http://127.0.0.2:1/", "--rate", "1"], "--compare"),
        (&["ws", "ws://127.0.0.1:1/", "--rate", "1", "--size", "3"], "--size"),
        (&["http", "http://no-such-name.invalid/", "--rate", "1"], "no-such-name.invalid"),
        (&["http", "http://203.0.113.1/"], "--rate"),
    ] {
        let (code, _, error) = bench(arguments);
        assert!(code == 2 && error.contains(said), "{arguments:?}: {code} {error}");
    }
}

#[test]
fn a_run_that_fails_exits_with_one() {
    let nobody = format!("http://127.0.0.1:{}/", free_port());
    let (code, _, error) = bench(&["http", &nobody, "--rate", "10", "--seconds", "0.1"]);
    assert!(code == 1 && error.contains("nobody listens"), "{code} {error}");
    let (code, _, error) = bench(&["http", &nobody, "--rate", "10", "--pid", "4000000"]);
    assert!(code == 1 && error.contains("no such process"), "{code} {error}");
    // All failed: still counted, by reason.
    let server = Server::answering(|_| Some(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n".to_vec()));
    let load = ["--rate", "100", "--seconds", "0.3", "--warm-up", "0s"];
    let (code, shown, _) = bench(&[&["http", &server.url("http", "/")], &load[..]].concat());
    assert!(code == 1 && shown.contains("29 status 5xx"), "{code} {shown}");
}

#[test]
fn a_comparison_shows_both_sides_and_how_far_chance_goes() {
    let (one, two) = (Server::answering(|_| Some(GOOD.to_vec())), Server::answering(|_| Some(GOOD.to_vec())));
    let (first, second) = (one.url("http", "/"), two.url("http", "/"));
    let file = std::env::temp_dir().join(format!("annulus-bench-compared-{}.json", std::process::id()));
    let (code, shown, _) = bench(&[
        "http",
        "--compare",
        &first,
        &second,
        "--names",
        "left,right",
        "--rate",
        "100",
        "--seconds",
        "0.3",
        "--warm-up",
        "0.1s",
        "--rounds",
        "3",
        "--json",
        file.to_str().unwrap(),
    ]);
    assert_eq!(code, 0, "{shown}");
    for wanted in ["left: answered per second", "right: p99", "p50, left / right", "p99.99"] {
        assert!(shown.contains(wanted), "{wanted}: {shown}");
    }
    // On a machine so busy that the generator was late there is no ratio; else it comes with its interval.
    assert!(shown.contains("95 % between") || shown.contains("refused"), "{shown}");
    assert!(std::fs::read_to_string(&file).unwrap().contains("p99.9, left / right") || shown.contains("refused"));
    std::fs::remove_file(file).unwrap();
}
