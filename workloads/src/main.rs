//! The binary: reads the command line and the configuration, starts one engine, and runs the services on its shards.

use std::process::ExitCode;
use std::sync::Arc;

use annulus::args::{Args, Command, HELP};
use annulus::chat::{self, serve};
use annulus::config::Config;
use annulus::console::{self, Service};
use annulus_engine::plan::{Grants, Plan, Request};
use annulus_engine::signals::{Signal, Signals};
use annulus_engine::{Engine, Shard, describe_drivers, raise_file_limit};

/// Descriptors that are not connections: rings, listeners, standard streams, files.
const FILES_RESERVED: u64 = 64;
/// Fewer connections than this are hardly meant.
const CONNECTIONS_FEW: u64 = 10_000;

fn main() -> ExitCode {
    let args = match Args::read(std::env::args().skip(1)) {
        Ok(args) => args,
        Err(sentence) => {
            eprintln!("annulus: {sentence}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    let ended = match args.command {
        Command::Help => {
            print!("{HELP}");
            Ok(())
        }
        Command::Version => {
            println!("annulus {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
        Command::Doctor => {
            doctor();
            Ok(())
        }
        Command::Run | Command::Chat => Config::load(&args).and_then(|config| run(config, args.command)),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            eprintln!("annulus: {sentence}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the services until the process is asked to stop.
fn run(config: Config, command: Command) -> Result<(), String> {
    let files = raise_file_limit().map_err(|error| format!("the limit of open files cannot be read: {error}"))?;
    let signals = Signals::block().map_err(|error| format!("signals cannot be blocked: {error}"))?;
    let mut builder = Engine::builder().cores(config.pin).driver(config.driver);
    if let Some(shards) = config.shards {
        builder = builder.shards(shards);
    }
    let chat = Arc::new(config.chat);
    let console = (command == Command::Run).then_some(config.console);
    let main = move |shard: Shard| services(shard, chat.clone(), console);
    let running = builder.start(main).map_err(|error| error.to_string())?;
    annulus::say!("{}", running.engine().plan());
    annulus::say!("{}", capacity(files));
    let engine = running.engine().clone();
    let listening = signals.listen(move |signal| {
        if signal == Signal::Drain {
            engine.drain();
        }
    });
    listening.map_err(|error| format!("the thread for signals cannot start: {error}"))?;
    let shards = running.wait().map_err(|error| error.to_string())?;
    shards.into_iter().find_map(Result::err).map_or(Ok(()), Err)
}

/// One shard's services. If one cannot start, the whole process ends: half of them is not what was asked for.
async fn services(shard: Shard, chat: Arc<chat::Config>, console: Option<std::net::SocketAddr>) -> Result<(), String> {
    if let Some(listen) = console.filter(|_| shard.index() == 0) {
        let about = "rooms, presence and history for Centrifuge clients";
        let services = vec![Service { name: "chat", about, address: chat.listen }];
        let started = console::start(&shard, listen, services);
        if started.is_err() {
            shard.drain();
            return started;
        }
    }
    let ended = serve::run(shard.clone(), chat).await;
    if ended.is_err() {
        shard.drain();
    }
    ended
}

fn capacity(files: u64) -> String {
    let connections = files.saturating_sub(FILES_RESERVED);
    let remedy = match connections < CONNECTIONS_FEW {
        true => ". For more: raise the hard limit (`ulimit -Hn`), or LimitNOFILE= in the unit file",
        false => "",
    };
    format!("{files} open files allowed: about {connections} connections{remedy}")
}

fn doctor() {
    println!("kernel interface");
    print!("{}", describe_drivers());
    println!("cores");
    println!("  {}", Plan::new(&Grants::of_this_process(), &Request { compute: Some(0), ..Request::default() }));
    println!("limits");
    match raise_file_limit() {
        Ok(files) => println!("  {}", capacity(files)),
        Err(error) => println!("  the limit of open files cannot be read: {error}"),
    }
}
