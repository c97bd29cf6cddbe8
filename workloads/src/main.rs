//! The binary: reads the command line and the configuration, starts one engine, and runs the services on its shards.

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

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
use annulus::process::handover::{Handover, Takeover};
use annulus::process::needs::Needs;
use annulus::process::supervisor::Supervisor;
use annulus::process::user::User;
use annulus_engine::plan::{Grants, Plan, Request};
use annulus_engine::signals::{Signal, Signals};
use annulus_engine::{Address, Engine, ListeningSocket, Shard, SocketOptions, raise_file_limit};

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

/// How often it is looked whether all shards listen.
const READY_LOOK: Duration = Duration::from_millis(2);

/// What has been taken over from the process before, until all shards listen.
type Taken = Arc<Mutex<Option<Takeover>>>;

/// Runs the services until the process is asked to stop. Who was to be replaced hears of it where that fails.
fn run(config: Config, args: &Args) -> Result<(), String> {
    let taken = match &config.handover {
        Some(path) => Takeover::ask(path, args.command.name())?,
        None => None,
    };
    let taken: Taken = Arc::new(Mutex::new(taken));
    let ended = serve_all(config, args, &taken);
    if let (Err(why), Some(takeover)) = (&ended, lock(&taken).take()) {
        takeover.failed(why);
    }
    ended
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve_all(config: Config, args: &Args, taken: &Taken) -> Result<(), String> {
    let files = raise_file_limit().map_err(|error| format!("the limit of open files cannot be read: {error}"))?;
    let signals = Signals::block().map_err(|error| format!("signals cannot be blocked: {error}"))?;
    let asked = Request { pin: config.pin.clone(), shards: config.shards, compute: Some(0), ..Request::default() };
    // All cores are the shards'. The gateway's large answers and the chat's signatures are rare: their thread gets the time
    // that a shard has left.
    let cores = Plan::new(&Grants::of_this_process(), &asked);
    let shards = cores.shards.len().min(SHARDS_MAX);
    let has_gateway = matches!(args.command, Command::Run | Command::Gateway);
    let compute = usize::from(matches!(args.command, Command::Run | Command::Gateway | Command::Chat));
    let builder = Engine::builder().cores(config.pin.clone()).driver(config.driver).shards(shards).compute(compute);
    let builder = builder.stall_names(stall_names);
    let source = source(args);
    let places = places(&config, args, source.as_ref())?;
    let supervisor = Supervisor::find(shards);
    let mut sockets = lock(taken).as_mut().map(Takeover::take_sockets).unwrap_or_default();
    if let Some(user) = config.user.as_deref().map(User::find).transpose()? {
        if sockets.is_empty() {
            for place in &places {
                sockets.extend(place.open(shards)?);
            }
        }
        user.become_it()?;
    }
    // Beyond this line is the first thread, and nothing more can be opened than what the configuration names.
    let needs = needs(&config, args, source.as_ref())?;
    needs.make_folders()?;
    let handover = config.handover.as_deref().map(Handover::open).transpose()?;
    let paths_are_shut = config.walls.shut_paths(&needs)?;
    let (editions, dates) = match (has_gateway, &source) {
        (false, _) => (None, Vec::new()),
        (true, Some(source)) => {
            let (edition, dates) = source.read()?;
            (Some(Editions::new(edition)), dates)
        }
        (true, None) => (Some(Editions::new(Edition::load(built_in()?)?)), Vec::new()),
    };
    let (has_chat, has_image) =
        (matches!(args.command, Command::Run | Command::Chat), matches!(args.command, Command::Run | Command::Image));
    // What has one writer can only be opened when the process before has ended, and then there is no way back: so everything else
    // is looked at first.
    if let Some(takeover) = lock(taken).as_mut().filter(|_| has_chat || has_image) {
        has_chat.then(|| Node::check(&config.chat)).transpose()?;
        has_image.then(|| Image::check(&config.image)).transpose()?;
        takeover.release()?;
    }
    let image_address = config.image.listen;
    // Before the shards: its workers are children of this process, and what it finds in its queue waits already.
    let image = has_image.then(|| Image::start(config.image, &cores)).transpose()?;
    let chat = has_chat.then(|| Node::open(config.chat, shards)).transpose()?;
    let profiles = config.console.listen.is_some() || args.command == Command::Run;
    let console = config.console.or_default(args.command == Command::Run).map(Console::new);
    let started = Started {
        chat: chat.clone(),
        gateway: editions.clone(),
        image: image.clone().map(|image| (image, image_address)),
        console: console.clone(),
        supervisor: supervisor.clone(),
    };
    let main = move |shard: Shard| services(shard, started.clone());
    let running = builder.start_with(sockets, main).map_err(|error| error.to_string())?;
    let calls_are_shut = config.walls.shut_calls(profiles)?;
    if let Some(console) = &console {
        console.watch();
    }
    annulus::say!("{}", running.engine().plan());
    annulus::say!("{}", capacity(files));
    match (paths_are_shut, calls_are_shut) {
        (false, false) => annulus::say!("walls: none"),
        (paths, calls) => annulus::say!("walls: landlock {}, seccomp {}", stands(paths), stands(calls)),
    }
    let engine = running.engine().clone();
    when_all_listen(&engine, places, handover.clone(), taken.clone(), supervisor, args.command)?;
    let leaving = handover.clone();
    if let (Some(source), Some(editions)) = (source.clone(), editions.clone()) {
        source.watch(editions, dates).map_err(|error| format!("the gateway's file cannot be watched: {error}"))?;
    }
    let listening = signals.listen(move |signal| match (signal, &source, &editions) {
        _ if signal == Signal::Reload && reload_chat(chat.as_deref()) && source.is_none() => {}
        (Signal::Drain, _, _) => {
            leaving.iter().for_each(|handover| handover.withdraw());
            engine.drain();
        }
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
    if let Some(handover) = handover {
        handover.finish();
    }
    let shards = shards?;
    shards.into_iter().find_map(Result::err).map_or(Ok(()), Err)
}

fn stands(wall: bool) -> &'static str {
    if wall { "stands" } else { "is not offered here" }
}

/// An address that shards listen on.
struct Place {
    address: Address,
    /// Each shard has a socket of its own there.
    shared: bool,
}

impl Place {
    fn at(address: SocketAddr, shared: bool) -> Place {
        Place { address: Address::Ip(address), shared }
    }

    /// Opens its sockets before the shards do, for somebody who could not.
    fn open(&self, shards: usize) -> Result<Vec<ListeningSocket>, String> {
        let cannot = |error: std::io::Error| annulus_engine::error::explain_listen(&self.address, &error);
        let options = SocketOptions::default();
        if !self.shared || shards == 1 {
            return Ok(vec![ListeningSocket::open(&self.address, &options).map_err(cannot)?]);
        }
        // Whether somebody else has the port is only seen by one that shares it with nobody.
        drop(ListeningSocket::open(&self.address, &options).map_err(cannot)?);
        let options = SocketOptions { reuse_port: true, ..options };
        (0..shards).map(|_| ListeningSocket::open(&self.address, &options).map_err(cannot)).collect()
    }
}

/// Where it is listened.
fn places(config: &Config, args: &Args, source: Option<&Source>) -> Result<Vec<Place>, String> {
    let mut places = Vec::new();
    if matches!(args.command, Command::Run | Command::Chat) {
        places.push(Place::at(config.chat.listen, config.chat.listen.port() != 0));
    }
    if matches!(args.command, Command::Run | Command::Image) {
        places.push(Place::at(config.image.listen, false));
    }
    if let Some(gateway) = gateway_of(args, source)? {
        places.push(Place::at(SocketAddr::new(gateway.listen.ip, gateway.listen.port), false));
    }
    let console = config.console.clone().or_default(args.command == Command::Run);
    places.extend(console.and_then(|console| console.listen).map(|listen| Place::at(listen, false)));
    Ok(places)
}

/// What the gateway's file says, if there is a gateway.
fn gateway_of(args: &Args, source: Option<&Source>) -> Result<Option<config::Gateway>, String> {
    match source {
        _ if !matches!(args.command, Command::Run | Command::Gateway) => Ok(None),
        Some(source) => {
            let read = config::load(&source.path, &source.options);
            let lines = |problems: Vec<config::Problem>| {
                problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
            };
            read.map(|(gateway, _)| Some(gateway)).map_err(lines)
        }
        None => built_in().map(Some),
    }
}

/// What of the machine is needed.
fn needs(config: &Config, args: &Args, source: Option<&Source>) -> Result<Needs, String> {
    let mut needs = Needs::new();
    if matches!(args.command, Command::Run | Command::Chat) {
        needs.add_chat(&config.chat);
    }
    if matches!(args.command, Command::Run | Command::Image) {
        needs.add_image(&config.image);
    }
    if let Some(gateway) = gateway_of(args, source)? {
        needs.add_gateway(&gateway);
    }
    if args.command == Command::Run {
        needs.ports.push(9900);
    }
    let files: [Option<&Path>; 2] = [args.config.as_deref(), source.map(|source| source.path.as_path())];
    needs.add_process(config, &files);
    Ok(needs)
}

/// When all shards listen, takes the place of the process before, can be replaced in turn, and tells who waits for it.
fn when_all_listen(
    engine: &Engine,
    places: Vec<Place>,
    handover: Option<Arc<Handover>>,
    taken: Taken,
    supervisor: Option<Arc<Supervisor>>,
    command: Command,
) -> Result<(), String> {
    if handover.is_none() && supervisor.is_none() {
        return Ok(());
    }
    let engine = engine.clone();
    let body = move || {
        while !places.iter().all(|place| engine.listens(&place.address)) {
            std::thread::sleep(READY_LOOK);
        }
        for address in engine.give_up_sockets() {
            annulus::say!("upgrade: nobody listens at {address} any more");
        }
        if let Some(Err(sentence)) = handover.map(|handover| handover.offer(engine, command.name())) {
            annulus::say!("{sentence}");
        }
        if let Some(takeover) = lock(&taken).take() {
            takeover.ready();
        }
        if let Some(Err(sentence)) = supervisor.map(|supervisor| supervisor.ready()) {
            annulus::say!("{sentence}");
        }
    };
    let started = std::thread::Builder::new().name("ready".to_owned()).spawn(body);
    started.map(drop).map_err(|error| format!("a thread cannot start: {error}"))
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
    supervisor: Option<Arc<Supervisor>>,
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
    if let Some(supervisor) = started.supervisor {
        let on = shard.clone();
        let _until_the_end = shard.spawn(async move { supervisor.attend(&on).await });
    }
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
