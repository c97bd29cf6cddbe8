//! What the reader of our TOML file says of its own keys: `[engine]`, `[image]` and `[console]`. The chat has tables itself.

use std::path::Path;

use super::lines::{SECTIONS, Section};
use super::{NOBODYS, Row, assert_same_keys, listed, table, wanted};
use crate::config::Config;

/// A table for each section.
pub fn tables() -> String {
    let mut out = String::new();
    for section in SECTIONS {
        let keys = listed(&refusal(section, NOBODYS, "1"));
        assert_same_keys(section.title, &keys, section.lines);
        let row = |key: &String| {
            let line = section.lines.iter().find(|line| line.key == key).expect("they are the same");
            // A date is what no key takes.
            let takes = wanted(&refusal(section, key, "1979-05-27")).to_owned();
            Row { key: key.clone(), takes, default: default(section, key, line.default), says: line.says.to_owned() }
        };
        table(&mut out, section.title, &keys.iter().map(row).collect::<Vec<_>>());
    }
    out
}

/// A default as code if it can be written, in which case writing it must change nothing; else as it is.
fn default(section: &Section, key: &str, default: &str) -> String {
    let has = |text: &str| {
        text.parse::<i64>().is_ok() || text.starts_with(['"', '[', '{']) || text == "true" || text == "false"
    };
    if !has(default) {
        return default.to_owned();
    }
    let (without, with) = (read(section, ""), read(section, &format!("{key} = {default}\n")));
    let (without, with) = (without.unwrap(), with.unwrap_or_else(|says| panic!("{}: {key}: {says}", section.title)));
    assert_eq!(shown(&with), shown(&without), "{}: {key} is not {default} by default", section.title);
    format!("`{default}`")
}

fn refusal(section: &Section, key: &str, value: &str) -> String {
    match read(section, &format!("{key} = {value}\n")) {
        Ok(_) => panic!("{}: {key} takes {value}", section.title),
        Err(says) => says,
    }
}

fn read(section: &Section, text: &str) -> Result<Config, String> {
    // What is there already is not needed once more.
    let key = text.split(' ').next().unwrap_or_default();
    let needs = section.needs.lines().filter(|line| line.split(' ').next() != Some(key));
    let needs: String = needs.map(|line| format!("{line}\n")).collect();
    Config::read(Path::new("a.toml"), &format!("{}\n{needs}{text}", section.head))
}

/// Everything that keys with a default of their own may change.
fn shown(config: &Config) -> String {
    let Config { shards, pin, driver, handover, user, walls, chat: _, image, console } = config;
    let engine = format!("{shards:?} {pin:?} {driver:?} {handover:?} {user:?} {walls:?} ");
    let console = format!("{:?} {} {} ", console.listen, console.sample_hz, console.sample_minutes);
    let service = (&image.listen, &image.data_dir, &image.insecure, &image.default_preset, &image.tls, &image.serve);
    let limits = (&image.limits, &image.knobs, &image.queue, &image.dispatch, &image.wait_max, &image.sweep);
    let parts =
        (&image.tus, &image.gpu, &image.variants, &image.webhooks, &image.s3, &image.quotas, image.redis.is_some());
    let rest = (image.sandbox_required, matches!(image.isolation, crate::image::lanes::cpu::Isolation::Process));
    format!("{engine}{console}{service:?}{limits:?}{parts:?}{rest:?}")
}
