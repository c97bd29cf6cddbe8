//! The binary: reads the command line and the configuration, starts one engine, and runs the services on its shards.

use std::process::ExitCode;
use std::sync::Arc;

use annulus::args::{Args, Command, HELP};
use annulus::chat::node::Node;
use annulus::chat::offline::Offline;
use annulus::chat::serve;
use annulus::config::Config;
use annulus::console::{Console, Service, stall_names};
use annulus::doctor::{Doctor, capacity};
use annulus::fetch::Fetch;
use annulus::gateway::config;
use annulus::gateway::reload::{Editions, Source};
use annulus::gateway::service::{self, Edition};
use annulus::image::lanes::{Pipeline, gpu, worker};
use annulus::image::process::Process;
use annulus::image::service::{Image, plan};
use annulus::image::variants::sign::Sign;
use annulus_engine::plan::{Grants, Plan, Request};
use annulus_engine::signals::{Signal, Signals};
use annulus_engine::{Engine, Shard, raise_file_limit};

/// Shards at most: who of them has members of a channel is kept in 64 bits.
const SHARDS_MAX: usize = 64;

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("fetch") {
        return fetch();
    }
    if std::env::args().nth(1).as_deref() == Some("perf") {
        return annulus_perf::command::main(std::env::args().skip(2).collect());
    }
    // Started by the image service itself: see `image::lanes::worker`.
    if std::env::args().nth(1).as_deref() == Some(worker::COMMAND) {
        return worker::main(&Pipeline);
    }
    // Likewise: see `image::lanes::gpu::worker`.
    if std::env::args().nth(1).as_deref() == Some(gpu::worker::COMMAND) {
        return gpu::worker::main();
    }
    if std::env::args().skip(1).take(2).eq(["image", "process"]) {
        return process();
    }
    if std::env::args().skip(1).take(2).eq(["image", "sign"]) {
        return sign();
    }
    if std::env::args().nth(1).as_deref() == Some("chat")
        && matches!(std::env::args().nth(2).as_deref(), Some("verify-log" | "export"))
    {
        return offline();
    }
    let args = match Args::read(std::env::args().skip(1)) {
        Ok(args) => args,
        Err(sentence) => {
            eprintln!("annulus: {sentence}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    let ended = match args.command {
        Command::Help => {
            annulus::say!("{}", HELP.trim_end());
            Ok(())
        }
        Command::Version => {
            annulus::say!("annulus {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
        Command::Doctor => doctor(&args),
        Command::Check => check(&args),
        Command::Gateway if args.print_config || args.print_openapi => check(&args),
        Command::Image if args.plan => Config::load(&args).and_then(|config| {
            annulus::say!("{}", plan(&config.image, args.measure.as_deref())?);
            Ok(())
        }),
        Command::Run | Command::Chat | Command::Gateway | Command::Image => {
            Config::load(&args).and_then(|config| run(config, &args))
        }
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            eprintln!("annulus: {sentence}");
            ExitCode::FAILURE
        }
    }
}

/// Asks servers; see [`annulus::fetch`].
fn fetch() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(2).collect();
    if words.iter().any(|word| matches!(word.as_str(), "--help" | "-h")) {
        annulus::say!("{}", annulus::fetch::HELP.trim_end());
        return ExitCode::SUCCESS;
    }
    match Fetch::read(words).and_then(Fetch::run) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(sentence) => {
            eprintln!("annulus fetch: {sentence}");
            ExitCode::from(2)
        }
    }
}

/// Makes outputs of images; see [`annulus::image::process`].
fn process() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(3).collect();
    if words.iter().any(|word| matches!(word.as_str(), "--help" | "-h")) {
        annulus::say!("{}", annulus::image::process::HELP.trim_end());
        return ExitCode::SUCCESS;
    }
    match Process::read(words).map(|process| process.run()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(sentence) => {
            eprintln!("annulus image process: {sentence}");
            ExitCode::from(2)
        }
    }
}

/// Signs the address of a variant; see [`annulus::image::variants::sign`].
fn sign() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(3).collect();
    if words.iter().any(|word| matches!(word.as_str(), "--help" | "-h")) {
        annulus::say!("{}", annulus::image::variants::sign::HELP.trim_end());
        return ExitCode::SUCCESS;
    }
    let signed = Sign::read(words).and_then(|sign| {
        let config = sign.config.iter().map(|path| format!("--config={}", path.display()));
        let args = Args::read(["image".to_owned()].into_iter().chain(config))?;
        let mut config = Config::load(&args)?;
        if sign.config.is_none() {
            // Nothing but the environment says anything of keys.
            let variants = config.image.variants.get_or_insert_default();
            variants.settle(&|name| std::env::var(name).ok())?;
        }
        sign.run(&config.image)
    });
    match signed {
        Ok(address) => {
            annulus::say!("{address}");
            ExitCode::SUCCESS
        }
        Err(sentence) => {
            eprintln!("annulus image sign: {sentence}");
            ExitCode::from(2)
        }
    }
}

/// Looks at a chat's log; see [`annulus::chat::offline`].
fn offline() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(2).collect();
    if words.iter().any(|word| matches!(word.as_str(), "--help" | "-h")) {
        annulus::say!("{}", annulus::chat::offline::HELP.trim_end());
        return ExitCode::SUCCESS;
    }
    match Offline::read(&words).and_then(|offline| offline.run()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(sentence) => {
            eprintln!("annulus chat {}: {sentence}", words.first().map_or("", String::as_str));
            ExitCode::from(2)
        }
    }
}

/// Runs the services until the process is asked to stop.
fn run(config: Config, args: &Args) -> Result<(), String> {
    let files = raise_file_limit().map_err(|error| format!("the limit of open files cannot be read: {error}"))?;
    let signals = Signals::block().map_err(|error| format!("signals cannot be blocked: {error}"))?;
    let asked = Request { pin: config.pin.clone(), shards: config.shards, compute: Some(0), ..Request::default() };
    // All cores are the shards'. The gateway's large answers and the chat's signatures are rare: their thread gets the time
    // that a shard has left.
    let cores = Plan::new(&Grants::of_this_process(), &asked);
    let shards = cores.shards.len().min(SHARDS_MAX);
    let has_gateway = matches!(args.command, Command::Run | Command::Gateway);
    let compute = usize::from(matches!(args.command, Command::Run | Command::Gateway | Command::Chat));
    let builder = Engine::builder().cores(config.pin).driver(config.driver).shards(shards).compute(compute);
    let builder = builder.stall_names(stall_names);
    let source = source(args);
    let (editions, dates) = match (has_gateway, &source) {
        (false, _) => (None, Vec::new()),
        (true, Some(source)) => {
            let (edition, dates) = source.read()?;
            (Some(Editions::new(edition)), dates)
        }
        (true, None) => (Some(Editions::new(Edition::load(built_in()?)?)), Vec::new()),
    };
    let image_address = config.image.listen;
    // Before the shards: its workers are children of this process, and what it finds in its queue waits already.
    let image = match args.command {
        Command::Run | Command::Image => Some(Image::start(config.image, &cores)?),
        _ => None,
    };
    let chat = match args.command {
        Command::Run | Command::Chat => Some(Node::open(config.chat, shards)?),
        _ => None,
    };
    let console = config.console.or_default(args.command == Command::Run).map(Console::new);
    let started = Started {
        chat: chat.clone(),
        gateway: editions.clone(),
        image: image.clone().map(|image| (image, image_address)),
        console: console.clone(),
    };
    let main = move |shard: Shard| services(shard, started.clone());
    let running = builder.start(main).map_err(|error| error.to_string())?;
    if let Some(console) = &console {
        console.watch();
    }
    annulus::say!("{}", running.engine().plan());
    annulus::say!("{}", capacity(files));
    let engine = running.engine().clone();
    if let (Some(source), Some(editions)) = (source.clone(), editions.clone()) {
        source.watch(editions, dates).map_err(|error| format!("the gateway's file cannot be watched: {error}"))?;
    }
    let listening = signals.listen(move |signal| match (signal, &source, &editions) {
        _ if signal == Signal::Reload && reload_chat(chat.as_deref()) && source.is_none() => {}
        (Signal::Drain, _, _) => engine.drain(),
        (Signal::Reload, Some(source), Some(editions)) => {
            let _the_watch_has_its_own_dates = source.reload(editions);
        }
        (Signal::Reload | Signal::User1, _, _) => {}
    });
    listening.map_err(|error| format!("the thread for signals cannot start: {error}"))?;
    let shards = running.wait().map_err(|error| error.to_string());
    if let Some(image) = image {
        image.stop();
    }
    let shards = shards?;
    shards.into_iter().find_map(Result::err).map_or(Ok(()), Err)
}

/// Has the chat read its certificates again; whether there is a chat.
fn reload_chat(chat: Option<&Node>) -> bool {
    chat.into_iter().map(Node::reload).count() > 0
}

/// What runs on every shard.
#[derive(Clone)]
struct Started {
    chat: Option<Arc<Node>>,
    gateway: Option<Arc<Editions>>,
    /// And where it listens.
    image: Option<(Arc<Image>, std::net::SocketAddr)>,
    console: Option<Arc<Console>>,
}

/// The gateway's file, if one is named.
fn source(args: &Args) -> Option<Source> {
    let path = match args.command {
        Command::Run => args.gateway.clone(),
        Command::Gateway | Command::Check => args.gateway.clone().or_else(|| args.config.clone()),
        _ => None,
    };
    let options = config::LoadOptions { allow_unsupported: args.allow_unsupported };
    path.map(|path| Source { path, options })
}

/// The gateway where no file is named: its own endpoints, and nothing behind it.
fn built_in() -> Result<config::Gateway, String> {
    let text = include_str!("gateway/built_in.json");
    let read = config::load_text("built-in", config::Syntax::Json, text, &config::LoadOptions::default());
    let lines =
        |problems: Vec<config::Problem>| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    read.map(|(gateway, _)| gateway).map_err(lines)
}

/// Tells what is wrong with a gateway's file, and what the other behaviour would change.
fn check(args: &Args) -> Result<(), String> {
    let Some(source) = source(args) else {
        return Err("check which file? For example: annulus check shop.json".into());
    };
    match config::load(&source.path, &source.options) {
        Err(problems) => {
            problems.iter().for_each(|problem| annulus::say!("{problem}"));
            let plural = if problems.len() == 1 { "" } else { "s" };
            Err(format!("{} has {} problem{plural}", source.path.display(), problems.len()))
        }
        Ok((gateway, _)) if args.print_config => {
            annulus::say!("{}", config::print_effective(&gateway));
            Ok(())
        }
        Ok((gateway, _)) if args.print_openapi => {
            annulus::say!("{}", config::openapi(&gateway).trim_end());
            Ok(())
        }
        Ok((gateway, notes)) => {
            notes.iter().for_each(|note| annulus::say!("{note}"));
            for difference in config::compat_differences(&gateway) {
                annulus::say!("compat: {difference}");
            }
            let count = gateway.endpoints.len();
            // Where a file is checked, its certificates need not be.
            if let Err(why) = Edition::load(gateway) {
                annulus::say!("note: here it could not start: {why}");
            }
            annulus::say!("{}: {count} endpoints, no problems", source.path.display());
            Ok(())
        }
    }
}

/// One shard's services. If one cannot start, the whole process ends: half of them is not what was asked for.
async fn services(shard: Shard, started: Started) -> Result<(), String> {
    let mut others = Vec::new();
    if let Some(console) = &started.console {
        let mut services = Vec::new();
        if let Some(chat) = &started.chat {
            let about = "rooms, presence and history for Centrifuge clients";
            services.push(Service { name: "chat", about, address: chat.common.config.listen });
        }
        if let Some(editions) = &started.gateway {
            let gateway = editions.newer(&mut 0).await.gateway;
            let about = "one answer out of many services' answers";
            let address = std::net::SocketAddr::new(gateway.listen.ip, gateway.listen.port);
            services.push(Service { name: "gateway", about, address });
        }
        if let Some((_, address)) = &started.image {
            let about = "uploads, processing and delivery of images";
            services.push(Service { name: "image", about, address: *address });
        }
        match console.open(&shard, services) {
            Ok(door) => others.push((
                "console",
                shard.spawn(async move {
                    let _nothing_is_lost = door.serve().await;
                    Ok(())
                }),
            )),
            Err(error) => {
                shard.drain();
                return Err(error);
            }
        }
    }
    let ending = shard.clone();
    // If one cannot start, the others end with it.
    let or_drain = move |ended: Result<(), String>| {
        if ended.is_err() {
            ending.drain();
        }
        ended
    };
    if let Some(editions) = started.gateway {
        let (on, or_drain) = (shard.clone(), or_drain.clone());
        others.push(("gateway", shard.spawn(async move { or_drain(service::run(on, editions).await) })));
    }
    if let Some((image, _)) = started.image {
        let (on, or_drain) = (shard.clone(), or_drain.clone());
        others.push(("image service", shard.spawn(async move { or_drain(image.run(on).await) })));
    }
    let mut ended = match started.chat {
        Some(chat) => or_drain(serve::run(shard.clone(), chat).await),
        None => Ok(()),
    };
    for (name, other) in others {
        let other = other.await.unwrap_or_else(|_| Err(format!("the {name} ended by a panic")));
        ended = ended.and(other);
    }
    ended
}

/// Looks at this machine and at servers; whether all is well.
fn doctor(args: &Args) -> Result<(), String> {
    let mut doctor = Doctor::new(&args.redis, &args.postgres);
    if args.config.is_some() {
        doctor.add(&Config::load(args)?);
    }
    match doctor.run() {
        true => Ok(()),
        false => Err("something has to be changed: see the lines that begin with \"no\"".to_owned()),
    }
}
