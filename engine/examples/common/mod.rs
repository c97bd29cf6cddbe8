//! What the example servers share: an address to listen on, and an end in good order.

use std::future::Future;
use std::process::ExitCode;

use annulus_engine::error::explain_listen;
use annulus_engine::signals::{Signal, Signals};
use annulus_engine::{Address, Builder, ListenOptions, Listener, Shard};

/// Runs `serve` on every shard, each with a listener on the address that the command line names, or on `default`. The first
/// SIGINT or SIGTERM drains the engine; a second ends the process.
pub fn serve_on<F>(
    engine: Builder,
    default: &str,
    serve: impl Fn(Shard, Listener) -> F + Send + Sync + 'static,
) -> ExitCode
where
    F: Future<Output = ()> + 'static,
{
    let word = std::env::args().nth(1).unwrap_or_else(|| default.to_owned());
    match word.parse() {
        Ok(address) => match run(engine, Address::Ip(address), serve) {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => {
                eprintln!("{why}");
                ExitCode::FAILURE
            }
        },
        Err(_) => {
            eprintln!("{word}: expected an address to listen on, as in {default}");
            ExitCode::from(2)
        }
    }
}

fn run<F>(
    engine: Builder,
    address: Address,
    serve: impl Fn(Shard, Listener) -> F + Send + Sync + 'static,
) -> Result<(), String>
where
    F: Future<Output = ()> + 'static,
{
    // Before any thread starts: they inherit that signals are blocked.
    let signals = Signals::block().map_err(|error| format!("signals cannot be blocked: {error}"))?;
    let main = move |shard: Shard| {
        let listener = shard.listen(&address, &ListenOptions::default());
        let listener = listener.map_err(|error| explain_listen(&address, &error));
        let serving = listener.map(|listener| {
            if shard.index() == 0 {
                println!("listening on {}, {} shards", listener.address(), shard.count());
            }
            serve(shard.clone(), listener)
        });
        async move {
            match serving {
                Ok(serving) => {
                    serving.await;
                    Ok(())
                }
                Err(why) => {
                    // The others would serve on without us.
                    shard.drain();
                    Err(why)
                }
            }
        }
    };
    let running = engine.start(main).map_err(|error| error.to_string())?;
    let engine = running.engine().clone();
    let listening = signals.listen(move |signal| {
        if signal == Signal::Drain {
            engine.drain();
        }
    });
    listening.map_err(|error| format!("signals cannot be taken: {error}"))?;
    running.wait().map_err(|error| error.to_string())?.into_iter().collect()
}
