//! `annulus run`, `chat`, `gateway` and `image`: one engine, and the services on its shards, until the process is asked to stop.
//!
//! | file | noun |
//! |---|---|
//! | `places.rs` | the addresses that are listened on, and their sockets, opened before the process becomes somebody else |
//! | `edition.rs` | the gateway's file, or what there is without one |
//! | `services.rs` | what runs on every shard |
//! | `succession.rs` | taking over from the process before, and being replaced in turn |

mod edition;
mod places;
mod services;
mod succession;

use std::path::Path;
use std::sync::Arc;

use annulus_engine::plan::{Grants, Plan, Request};
use annulus_engine::signals::{Signal, Signals};
use annulus_engine::{Builder, Engine, ListeningSocket, Shard, raise_file_limit};

use self::edition::load;
pub use self::edition::source;
use self::places::{Place, console_at, places};
use self::services::{Started, services};
use self::succession::{Taken, lock, when_all_listen};
use super::words::Words;
use super::{Ended, Trouble};
use crate::args::{Args, Command};
use crate::chat::hub::SHARDS_MAX;
use crate::chat::node::Node;
use crate::config::Config;
use crate::console::{Console, stall_names};
use crate::doctor::capacity;
use crate::gateway::config::Gateway;
use crate::gateway::reload::{Dates, Editions, Loaded, Source};
use crate::image::service::{Image, plan};
use crate::journal::{self, Form};
use crate::process::handover::{Handover, Takeover};
use crate::process::needs::Needs;
use crate::process::supervisor::Supervisor;
use crate::process::user::User;
use crate::process::walls;

/// `annulus run`.
pub fn run_all(words: &Words) -> Ended {
    serve(&read(Command::Run, words)?)
}

/// `annulus chat`.
pub fn chat(words: &Words) -> Ended {
    serve(&read(Command::Chat, words)?)
}

/// `annulus gateway`.
pub fn gateway(words: &Words) -> Ended {
    let args = read(Command::Gateway, words)?;
    if args.print_config || args.print_openapi { super::check::of_gateway(&args) } else { serve(&args) }
}

/// `annulus image`.
pub fn image(words: &Words) -> Ended {
    let args = read(Command::Image, words)?;
    if !args.plan {
        return serve(&args);
    }
    let config = Config::load(&args)?;
    crate::answer!("{}", plan(&config.image, args.measure.as_deref())?);
    Ok(true)
}

fn read(command: Command, words: &Words) -> Result<Args, Trouble> {
    let args = Args::of(command, words).map_err(Trouble::Words)?;
    let told = std::env::var(journal::VARIABLE).ok().filter(|form| !form.is_empty());
    let told = told.map(|form| form.parse::<Form>()).transpose();
    let told = told.map_err(|error| Trouble::Words(format!("{}: {error}", journal::VARIABLE)))?;
    journal::choose(args.log.or(told).unwrap_or(Form::Text));
    Ok(args)
}

/// Runs the services until the process is asked to stop. Who was to be replaced hears of it where that fails.
fn serve(args: &Args) -> Ended {
    let config = Config::load(args)?;
    let user = config.user.as_deref().map(User::find).transpose()?;
    let taken = match &config.handover {
        Some(path) => Takeover::ask(path, args.command.name(), user.as_ref())?,
        None => None,
    };
    let taken = Taken::new(std::sync::Mutex::new(taken));
    let mut ended = serve_all(config, args, user.as_ref(), &taken);
    if let Some(takeover) = lock(&taken).take() {
        // Who was asked to end before being ready has not failed; who was late has.
        ended = ended.and_then(|()| takeover.in_time());
        if let Err(why) = &ended {
            takeover.failed(why);
        }
    }
    ended.map(|()| true).map_err(Trouble::Failed)
}

/// From the first look at the machine to the last word. The order is the point: ports while the process may still open them,
/// then the user that it becomes, then the walls, then the first thread.
fn serve_all(config: Config, args: &Args, user: Option<&User>, taken: &Taken) -> Result<(), String> {
    let files = raise_file_limit().map_err(|error| format!("the limit of open files cannot be read: {error}"))?;
    let signals = Signals::block().map_err(|error| format!("signals cannot be blocked: {error}"))?;
    let (builder, cores) = engine(&config, args.command);
    let shards = cores.shards.len().min(SHARDS_MAX);
    let source = source(args);
    // Read once: what is asked of the machine is what is then served.
    let loaded = load(args.command, source.as_ref())?;
    let places = places(&config, args.command, loaded.as_ref().map(Loaded::gateway));
    let supervisor = Supervisor::find(shards);
    let sockets = become_somebody(user, taken, &places, shards)?;
    // Beyond this line is the first thread, and nothing more can be opened than what the configuration names.
    let needs = needs(&config, args, source.as_ref(), loaded.as_ref().map(Loaded::gateway));
    needs.make_folders()?;
    let handover = config.handover.as_deref().map(Handover::open).transpose()?;
    let walls = config.walls;
    let paths = walls.shut_paths(&needs)?;
    let (edition, dates) = loaded.map(Loaded::open).transpose()?.unzip();
    release(&config, args.command, taken)?;
    let started = start(config, args.command, edition.map(Editions::new), &cores, shards, supervisor.clone())?;
    let on_shards = started.clone();
    let main = move |shard: Shard| services(shard, on_shards.clone());
    let running = builder.start_with(sockets, main).map_err(|error| error.to_string())?;
    let rings = walls.see_rings(running.engine().rings_restricted())?;
    // A console takes profiles.
    let calls = walls.shut_calls(started.console.is_some())?;
    if let Some(console) = &started.console {
        console.watch(running.engine(), format!("annulus {}", args.command.name()), started.clone());
    }
    crate::say!("{}", running.engine().plan());
    crate::say!("{}", capacity(files));
    crate::say!("walls: {}", walls::describe(&paths, &calls, &rings));
    when_all_listen(running.engine(), places, handover.clone(), taken.clone(), supervisor, args.command)?;
    listen(signals, running.engine(), &started, source, dates.unwrap_or_default(), handover.clone())?;
    let shards = running.wait().map_err(|error| error.to_string());
    if let Some(console) = started.console {
        console.stop();
    }
    if let Some(image) = started.image {
        image.stop();
    }
    if let Some(handover) = handover {
        handover.finish();
    }
    shards?.into_iter().find_map(Result::err).map_or(Ok(()), Err)
}

/// The engine as it is asked for, and who gets which core. All cores are the shards'. The gateway's large answers and the
/// chat's signatures are rare: their thread gets the time that a shard has left.
fn engine(config: &Config, command: Command) -> (Builder, Plan) {
    let asked = Request { pin: config.pin.clone(), shards: config.shards, compute: Some(0), ..Request::default() };
    let cores = Plan::new(&Grants::of_this_process(), &asked);
    let compute = usize::from(command.has_gateway() || command.has_chat());
    let shards = cores.shards.len().min(SHARDS_MAX);
    let builder = Engine::builder().cores(config.pin.clone()).driver(config.driver).shards(shards).compute(compute);
    (builder.stall_names(stall_names), cores)
}

/// Takes the sockets of the process before, opens those that it does not have, and becomes the user that is to serve. Sockets are
/// opened here while that is still allowed, and while an address that cannot be had ends nobody but this process; where there is
/// neither a user to become nor a process before, shards open theirs themselves.
fn become_somebody(
    user: Option<&User>,
    taken: &Taken,
    places: &[Place],
    shards: usize,
) -> Result<Vec<ListeningSocket>, String> {
    let given = lock(taken).as_mut().map(Takeover::take_sockets);
    let opens_early = user.is_some() || given.is_some();
    let mut sockets = given.unwrap_or_default();
    let missing: Vec<&Place> = places.iter().filter(|place| opens_early && !place.is_among(&sockets)).collect();
    for place in missing {
        sockets.extend(place.open(shards)?);
    }
    user.map(User::become_it).transpose()?;
    Ok(sockets)
}

/// What of the machine is needed.
fn needs(config: &Config, args: &Args, source: Option<&Source>, gateway: Option<&Gateway>) -> Needs {
    let mut needs = Needs::new();
    if args.command.has_chat() {
        needs.add_chat(&config.chat);
    }
    if args.command.has_image() {
        needs.add_image(&config.image);
    }
    if let Some(gateway) = gateway {
        needs.add_gateway(gateway);
    }
    let files: [Option<&Path>; 2] = [args.config.as_deref(), source.map(|source| source.path.as_path())];
    needs.add_process(config.handover.as_deref(), console_at(config, args.command), &files);
    needs
}

/// Has the process before end. What has one writer can only be opened then, and there is no way back: so everything else is
/// looked at first.
fn release(config: &Config, command: Command, taken: &Taken) -> Result<(), String> {
    if let Some(takeover) = lock(taken).as_mut().filter(|_| command.has_chat() || command.has_image()) {
        command.has_chat().then(|| Node::check(&config.chat)).transpose()?;
        command.has_image().then(|| Image::check(&config.image)).transpose()?;
        takeover.release()?;
    }
    Ok(())
}

/// What the shards are given.
fn start(
    config: Config,
    command: Command,
    editions: Option<Arc<Editions>>,
    cores: &Plan,
    shards: usize,
    supervisor: Option<Arc<Supervisor>>,
) -> Result<Started, String> {
    // Before the shards: its workers are children of this process, and what it finds in its queue waits already.
    let image = command.has_image().then(|| Image::start(config.image, cores)).transpose()?;
    let chat = command.has_chat().then(|| Node::open(config.chat, shards)).transpose()?;
    let console = config.console.or_default(command == Command::Run).map(Console::new);
    Ok(Started { chat, gateway: editions, image, console, supervisor })
}

/// Drains when asked to, and reads again what may have changed.
fn listen(
    signals: Signals,
    engine: &Engine,
    started: &Started,
    source: Option<Source>,
    dates: Dates,
    leaving: Option<Arc<Handover>>,
) -> Result<(), String> {
    let (engine, chat, editions) = (engine.clone(), started.chat.clone(), started.gateway.clone());
    if let (Some(source), Some(editions)) = (source.clone(), editions.clone()) {
        source.watch(editions, dates).map_err(|error| format!("the gateway's file cannot be watched: {error}"))?;
    }
    let listening = signals.listen(move |signal| match signal {
        Signal::Drain => {
            leaving.iter().for_each(|handover| handover.withdraw());
            engine.drain();
        }
        Signal::Reload => {
            chat.iter().for_each(|chat| chat.reload());
            if let (Some(source), Some(editions)) = (&source, &editions) {
                let _the_watch_has_its_own_dates = source.reload(editions);
            }
        }
        Signal::User1 => {}
    });
    listening.map_err(|error| format!("the thread for signals cannot start: {error}"))
}
