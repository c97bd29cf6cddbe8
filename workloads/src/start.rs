//! Starting the services: one process, one engine, all of them on the same shards.

use std::sync::Arc;

use annulus_engine::signals::{Signal, Signals};
use annulus_engine::{Engine, Shard, describe_drivers, raise_file_limit};

use crate::args::{Command, Common, USAGE};
use crate::config::Config;
use crate::{chat, console};

/// Files that a connection and the rest of the process may need besides the sockets.
const FILES_RESERVED: u64 = 256;
/// Fewer connections than this are worth a warning.
const CONNECTIONS_MIN: u64 = 1024;

/// Does what was asked.
///
/// # Errors
/// A sentence for people.
pub fn start(command: Command) -> Result<(), String> {
    match command {
        Command::Help => {
            print!("{USAGE}");
            Ok(())
        }
        Command::Version => {
            println!("annulus {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
        Command::Doctor => doctor(),
        Command::Chat(common) => serve(&common, false),
        Command::Run(common) => serve(&common, true),
    }
}

fn doctor() -> Result<(), String> {
    println!("kernel interfaces\n{}", describe_drivers());
    println!("open files\n  at most {}", raise_file_limit().map_err(|error| error.to_string())?);
    let grants = annulus_engine::plan::Grants::of_this_process();
    println!("\ncores\n  {} usable of {:?}", grants.usable(), grants.cores);
    Ok(())
}

fn serve(common: &Common, everything: bool) -> Result<(), String> {
    let mut config = match &common.config {
        Some(path) => Config::load(path)?,
        None => Config::default(),
    };
    config.engine.shards = common.shards.or(config.engine.shards);
    config.engine.driver = common.driver.unwrap_or(config.engine.driver);
    config.chat.listen = common.listen.unwrap_or(config.chat.listen);
    // Before any thread starts: threads inherit the mask.
    let signals = Signals::block().map_err(|error| format!("cannot block signals: {error}"))?;
    say_capacity();
    if config.chat.is_insecure() {
        println!("chat.insecure: clients need no token here and may claim any name");
    }
    let mut builder = Engine::builder().driver(config.engine.driver);
    if let Some(shards) = config.engine.shards {
        builder = builder.shards(shards);
    }
    let config = Arc::new(config);
    let main = move |shard: Shard| run_shard(shard, config.clone(), everything);
    let running = builder.start(main).map_err(|error| error.to_string())?;
    println!("{}", running.engine().plan());
    let engine = running.engine().clone();
    let on_signal = move |signal| {
        if signal == Signal::Drain {
            eprintln!("draining; a second signal ends at once");
            engine.drain();
        }
    };
    signals.listen(on_signal).map_err(|error| format!("cannot wait for signals: {error}"))?;
    let shards = running.wait().map_err(|error| error.to_string())?;
    shards.into_iter().collect()
}

fn say_capacity() {
    match raise_file_limit() {
        Ok(files) => {
            let room = files.saturating_sub(FILES_RESERVED);
            println!("open files: at most {files}, so about {room} connections");
            if room < CONNECTIONS_MIN {
                eprintln!("that is few. Raise it: `ulimit -Hn`, or LimitNOFILE= in the unit file.");
            }
        }
        Err(error) => eprintln!("the limit of open files could not be raised: {error}"),
    }
}

async fn run_shard(shard: Shard, config: Arc<Config>, everything: bool) -> Result<(), String> {
    let chat_config = Arc::new(config.chat.clone());
    let chat = shard.spawn(or_drain(shard.clone(), chat::serve::run(shard.clone(), chat_config)));
    let mut ended = Vec::new();
    if everything && shard.index() == 0 {
        let url = format!("http://{}/", config.chat.listen);
        let listed = console::Listed { name: "chat", url, about: "real-time messaging for Centrifuge clients" };
        let console = console::run(shard.clone(), config.console, vec![listed]);
        ended.push(or_drain(shard.clone(), console).await);
    }
    ended.push(chat.await.unwrap_or_else(|_| Err("the chat ended by a panic".to_owned())));
    ended.into_iter().collect()
}

/// A service that cannot go on stops the others.
async fn or_drain(shard: Shard, service: impl Future<Output = Result<(), String>>) -> Result<(), String> {
    let ended = service.await;
    if ended.is_err() {
        shard.drain();
    }
    ended
}
