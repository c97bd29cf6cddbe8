//! Code that is made at run time: Node's, by the list of functions that it leaves behind.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

mod rig;

use std::fs;
use std::process::Command;

use rig::{Folder, may_sample, not_run, record};

const GROUP: &str = "a profile of Node";

#[test]
fn functions_of_a_script_have_their_names() {
    if !may_sample(GROUP) {
        return;
    }
    if Command::new("node").arg("--version").output().is_err() {
        return not_run(GROUP, "node is not installed");
    }
    let folder = Folder::new("node");
    let script = folder.file("spin.js");
    let text = "function countsUp(n) { let s = 0; for (let i = 0; i < n; i++) s += i % 7; return s; }\n\
                const end = Date.now() + 2500; let sum = 0; while (Date.now() < end) sum += countsUp(100000);\n";
    fs::write(&script, text).unwrap();
    // Its list is named for its process, which only it knows: it says so by a script of its own.
    let pid = folder.file("pid");
    fs::write(folder.file("pid.js"), format!("require('fs').writeFileSync({pid:?}, String(process.pid))")).unwrap();
    let [script, first] = [script, folder.file("pid.js")].map(|path| path.to_str().unwrap().to_owned());
    let words = ["--frequency", "199", "--", "node", "--perf-basic-prof", "--require", &first, &script];
    let recorded = record(&folder, &words);
    assert_eq!(recorded.code, Some(0), "{}", recorded.said);
    assert!(recorded.folded.samples_with(|name| name.contains("countsUp")) > 10, "{recorded:?}");
    let list = format!("/tmp/perf-{}.map", fs::read_to_string(pid).unwrap());
    fs::remove_file(list).unwrap();
}
