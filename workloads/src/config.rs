//! The configuration file: TOML, read once into plain structs. Every key has a default; an unknown one is an error.
//!
//! ```toml
//! [engine]
//! shards = 2                  # one per core; as many as there are cores
//! pin = [0, 1]                # which cores
//! driver = "auto"             # "auto", "io_uring" or "epoll"
//! handover = "/run/annulus/chat.sock"   # where the next release takes over
//! user = "annulus"            # whom the server becomes that root starts
//! walls = "auto"              # "auto", "required" or "off": landlock and seccomp
//!
//! [chat]                      # see workloads/docs/chat-config.md
//! listen = "127.0.0.1:8000"
//! allowed_origins = ["https://*.example.com"]
//!
//! [image]                     # see image/config.rs
//! listen = "127.0.0.1:8070"
//!
//! [console]                   # see console/settings.rs
//! listen = "127.0.0.1:9900"
//! ```

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use annulus_engine::DriverChoice;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use crate::args::Args;
use crate::chat;
use crate::chat::hub::SHARDS_MAX;
use crate::console;
use crate::image;
use crate::nearest::nearest;
use crate::process::walls::Walls;

/// The sections of a file.
const SECTIONS: [&str; 4] = ["engine", "chat", "image", "console"];
/// Where everything is kept unless something is said.
const DATA: &str = "annulus-data";

/// Everything that can be set.
#[derive(Clone, Debug)]
pub struct Config {
    /// How many shards, if it is set.
    pub shards: Option<usize>,
    /// Which cores, if it is set.
    pub pin: Vec<usize>,
    /// Which kernel interface.
    pub driver: DriverChoice,
    /// Where a successor finds the server, if one may.
    pub handover: Option<PathBuf>,
    /// Whom it becomes that root starts.
    pub user: Option<String>,
    /// The walls around it.
    pub walls: Walls,
    /// The chat.
    pub chat: chat::Config,
    /// The image service.
    pub image: image::config::Config,
    /// The console.
    pub console: console::Settings,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            shards: None,
            pin: Vec::new(),
            driver: DriverChoice::Auto,
            handover: None,
            user: None,
            walls: Walls::Auto,
            chat: chat::Config::default(),
            image: image::config::Config::default(),
            console: console::Settings::default(),
        }
    }
}

/// What is wrong with a value, and where in the text.
struct Wrong {
    at: usize,
    says: String,
}

/// A value and its place.
pub type Value<'a> = Spanned<DeValue<'a>>;

impl Config {
    /// The file that the command line names, if any, and then the command line's own options.
    ///
    /// # Errors
    /// A sentence: file, line, key, what was expected.
    pub fn load(args: &Args) -> Result<Config, String> {
        let mut config = match &args.config {
            Some(path) if args.command == crate::args::Command::Chat && is_centrifugo(path) => centrifugo(path, args)?,
            None => Config::default(),
            Some(_) if matches!(args.command, crate::args::Command::Gateway) => Config::default(),
            Some(path) => {
                let text = std::fs::read_to_string(path).map_err(|error| {
                    format!("cannot read the configuration {}: {error}. Check the path after --config.", path.display())
                })?;
                Config::read(path, &text)?
            }
        };
        config.shards = args.shards.or(config.shards);
        config.pin = args.pin.clone().unwrap_or(config.pin);
        config.driver = args.driver.unwrap_or(config.driver);
        config.handover = args.handover.clone().or(config.handover);
        config.user = args.user.clone().or(config.user);
        config.walls = args.walls.unwrap_or(config.walls);
        match args.command {
            crate::args::Command::Image => config.image.listen = args.listen.unwrap_or(config.image.listen),
            _ => config.chat.listen = args.listen.unwrap_or(config.chat.listen),
        }
        config.console.listen = args.console.or(config.console.listen);
        config.image.data_dir = args.data.clone().unwrap_or(config.image.data_dir);
        // Credentials are rather given by the environment than written into a file.
        config.image.s3 = config.image.s3.map(|s3| s3.settle(&|name| std::env::var(name).ok()));
        if let Some(variants) = &mut config.image.variants {
            variants.settle(&|name| std::env::var(name).ok())?;
        }
        if !config.chat.channels.strict || args.data.is_some() {
            // Centrifugo keeps nothing that it is not told to keep.
            config.chat.settle(&args.data.as_deref().unwrap_or(Path::new(DATA)).join("chat"));
        }
        if matches!(args.command, crate::args::Command::Chat | crate::args::Command::Run) {
            config.chat.check()?;
        }
        if matches!(args.command, crate::args::Command::Image | crate::args::Command::Run) {
            config.image.check()?;
        }
        Ok(config)
    }

    /// Reads a file's text; `path` is for errors only.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn read(path: &Path, text: &str) -> Result<Config, String> {
        let place = |at: usize| {
            let line = text.as_bytes()[..at.min(text.len())].iter().filter(|&&byte| byte == b'\n').count() + 1;
            format!("{}:{line}", path.display())
        };
        let table = DeTable::parse(text)
            .map_err(|error| format!("{}: {}", place(error.span().map_or(0, |span| span.start)), error.message()))?;
        let mut config = Config::default();
        for (name, section) in table.get_ref() {
            config.read_section(name, section).map_err(|wrong| format!("{}: {}", place(wrong.at), wrong.says))?;
        }
        Ok(config)
    }

    fn read_section(&mut self, name: &Spanned<std::borrow::Cow<'_, str>>, section: &Value<'_>) -> Result<(), Wrong> {
        let at = name.span().start;
        if !SECTIONS.contains(&&**name.get_ref()) {
            return Err(Wrong { at, says: unknown("section", name.get_ref(), &SECTIONS) });
        }
        let DeValue::Table(table) = section.get_ref() else {
            return Err(Wrong { at, says: format!("{}: expected a section, as in [{0}]", name.get_ref()) });
        };
        for (key, value) in table {
            let read = match &**name.get_ref() {
                "engine" => self.read_engine(key.get_ref(), value),
                "chat" => self.chat.set(key.get_ref(), value),
                "image" => self.image.set(key.get_ref(), value),
                _ => self.console.set(key.get_ref(), value),
            };
            let named = |says| format!("{}.{}: {says}", name.get_ref(), key.get_ref());
            read.map_err(|says| Wrong { at: key.span().start, says: named(says) })?;
        }
        Ok(())
    }

    fn read_engine(&mut self, key: &str, value: &Value<'_>) -> Result<(), String> {
        match key {
            "shards" => self.shards = Some(number(value, 1, SHARDS_MAX as u64)? as usize),
            "pin" => {
                let cores = list(value, "a list of cores such as [0, 1]")?;
                self.pin =
                    cores.map(|core| number(core, 0, 65535).map(|core| core as usize)).collect::<Result<_, _>>()?;
            }
            "driver" => self.driver = string(value, "\"auto\", \"io_uring\" or \"epoll\"")?.parse()?,
            "handover" => self.handover = Some(string(value, "a path such as \"/run/annulus/chat.sock\"")?.into()),
            "user" => self.user = Some(string(value, "a user's name, or \"UID:GID\"")?.to_owned()),
            "walls" => self.walls = string(value, "\"auto\", \"required\" or \"off\"")?.parse()?,
            _ => return Err(unknown("key", key, &["shards", "pin", "driver", "handover", "user", "walls"])),
        }
        Ok(())
    }
}

/// Whether a file speaks Centrifugo's dialect: JSON and YAML do, and TOML without any section of ours. `[engine]` both have;
/// Centrifugo's says of which type it is.
fn is_centrifugo(path: &Path) -> bool {
    if path.extension().is_some_and(|extension| !extension.eq_ignore_ascii_case("toml")) {
        return true;
    }
    let Ok(text) = std::fs::read_to_string(path) else { return false };
    let Ok(table) = DeTable::parse(&text) else { return false };
    let is_ours = |(name, value): (&Spanned<DeString<'_>>, &Spanned<DeValue<'_>>)| match value.get_ref() {
        DeValue::Table(engine) if name.get_ref() == "engine" => !engine.keys().any(|key| key.get_ref() == "type"),
        _ => SECTIONS.contains(&&**name.get_ref()),
    };
    !table.get_ref().is_empty() && !table.get_ref().iter().any(is_ours)
}

/// Whether a file is one of the services that are configured in TOML, and not a gateway's: those say which version they are of,
/// before any section.
pub fn is_ours(path: &Path) -> bool {
    let Ok(text) = std::fs::read_to_string(path) else { return false };
    let mut root = text.lines().map(str::trim_start).take_while(|line| !line.starts_with('['));
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("toml"))
        && !root.any(|line| line.starts_with("version") || line.starts_with("\"version"))
}

/// A deployment's file of Centrifugo v6, and its variables of the environment.
fn centrifugo(path: &Path, args: &Args) -> Result<Config, String> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        format!("cannot read the configuration {}: {error}. Check the path after --config.", path.display())
    })?;
    // Not `vars()`: it panics where anybody's variable is no UTF-8.
    let variables = std::env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()));
    match chat::config::load_centrifugo(path, &text, variables, args.allow_unsupported) {
        Ok((chat, notes)) => {
            notes.iter().for_each(|note| crate::say!("chat: note: {note}"));
            Ok(Config { chat, ..Config::default() })
        }
        Err(problems) => {
            let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
            Err(format!("{} cannot be used as a Centrifugo file:\n{}", path.display(), lines.join("\n")))
        }
    }
}

pub(crate) fn unknown(what: &str, name: &str, known: &[&str]) -> String {
    match nearest(name, known) {
        Some(near) => format!("there is no {what} {name:?}: did you mean {near:?}?"),
        None => format!("there is no {what} {name:?}; there are: {}", known.join(", ")),
    }
}

pub(crate) fn expected<T>(what: &str) -> Result<T, String> {
    Err(format!("expected {what}"))
}

pub(crate) fn string<'v>(value: &'v Value<'_>, what: &str) -> Result<&'v str, String> {
    match value.get_ref() {
        DeValue::String(text) => Ok(text),
        _ => expected(what),
    }
}

pub(crate) fn boolean(value: &Value<'_>) -> Result<bool, String> {
    match value.get_ref() {
        DeValue::Boolean(value) => Ok(*value),
        _ => expected("true or false"),
    }
}

pub(crate) fn number(value: &Value<'_>, least: u64, most: u64) -> Result<u64, String> {
    let number = match value.get_ref() {
        DeValue::Integer(number) => u64::from_str_radix(number.as_str(), number.radix()).ok(),
        _ => None,
    };
    match number.filter(|number| (least..=most).contains(number)) {
        Some(number) => Ok(number),
        None => expected(&format!("a whole number from {least} to {most}")),
    }
}

pub(crate) fn address(value: &Value<'_>) -> Result<SocketAddr, String> {
    let what = "an address and port such as \"127.0.0.1:8000\"";
    string(value, what)?.parse().or_else(|_| expected(what))
}

pub(crate) fn list<'v, 'a>(value: &'v Value<'a>, what: &str) -> Result<impl Iterator<Item = &'v Value<'a>>, String> {
    match value.get_ref() {
        DeValue::Array(values) => Ok(values.iter()),
        _ => expected(what),
    }
}

pub(crate) fn table<'v, 'a>(value: &'v Value<'a>, what: &str) -> Result<&'v DeTable<'a>, String> {
    match value.get_ref() {
        DeValue::Table(table) => Ok(table),
        _ => expected(what),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, String> {
        Config::read(Path::new("a.toml"), text)
    }

    #[test]
    fn a_whole_file_is_read() {
        let text = "[engine]\nshards = 2\npin = [0, 1]\ndriver = \"epoll\"\n[chat]\nlisten = \"[::1]:80\"\ninsecure = false\n\
            allowed_origins = [\"https://a.b\"]\napi_key = \"k\"\nmessage_bytes_max = 1_000\noutbox_bytes_max = 0x10000\n\
            idle_seconds_max = 5\nhistory_size = 0\nhistory_seconds = 7\npresence = false\njoin_leave = false\n\
            [console]\nlisten = \"127.0.0.1:1\"\n";
        let config = read(text).unwrap();
        assert_eq!((config.shards, config.pin, config.driver), (Some(2), vec![0, 1], DriverChoice::Epoll));
        assert_eq!(config.chat.listen, "[::1]:80".parse().unwrap());
        assert_eq!(config.chat.client.insecure, Some(false));
        assert_eq!(config.chat.api.keys[0].reveal(), "k");
        assert_eq!(config.chat.allowed_origins, ["https://a.b"]);
        assert_eq!((config.chat.message_bytes_max, config.chat.outbox_bytes_max), (1000, 65536));
        let namespace = &config.chat.channels.default;
        assert_eq!((config.chat.idle_ms_max, namespace.history_size, namespace.history_ttl_ms), (5000, 0, 7000));
        assert!(!namespace.presence && !namespace.join_leave);
        assert_eq!(config.console.listen, Some(([127, 0, 0, 1], 1).into()));
        assert_eq!(read("").unwrap().chat.listen, ([127, 0, 0, 1], 8000).into());
    }

    #[test]
    fn the_image_section_is_read() {
        let text = "[image]\nlisten = \"127.0.0.1:1\"\ndata_dir = \"/x\"\nbytes_max = 5_000\nworkers = 3\n\
            isolation = \"thread\"\nrefused_after_seconds = 9\nwaiting_max = 7\ndefault_preset = \"card\"\n\
            [image.tenants]\nshop = \"0123456789abcdef\"\n[image.presets]\ncard = [\"a=w:10/f:avif\", \"a=w:10/f:jpeg\"]\n";
        let image = read(text).unwrap().image;
        assert_eq!((image.listen.port(), image.limits.bytes_max, image.knobs.workers), (1, 5000, Some(3)));
        assert_eq!((image.queue.waiting_max, image.knobs.marks.waiting_max, image.queue.lost_is_crash), (7, 7, true));
        assert_eq!(image.presets.get("card").unwrap().len(), 2);
        assert!(image.check().is_ok());
        let open = |text: &str| read(text).unwrap().image.check();
        assert!(open("[image]\nlisten = \"0.0.0.0:1\"\n").unwrap_err().contains("[image.tenants]"));
        assert!(open("[image]\nlisten = \"0.0.0.0:1\"\ninsecure = true\n").is_ok());
        assert!(open("[image]\ntls_key = \"a\"\n").unwrap_err().contains("belong together"));
        assert!(open("[image]\ndefault_preset = \"x\"\n").unwrap_err().contains("no preset"));
        let keys = "keys = [\"0123456789abcdef0123456789abcdef\", \"fedcba9876543210fedcba9876543210\"]\n";
        let text =
            format!("[image.variants]\n{keys}bytes_max = 300_000_000\nauto_formats = [\"webp\"]\nkept_seconds = 60\n");
        let image = read(&text).unwrap().image;
        assert!(image.check().is_ok());
        let variants = image.variants.unwrap();
        assert_eq!((variants.bytes_max, variants.kept.as_secs(), variants.auto.len()), (300_000_000, 60, 1));
        assert!(!format!("{variants:?}").contains("0123"), "keys are not shown");
        assert!(open("[image.variants]\n").unwrap_err().contains("image.variants has no keys"));
        assert!(open("[image.variants]\nunsigned = true\n").is_ok());
        let without = format!("[image]\noriginals_kept = false\n[image.variants]\n{keys}");
        assert!(open(&without).unwrap_err().contains("image.originals_kept = false removes"));
        let mut empty = read("[image.variants]\n").unwrap().image.variants.unwrap();
        let told = |keys: &'static str| move |name: &str| (name == "ANNULUS_VARIANT_KEYS").then(|| keys.to_owned());
        assert!(empty.settle(&told("short")).unwrap_err().contains("ANNULUS_VARIANT_KEYS: key 1 has fewer than 32"));
        empty.settle(&told("0123456789abcdef0123456789abcdef, fedcba9876543210fedcba9876543210")).unwrap();
        assert_eq!(format!("{:?}", empty.signer), "Signer(2 keys)");
    }

    #[test]
    fn errors_name_file_line_key_and_what_was_expected() {
        for (text, says) in [
            (
                "[chat]\nlisten = 8000\n",
                "a.toml:2: chat.listen: expected an address and port such as \"127.0.0.1:8000\"",
            ),
            (
                "\n[chat]\n\nlisen = \"x\"\n",
                "a.toml:4: chat.lisen: there is no key \"lisen\": did you mean \"listen\"?",
            ),
            ("[caht]\n", "a.toml:1: there is no section \"caht\": did you mean \"chat\"?"),
            ("[engine]\nshards = 0\n", "a.toml:2: engine.shards: expected a whole number from 1 to 64"),
            ("[engine]\nshards = -1\n", "a.toml:2: engine.shards: expected a whole number from 1 to 64"),
            ("chat = 1\n", "a.toml:1: chat: expected a section, as in [chat]"),
            ("[chat]\napi_key = \"\"\n", "a.toml:2: chat.api_key: an empty key"),
            ("[chat]\npresence = \"yes\"\n", "a.toml:2: chat.presence: expected true or false"),
            ("[engine]\ndriver = \"kqueue\"\n", "a.toml:2: engine.driver: no driver is called \"kqueue\""),
            ("[chat]\nlisten = \n", "a.toml:2: "),
            ("[image]\nbytes = 1\n", "a.toml:2: image.bytes: there is no key \"bytes\""),
            ("[image]\nadmin_key = \"short\"\n", "a.toml:2: image.admin_key: a key of fewer than 16"),
            ("[image]\nisolation = \"vm\"\n", "a.toml:2: image.isolation: expected \"process\" or \"thread\""),
            ("[image.tenants]\na = \"x\"\n", "a.toml:1: image.tenants: the key of a: a key of fewer"),
            ("[image.presets]\na = [\"b\"]\n", "a.toml:1: image.presets: a: expected a list of outputs"),
            (
                "[image.variants]\nkey = 1\n",
                "a.toml:1: image.variants: key: there is no key \"key\": did you mean \"keys\"?",
            ),
            ("[image.variants]\nkeys = [\"x\"]\n", "a.toml:1: image.variants: keys: key 1 has fewer than 32"),
            ("[image.variants]\nbytes_max = 1\n", "a.toml:1: image.variants: bytes_max: expected a whole number"),
            ("[image.variants]\nauto_formats = [\"gif\"]\n", "a.toml:1: image.variants: auto_formats: expected a list"),
            ("[image.presets]\na = [\"b=qq:1\"]\n", "a.toml:1: image.presets: in output \"b\" of preset \"a\""),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.starts_with(says), "{text:?}: {error}");
        }
    }
}
