//! Commands that are done elsewhere: what of their words is handed on, and what becomes of their answers.

use super::words::Words;
use super::{Ended, Trouble};
use crate::args::{Args, Command};
use crate::chat::offline::Offline;
use crate::config::Config;
use crate::doctor::Doctor;
use crate::fetch::Fetch;
use crate::image::process::Process;
use crate::image::variants::sign::Sign;
use crate::journal::{self, Form};

/// `annulus version`.
pub fn version(_words: &Words) -> Ended {
    crate::answer!("annulus {}", env!("CARGO_PKG_VERSION"));
    Ok(true)
}

/// `annulus doctor`: looks at this machine and at servers; whether all is well.
pub fn doctor(words: &Words) -> Ended {
    if words.has("--json") {
        // What links to servers say of their trouble is no part of the answer.
        journal::choose(Form::Json);
    }
    let mut doctor = Doctor::default();
    words.values("--redis").for_each(|url| doctor.add_redis(url));
    words.values("--postgres").for_each(|url| doctor.add_postgres(url));
    words.values("--s3").for_each(|url| doctor.add_store(url));
    let args = Args::of(Command::Doctor, words).map_err(Trouble::Words)?;
    if args.config.is_some() {
        doctor.add(&Config::load(&args)?);
    }
    Ok(if words.has("--json") { doctor.run_for_machines() } else { doctor.run() })
}

/// `annulus fetch`: asks servers.
pub fn fetch(words: &Words) -> Ended {
    let fetch = Fetch::read(words).map_err(Trouble::Words)?;
    Ok(fetch.run()?)
}

/// `annulus image process`: makes outputs of images.
pub fn process(words: &Words) -> Ended {
    Ok(Process::read(words)?.run())
}

/// `annulus image sign`: signs the address of a variant.
pub fn sign(words: &Words) -> Ended {
    let sign = Sign::read(words).map_err(Trouble::Words)?;
    let args = Args { config: sign.config.clone(), ..Args::new(Command::Image) };
    let mut config = Config::load(&args)?;
    if sign.config.is_none() {
        // Nothing but the environment says anything of keys.
        let variants = config.image.variants.get_or_insert_default();
        variants.settle(&|name| std::env::var(name).ok())?;
    }
    let address = sign.run(&config.image)?;
    crate::answer!("{address}");
    Ok(true)
}

/// `annulus chat verify-log`.
pub fn verify_log(words: &Words) -> Ended {
    Ok(Offline::verify(words).map_err(Trouble::Words)?.run()?)
}

/// `annulus chat export`.
pub fn export(words: &Words) -> Ended {
    Ok(Offline::export(words).map_err(Trouble::Words)?.run()?)
}
