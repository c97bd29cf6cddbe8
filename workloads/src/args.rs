//! The command line: what to do, and the options that win over the configuration file.

use std::net::SocketAddr;
use std::path::PathBuf;

use annulus_engine::DriverChoice;

use crate::nearest::nearest;
use crate::process::walls::Walls;

/// What `annulus --help` prints.
pub const HELP: &str = "\
annulus: real-time chat and more on one shard per core

usage: annulus <command> [options]

  run        all services: chat (8000), image (8070), gateway (8080) and the console (9900)
  chat       the chat service alone
  gateway    the API gateway alone, on a KrakenD v3 file
  image      the image service alone: uploads, processing, delivery
  check      reads a gateway's file and tells every problem, with line and column
  fetch      asks servers over HTTP/1.1 and HTTP/2; see annulus fetch --help
  perf       flamegraphs of any process; see annulus perf --help
  doctor     what this machine grants, and servers that are leaned on: annulus doctor --redis URL --postgres URL
  help       this text

options of run, chat, gateway and image:
  --config FILE       run, chat, image: settings in TOML, every key has a default
                      chat: or a Centrifugo v6 file in JSON, YAML or TOML, with CENTRIFUGO_* variables
                      gateway, check: a KrakenD v3 file in JSON, YAML or TOML
  --gateway FILE      run: the gateway's KrakenD v3 file
  --data DIR          run, chat, image: where everything is kept (./annulus-data)
  --console ADDR      the console: figures, flamegraphs, stalls (run: 127.0.0.1:9900; others: none unless named)
  --listen ADDR       chat's (image: its own) address and port, such as 0.0.0.0:8000
  --shards N          shards, one per core: as many as there are cores
  --pin CORE,...      the cores to use
  --driver NAME       auto, io_uring or epoll
  --handover PATH     the socket by which the next release takes over from this one without a failed request: start it with
                      the same words
  --user NAME         whom the server becomes that root starts, once its ports are open: a name, or UID:GID
  --walls NAME        auto, required or off: the kernel's walls around the server (landlock, seccomp)
of a chat's log (see annulus chat verify-log --help):
  annulus chat verify-log DIR    is it whole?
  annulus chat export DIR        its history, as lines of JSON
options of image:
  --plan              prints every limit with its terms and which one binds, and ends
  --measure DIR       with --plan: what the images in DIR take, and the settings that follow
of images (see their --help):
  annulus image process FILE... FOLDER       makes smaller, sharper, other images of files
  annulus image sign ORIGINAL OPTIONS        the signed address of a variant
options of doctor (exit status 1: something has to be changed):
  --config FILE       run, chat, image: the servers that it names are looked at
  --postgres URL      version, TLS, what is lost by a crash or failover, tables, connections; may be repeated
  --redis URL         version, what is lost by a crash or failover, what a full memory does; may be repeated
options of gateway, check and chat:
  --allow-unsupported what KrakenD (chat: Centrifugo) knows and we do not is told instead of refused
options of gateway and check:
  --print-config      prints the configuration in force, with all defaults, and ends
  --print-openapi     prints what is offered as an OpenAPI 3.1 document, and ends
";

const COMMANDS: [&str; 9] = ["run", "chat", "gateway", "image", "check", "fetch", "perf", "doctor", "help"];
const OPTIONS: [&str; 12] = [
    "--config",
    "--gateway",
    "--data",
    "--measure",
    "--console",
    "--listen",
    "--shards",
    "--pin",
    "--driver",
    "--handover",
    "--user",
    "--walls",
];
/// Options of the doctor alone, beside `--config`.
const DOCTOR_OPTIONS: [&str; 2] = ["--redis", "--postgres"];
const SWITCHES: [&str; 4] = ["--allow-unsupported", "--print-config", "--print-openapi", "--plan"];

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// All services.
    Run,
    /// The chat alone.
    Chat,
    /// The gateway alone.
    Gateway,
    /// The image service alone.
    Image,
    /// Read a gateway's file and tell what is wrong with it.
    Check,
    /// Tell what this machine grants.
    Doctor,
    /// Print the help.
    Help,
    /// Print the version.
    Version,
}

/// The command line, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Args {
    /// What to do.
    pub command: Command,
    /// The configuration file.
    pub config: Option<PathBuf>,
    /// The gateway's file, beside chat's configuration.
    pub gateway: Option<PathBuf>,
    /// Whether what the gateway does not offer is told instead of refused.
    pub allow_unsupported: bool,
    /// Whether the gateway's configuration is printed and nothing else done.
    pub print_config: bool,
    /// Whether what it offers is printed as an OpenAPI document and nothing else done.
    pub print_openapi: bool,
    /// Where everything is kept.
    pub data: Option<PathBuf>,
    /// Whether the image service's plan is printed and nothing else done.
    pub plan: bool,
    /// Images to measure for it.
    pub measure: Option<PathBuf>,
    /// Where chat listens, or the image service where it is alone.
    pub listen: Option<SocketAddr>,
    /// Where the console listens.
    pub console: Option<SocketAddr>,
    /// How many shards.
    pub shards: Option<usize>,
    /// Which cores.
    pub pin: Option<Vec<usize>>,
    /// Which kernel interface.
    pub driver: Option<DriverChoice>,
    /// Where a successor finds the server.
    pub handover: Option<PathBuf>,
    /// Whom it becomes.
    pub user: Option<String>,
    /// The walls around it.
    pub walls: Option<Walls>,
    /// URLs of Redis servers that the doctor is to look at.
    pub redis: Vec<String>,
    /// The same of PostgreSQL.
    pub postgres: Vec<String>,
}

impl Command {
    /// As it is asked for.
    pub fn name(self) -> &'static str {
        match self {
            Command::Run => "run",
            Command::Chat => "chat",
            Command::Gateway => "gateway",
            Command::Image => "image",
            Command::Check => "check",
            Command::Doctor => "doctor",
            Command::Help => "help",
            Command::Version => "version",
        }
    }
}

impl Args {
    /// Reads the words after the program's name.
    ///
    /// # Errors
    /// A sentence: what is wrong and what was expected.
    pub fn read(words: impl IntoIterator<Item = String>) -> Result<Args, String> {
        let mut words = words.into_iter();
        let command = command(words.next().as_deref())?;
        let mut args = Args {
            command,
            config: None,
            gateway: None,
            allow_unsupported: false,
            print_config: false,
            print_openapi: false,
            data: None,
            plan: false,
            measure: None,
            listen: None,
            console: None,
            shards: None,
            pin: None,
            driver: None,
            handover: None,
            user: None,
            walls: None,
            redis: Vec::new(),
            postgres: Vec::new(),
        };
        while let Some(word) = words.next() {
            let (option, value) = match word.split_once('=') {
                Some((option, value)) => (option.to_owned(), Some(value.to_owned())),
                None => (word, None),
            };
            if matches!(option.as_str(), "--help" | "-h") {
                args.command = Command::Help;
                return Ok(args);
            }
            if command == Command::Image && option == "--plan" {
                args.plan = true;
                continue;
            }
            if command == Command::Chat && option == "--allow-unsupported" {
                args.allow_unsupported = true;
                continue;
            }
            if matches!(command, Command::Gateway | Command::Check) && SWITCHES[..3].contains(&option.as_str()) {
                args.allow_unsupported |= option == "--allow-unsupported";
                args.print_config |= option == "--print-config";
                args.print_openapi |= option == "--print-openapi";
                continue;
            }
            if command == Command::Check && !option.starts_with("--") {
                args.config = Some(option.into());
                continue;
            }
            let is_known = match command {
                Command::Doctor => option == "--config" || DOCTOR_OPTIONS.contains(&option.as_str()),
                _ => OPTIONS.contains(&option.as_str()),
            };
            if !is_known {
                let known = match command {
                    Command::Doctor => [&["--config"][..], &DOCTOR_OPTIONS].concat(),
                    _ => [&OPTIONS[..], &SWITCHES].concat(),
                };
                return Err(unknown("option", &option, &known));
            }
            let value = value.or_else(|| words.next()).ok_or_else(|| format!("{option} needs a value"))?;
            args.set(&option, &value)?;
        }
        Ok(args)
    }

    fn set(&mut self, option: &str, value: &str) -> Result<(), String> {
        let wrong = |what: &str| format!("{option} {value}: expected {what}");
        match option {
            "--config" => self.config = Some(value.into()),
            "--gateway" => self.gateway = Some(value.into()),
            "--redis" => self.redis.push(value.to_owned()),
            "--postgres" => self.postgres.push(value.to_owned()),
            "--data" => self.data = Some(value.into()),
            "--measure" => self.measure = Some(value.into()),
            "--listen" => {
                self.listen = Some(value.parse().map_err(|_| wrong("an address and port such as 127.0.0.1:8000"))?);
            }
            "--console" => {
                self.console = Some(value.parse().map_err(|_| wrong("an address and port such as 127.0.0.1:9900"))?);
            }
            "--shards" => {
                let shards = value.parse().ok().filter(|shards| (1..=64).contains(shards));
                self.shards = Some(shards.ok_or_else(|| wrong("a number from 1 to 64"))?);
            }
            "--pin" => {
                let cores: Result<_, _> = value.split(',').map(str::parse).collect();
                self.pin = Some(cores.map_err(|_| wrong("core numbers such as 0,1"))?);
            }
            "--handover" => self.handover = Some(value.into()),
            "--user" => self.user = Some(value.to_owned()),
            "--walls" => self.walls = Some(value.parse()?),
            _ => self.driver = Some(value.parse()?),
        }
        Ok(())
    }
}

fn command(word: Option<&str>) -> Result<Command, String> {
    match word {
        Some("run") => Ok(Command::Run),
        Some("chat") => Ok(Command::Chat),
        Some("gateway") => Ok(Command::Gateway),
        Some("image") => Ok(Command::Image),
        Some("check") => Ok(Command::Check),
        Some("doctor") => Ok(Command::Doctor),
        Some("help" | "--help" | "-h") => Ok(Command::Help),
        Some("version" | "--version" | "-V") => Ok(Command::Version),
        Some(other) => Err(unknown("command", other, &COMMANDS)),
        None => Err("what shall I do? For example: annulus run".to_owned()),
    }
}

fn unknown(what: &str, word: &str, known: &[&str]) -> String {
    match nearest(word, known) {
        Some(near) => format!("there is no {what} {word:?}: did you mean {near}?"),
        None => format!("there is no {what} {word:?}; there are: {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Args, String> {
        Args::read(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn options_are_read() {
        let args = read("chat --listen 0.0.0.0:80 --shards=2 --pin 1,3 --driver epoll --config a.toml").unwrap();
        assert_eq!(args.command, Command::Chat);
        assert_eq!(args.listen, Some(([0, 0, 0, 0], 80).into()));
        assert_eq!((args.shards, args.pin), (Some(2), Some(vec![1, 3])));
        assert_eq!((args.driver, args.config), (Some(DriverChoice::Epoll), Some("a.toml".into())));
        let args = read("gateway --handover /run/a.sock --user web --walls required").unwrap();
        assert_eq!((args.handover, args.user), (Some("/run/a.sock".into()), Some("web".to_owned())));
        assert_eq!(args.walls, Some(Walls::Required));
        let args = read("image --plan --measure photos --data=x").unwrap();
        assert!(args.command == Command::Image && args.plan);
        assert_eq!((args.measure, args.data), (Some("photos".into()), Some("x".into())));
        let args = read("doctor --redis redis://a --redis=redis://b --postgres postgres://c@d/e").unwrap();
        assert_eq!((args.redis.len(), args.postgres), (2, vec!["postgres://c@d/e".to_owned()]));
        assert_eq!(read("run --help").unwrap().command, Command::Help);
        assert_eq!(read("--version").unwrap().command, Command::Version);
    }

    #[test]
    fn mistakes_are_named() {
        for (line, says) in [
            ("caht", "did you mean chat?"),
            ("", "annulus run"),
            ("chat --lisen 1", "did you mean --listen?"),
            ("chat --listen", "needs a value"),
            ("chat --listen 8000", "127.0.0.1:8000"),
            ("chat --shards 0", "from 1 to 64"),
            ("run --driver uring", "io_uring"),
            ("doctor --shards 2", "no option"),
            ("run --redis redis://a", "no option"),
            ("doctor --redi x", "did you mean --redis?"),
            ("chat --plan", "no option"),
            ("chat --walls high", "required"),
        ] {
            let error = read(line).unwrap_err();
            assert!(error.contains(says), "{line}: {error}");
        }
    }
}
