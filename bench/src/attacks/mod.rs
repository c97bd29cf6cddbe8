//! Attacks on the running services, one after the other, each with the promise that bounds it: what was sent, how it was answered,
//! what it cost in memory and processor time, and what others noticed.
//!
//! ```text
//!   attacker (bytes, or requests by hand) ──► annulus ──► shop, spy, hostile service
//!   witness  (well-behaved, steady rate)  ──►    │
//!                                                └── watch: memory, processor time, descriptors
//! ```
//!
//! | file | noun |
//! |---|---|
//! | `siege`, `wire`, `frames` | attacks by bytes at a rate; shared with the gateway's own case |
//! | `raw`, `socket` | requests and WebSockets by hand, and all that is answered |
//! | `forge`, `bombs` | tokens that nobody should believe; small inputs that say they are large |
//! | `spy` | a server that remembers what it was asked |
//! | `stage` | the services as they are attacked; `witness`, `watch`, `finding`: what is seen, and the verdict |
//! | `gateway`, `chat`, `image` | the attacks, and below them `answers`: those whose verdict is one |
//! | `tables`, `smuggling` | what several services are asked |

mod bombs;
mod chat;
mod finding;
mod forge;
pub(crate) mod frames;
mod gateway;
mod image;
pub(crate) mod raw;
pub(crate) mod siege;
mod smuggling;
mod socket;
mod spy;
mod stage;
mod tables;
mod watch;
pub(crate) mod wire;
mod witness;

use crate::process::sum_counter;
use crate::record::Record;
use finding::{Finding, Service, Told};
use siege::{Attacker, Ledger, Plan};
use stage::{Stage, Yard};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use watch::Watch;
use witness::{Heard, Witness};

/// Well-behaved clients, and their requests per second in all.
const CLIENTS: usize = 4;
const RATE: f64 = 60.0;
/// The calm before each attack, as a share of it, and at least so long, in seconds.
const CALM_SHARE: f64 = 0.4;
const CALM_LEAST: f64 = 0.5;
/// Answers in the calm, at least, so that there is something to compare with; and how long they are waited for.
const CALM_ANSWERS: u64 = 30;
const CALM_MAX: Duration = Duration::from_secs(10);
/// Connections of attackers that have gone have so long to be closed: an end that lingers takes two seconds.
const CLOSING_MAX: Duration = Duration::from_secs(5);
/// Looks at one attack.
const LOOKS_MAX: usize = 3;
/// Others who wait when an attack ends have so long to be answered.
const LAST_ANSWERS: Duration = Duration::from_millis(200);

/// What an attack does: to a stage, for so long.
type Act = Box<dyn Fn(&Stage<'_>, Duration) -> Result<Told, String>>;

/// An attack.
pub struct Attack {
    service: Service,
    name: &'static str,
    /// What bounds it, and where that is said.
    promise: &'static str,
    /// MB by which memory may grow.
    memory_mb: f64,
    /// Processor seconds per second that it may cost.
    cpu: f64,
    /// How long it takes at least until its promise is due.
    seconds_least: f64,
    act: Act,
}

/// What is run.
#[derive(Clone, Debug)]
pub struct Choice {
    /// Words, one of which must be in an attack's service and name; all attacks when there are none.
    pub only: Vec<String>,
    /// Seconds of each attack, unless its promise takes longer.
    pub seconds: f64,
}

impl Choice {
    fn takes(&self, attack: &Attack) -> bool {
        let name = format!("{} {}", attack.service.name(), attack.name).to_lowercase();
        self.only.is_empty() || self.only.iter().any(|only| name.contains(&only.to_lowercase()))
    }
}

/// What was found: the table, rows for reports, and whether every promise held.
pub struct Findings {
    /// The table as text.
    pub text: String,
    /// For the reports that everything here has.
    pub record: Record,
    /// Attacks whose promise was broken.
    pub broken: usize,
}

/// Runs the attacks.
///
/// # Errors
/// A sentence: a service could not be started, or no attack is called so.
pub fn run(choice: &Choice) -> Result<Findings, String> {
    let attacks: Vec<Attack> = gateway::attacks().into_iter().chain(chat::attacks()).chain(image::attacks()).collect();
    let chosen: Vec<&Attack> = attacks.iter().filter(|attack| choice.takes(attack)).collect();
    if chosen.is_empty() {
        let names: Vec<String> =
            attacks.iter().map(|attack| format!("{} {}", attack.service.name(), attack.name)).collect();
        return Err(format!("no attack is called {}; there are: {}", choice.only.join(", "), names.join(", ")));
    }
    let yard = Yard::new()?;
    let (mut text, mut rows, mut broken, mut held) = (String::new(), Vec::new(), 0, 0);
    for attack in chosen {
        eprintln!("  {}: {}", attack.service.name(), attack.name);
        let finding = match looked_at(attack, &yard, choice.seconds) {
            Ok(finding) => finding,
            // It has shown nothing, and the others have not been heard yet.
            Err(why) => {
                let (text_of, row) = finding::not_done(attack.service, attack.name, attack.promise, &why);
                eprintln!("    BROKEN: {why}");
                (text, broken) = (text + &text_of, broken + 1);
                rows.push(row);
                continue;
            }
        };
        for why in finding.broken() {
            eprintln!("    BROKEN: {why}");
        }
        *if finding.broken().is_empty() { &mut held } else { &mut broken } += 1;
        text += &finding.text();
        rows.extend(finding.rows());
    }
    text += &format!("{held} promises held, {broken} broken\n");
    Ok(Findings { text, record: Record { rows, ..Record::default() }, broken })
}

/// One attack, and again where it may have been the machine: what an attack does comes every time.
fn looked_at(attack: &Attack, yard: &Yard, seconds: f64) -> Result<Finding, String> {
    let mut finding = besieged(attack, yard, seconds)?;
    for _ in 1..LOOKS_MAX {
        if !finding.may_be_noise() {
            break;
        }
        finding = besieged(attack, yard, seconds)?;
    }
    Ok(finding)
}

/// One attack on a service that has just been started.
fn besieged(attack: &Attack, yard: &Yard, seconds: f64) -> Result<Finding, String> {
    let stage = Stage::start(attack.service, yard)?;
    yard.spy.take();
    yard.secret.take();
    let witness = Witness::start(RATE, stage.clients(CLIENTS));
    std::thread::sleep(Duration::from_secs_f64((seconds * CALM_SHARE).max(CALM_LEAST)));
    let calm = calm(&witness);
    let stalls = stalls(stage.address);
    let connections = watch::connections(stage.address.port());
    let gone = |why: String| format!("the service is gone, which no attack may bring about ({why})");
    let watch = Watch::start(stage.pid).map_err(gone)?;
    let (began, during) = (Instant::now(), Duration::from_secs_f64(seconds.max(attack.seconds_least)));
    let told = (attack.act)(&stage, during)?;
    // A table of requests may be through sooner than others have had a say.
    std::thread::sleep(Duration::from_secs_f64(CALM_LEAST).saturating_sub(began.elapsed()));
    let used = watch.end().map_err(gone)?;
    std::thread::sleep(LAST_ANSWERS);
    let meanwhile = witness.take();
    let left = connections_left(stage.address.port(), connections);
    Ok(Finding {
        service: attack.service,
        attack: attack.name,
        promise: attack.promise,
        memory_mb: attack.memory_mb,
        cpu: attack.cpu,
        told,
        used,
        stalled: self::stalls(stage.address) > stalls,
        left,
        others: (calm, meanwhile),
    })
}

/// What was heard before an attack.
fn calm(witness: &Witness) -> Heard {
    let (began, mut calm) = (Instant::now(), witness.take());
    while calm.latency.len() < CALM_ANSWERS && began.elapsed() < CALM_MAX {
        std::thread::sleep(Duration::from_millis(50));
        calm.add(&witness.take());
    }
    calm
}

/// Turns that took too long and were reported, so far.
fn stalls(address: SocketAddr) -> f64 {
    let page = raw::ask(address, &raw::request("GET", "/metrics", "Connection: close\r\n", b"")).unwrap_or_default();
    sum_counter(&String::from_utf8_lossy(&page.body), "annulus_stalls_total").unwrap_or_default()
}

/// Connections beyond those before, once what attackers had is closed.
fn connections_left(port: u16, before: usize) -> usize {
    let began = Instant::now();
    loop {
        let left = watch::connections(port).saturating_sub(before);
        if left <= finding::LEFT_MOST || began.elapsed() > CLOSING_MAX {
            return left;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// An attack by bytes, and what of its ledger would break the promise.
fn siege(plan: impl Fn(&Stage<'_>) -> Plan + 'static, judge: impl Fn(&Ledger) -> Option<String> + 'static) -> Act {
    Box::new(move |stage, during| besiege(stage, plan(stage), during, &judge))
}

/// Carries a siege out.
fn besiege(
    stage: &Stage<'_>,
    plan: Plan,
    during: Duration,
    judge: &dyn Fn(&Ledger) -> Option<String>,
) -> Result<Told, String> {
    let attacker = Attacker::start(plan, stage.address);
    std::thread::sleep(during);
    let ledger = attacker.end()?;
    Ok(Told {
        count: if ledger.connections == 0 { 0 } else { ledger.units },
        sent: format!("{} units on {} connections", ledger.units, ledger.connections),
        answers: ledger.answers(),
        wrong: judge(&ledger).into_iter().collect(),
    })
}

/// Somebody must have been sent away, by this.
fn ended_by(how: &'static str) -> impl Fn(&Ledger) -> Option<String> {
    move |ledger| match ledger.ended.keys().any(|key| key.starts_with(how)) {
        true => None,
        false => Some(format!("nobody was sent away by {how}")),
    }
}

/// Whatever becomes of it, as long as bounds hold.
fn anyhow(_: &Ledger) -> Option<String> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attacks_have_names_of_their_own_promises_and_bounds() {
        let attacks: Vec<Attack> =
            gateway::attacks().into_iter().chain(chat::attacks()).chain(image::attacks()).collect();
        let mut names: Vec<(&str, &str)> = attacks.iter().map(|attack| (attack.service.name(), attack.name)).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert!(names.len() == count && count > 60, "{count}");
        for attack in &attacks {
            assert!(attack.promise.len() > 10 && attack.memory_mb > 0.0 && attack.cpu > 0.0, "{}", attack.name);
        }
    }

    #[test]
    fn attacks_are_chosen_by_words_of_their_names() {
        let attacks = chat::attacks();
        let chosen = |only: &str| {
            let choice = Choice { only: vec![only.to_owned()], seconds: 1.0 };
            attacks.iter().filter(|attack| choice.takes(attack)).count()
        };
        assert_eq!((chosen("Chat"), chosen("nothing of the kind")), (attacks.len(), 0));
        assert!(chosen("tokens") >= 1 && chosen("tokens") < attacks.len());
    }

    #[test]
    fn a_siege_that_nobody_ends_breaks_a_promise_to_end_it() {
        let mut ledger = Ledger::default();
        assert!(ended_by("status 408")(&ledger).is_some());
        ledger.end("status 408".to_owned(), 3);
        assert_eq!(ended_by("status 408")(&ledger), None);
    }
}
