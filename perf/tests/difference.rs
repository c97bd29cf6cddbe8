//! What changed between two recordings, in red and blue.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

mod rig;

use std::fs;

use rig::{Build, Folder, is_well_formed, may_sample, profiler, record, spin};

#[test]
fn two_texts_become_one_picture_of_what_changed() {
    let folder = Folder::new("diff");
    let (before, after, picture) = (folder.file("before.txt"), folder.file("after.txt"), folder.file("d.svg"));
    fs::write(&before, "main;read 50\nmain;write 50\n").unwrap();
    fs::write(&after, "main;read 20\nmain;write 60\nmain;sort 20\n").unwrap();
    let [before, after, output] = [&before, &after, &picture].map(|path| path.to_str().unwrap());
    let run = profiler().args(["diff", before, after, "--output", output, "--title", "a < b"]).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let drawn = fs::read_to_string(&picture).unwrap();
    is_well_formed(&drawn);
    for part in ["a &lt; b", "read (20 samples, 20.00%; -30.00%)", "write (60 samples, 60.00%; +10.00%)", "sort (20"] {
        assert!(drawn.contains(part), "{part}: {drawn}");
    }
    fs::write(&picture, "").unwrap();
    let wrong = profiler().args(["diff", before, output, "--output", output]).output().unwrap();
    assert!(wrong.status.success(), "an empty file is a recording without samples");
    fs::write(&picture, "no stacks").unwrap();
    let wrong = profiler().args(["diff", before, output, "--output", output]).output().unwrap();
    let said = String::from_utf8(wrong.stderr).unwrap();
    assert!(wrong.status.code() == Some(1) && said.contains("line 1 is no collapsed stack"), "{said}");
}

#[test]
fn a_recording_shows_what_changed_since_another() {
    if !may_sample("differences of recordings") {
        return;
    }
    let (folder, spin) = (Folder::new("since"), spin(Build::Full).to_str().unwrap());
    let first = record(&folder, &["--frequency", "199", "--", spin, "1"]);
    first.has_shares();
    let before = folder.file("before.txt");
    // As if half of the time had been spent elsewhere.
    let elsewhere = format!("{}spin;elsewhere {}\n", first.folded.collapsed(), first.folded.samples());
    fs::write(&before, elsewhere).unwrap();
    let second = record(&folder, &["--frequency", "199", "--diff", before.to_str().unwrap(), "--", spin, "1"]);
    is_well_formed(&second.picture);
    // A function's colour is by its own time: the loop's has about twice the share.
    assert!(second.picture.contains("%; +"), "{}", second.picture);
    assert!(second.picture.contains("red is more, blue is less"));
}
