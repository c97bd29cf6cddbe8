//! Real clients against the real binary: the official Centrifuge SDKs for JavaScript and Python, and a browser on the
//! page. Each on one shard and on two, with io_uring and with epoll. What is not installed is reported, not passed over.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

mod outside;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use outside::{Browser, clients, not_run, passes};

/// A running server, ended with the test.
struct Server {
    process: Child,
    address: String,
}

impl Server {
    fn start(shards: &str, driver: &str) -> Server {
        let mut process = Command::new(env!("CARGO_BIN_EXE_annulus"))
            .args(["chat", "--listen", "127.0.0.1:0", "--shards", shards, "--driver", driver])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let line = lines.find(|line| line.as_ref().unwrap().contains("ws://")).unwrap().unwrap();
        // Who does not read a server's log makes it wait.
        std::thread::spawn(move || lines.for_each(drop));
        let address = line.split("ws://").nth(1).unwrap().split('/').next().unwrap().to_owned();
        Server { process, address }
    }

    /// Asks it to end and sees that it does so well.
    fn stop(mut self) {
        let killed = Command::new("kill").arg(self.process.id().to_string()).status().unwrap();
        assert!(killed.success() && self.process.wait().unwrap().success(), "the server did not drain");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Ended already unless the test failed.
        let _ended = self.process.kill();
        let _reaped = self.process.wait();
    }
}

fn on_each_server(client: impl Fn(&Server)) {
    for (shards, driver) in [("1", "auto"), ("2", "auto"), ("1", "epoll"), ("2", "epoll")] {
        let server = Server::start(shards, driver);
        client(&server);
        server.stop();
    }
}

#[test]
fn the_javascript_client() {
    if !clients().join("node_modules/centrifuge").exists() {
        return not_run("centrifuge (npm)", "make setup-test could not install it");
    }
    on_each_server(|server| {
        let url = format!("ws://{}/connection/websocket", server.address);
        passes(Path::new("node"), "session.mjs", &[&url]);
    });
}

#[test]
fn the_python_client() {
    let python = clients().join(".venv/bin/python");
    if !clients().join(".venv/.ready").exists() {
        return not_run("centrifuge-python (PyPI)", "make setup-test could not install it");
    }
    on_each_server(|server| {
        let url = format!("ws://{}/connection/websocket", server.address);
        passes(&python, "session.py", &[&url]);
    });
}

#[test]
fn two_browser_windows_chat_on_the_page() {
    let Some(browser) = Browser::start("the page in a browser") else { return };
    let server = Server::start("2", "auto");
    let page = format!("http://{}/", server.address);
    passes(Path::new("node"), "page.mjs", &[&page, &browser.devtools]);
    server.stop();
}
