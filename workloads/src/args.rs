//! What a service is told by its command line: the options that win over the configuration file.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use annulus_engine::DriverChoice;

use crate::chat::hub::SHARDS_MAX;
use crate::command::words::Words;
use crate::journal::Form;
use crate::process::walls::Walls;

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
    /// How the log is written.
    pub log: Option<Form>,
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
        }
    }

    /// The one of this name.
    pub fn named(name: &str) -> Option<Command> {
        use Command::{Chat, Check, Doctor, Gateway, Image, Run};
        [Run, Chat, Gateway, Image, Check, Doctor].into_iter().find(|command| command.name() == name)
    }

    /// Whether there is a chat.
    pub fn has_chat(self) -> bool {
        matches!(self, Command::Run | Command::Chat)
    }

    /// Whether there is a gateway.
    pub fn has_gateway(self) -> bool {
        matches!(self, Command::Run | Command::Gateway)
    }

    /// Whether there is an image service.
    pub fn has_image(self) -> bool {
        matches!(self, Command::Run | Command::Image)
    }
}

impl Args {
    /// Nothing but what to do.
    pub fn new(command: Command) -> Args {
        Args {
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
            log: None,
        }
    }

    /// What the words say. Flags that a command does not have are not among them.
    ///
    /// # Errors
    /// A sentence: what is wrong and what was expected.
    pub fn of(command: Command, words: &Words) -> Result<Args, String> {
        let path = |name| words.value(name).map(PathBuf::from);
        Ok(Args {
            config: path("--config"),
            gateway: path("--gateway"),
            allow_unsupported: words.has("--allow-unsupported"),
            print_config: words.has("--print-config"),
            print_openapi: words.has("--print-openapi"),
            data: path("--data"),
            plan: words.has("--plan"),
            measure: path("--measure"),
            listen: words.parsed("--listen", "an address and port such as 127.0.0.1:8000")?,
            console: words.parsed("--console", "an address and port such as 127.0.0.1:9900")?,
            shards: shards(words)?,
            pin: pin(words)?,
            driver: chosen(words, "--driver")?,
            handover: path("--handover"),
            user: words.value("--user").map(str::to_owned),
            walls: chosen(words, "--walls")?,
            log: chosen(words, "--log")?,
            ..Args::new(command)
        })
    }
}

fn shards(words: &Words) -> Result<Option<usize>, String> {
    let what = format!("a number from 1 to {SHARDS_MAX}");
    match words.parsed("--shards", &what)? {
        Some(shards) if !(1..=SHARDS_MAX).contains(&shards) => Err(format!("--shards {shards}: expected {what}")),
        shards => Ok(shards),
    }
}

fn pin(words: &Words) -> Result<Option<Vec<usize>>, String> {
    let Some(value) = words.value("--pin") else { return Ok(None) };
    let cores: Result<_, _> = value.split(',').map(str::parse).collect();
    cores.map(Some).map_err(|_| format!("--pin {value}: expected core numbers such as 0,1"))
}

/// One of several words, which the table knows too.
fn chosen<T: FromStr<Err = String>>(words: &Words, name: &str) -> Result<Option<T>, String> {
    words.value(name).map(str::parse).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::commands::find;

    fn read(line: &str) -> Result<Args, String> {
        let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
        let entry = find(name).unwrap();
        let words = Words::read(entry, rest.split_whitespace().map(str::to_owned))?;
        Args::of(Command::named(name).unwrap(), &words)
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
        let args = read("run --log json --console [::1]:9900 --user=1:2").unwrap();
        assert_eq!((args.log, args.console), (Some(Form::Json), Some("[::1]:9900".parse().unwrap())));
        assert_eq!(read("chat").unwrap(), Args::new(Command::Chat));
    }

    #[test]
    fn mistakes_are_named() {
        for (line, says) in [
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
            ("chat --pin a", "core numbers"),
            ("run --log xml", "text or json"),
        ] {
            let error = read(line).unwrap_err();
            assert!(error.contains(says), "{line}: {error}");
        }
    }
}
