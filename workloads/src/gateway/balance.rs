//! Which of a backend's hosts is asked, and which are left out for a while because they keep failing.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::Hash;
use std::rc::Rc;
use std::time::Duration;

use super::config::model::{LoadBalancing, Outlier};

/// How fast an old latency is forgotten.
const DECAY: Duration = Duration::from_secs(5);
/// What a failure counts as, so that a host that fails fast does not look fast.
const FAILURE_LATENCY: Duration = Duration::from_secs(1);

/// How a host stands to the others (RFC 2782: priority and weight).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Those of the lowest rank are asked, while one of them is well.
    pub rank: u16,
    /// The share among those of the same rank; above 0.
    pub weight: u32,
}

impl Standing {
    /// Like all others.
    pub const EQUAL: Standing = Standing { rank: 0, weight: 1 };
}

/// A host, and what is known of it.
pub struct Member<T> {
    /// What is balanced.
    pub what: T,
    standing: Cell<Standing>,
    /// Calls under way.
    pub in_flight: Cell<u32>,
    /// How long it has waited for its turn: the one with the most is next.
    credit: Cell<i64>,
    /// Recent latency in microseconds; a slow answer counts at once, a fast one by and by.
    latency_us: Cell<f64>,
    updated: Cell<Duration>,
    failures: Cell<u32>,
    ejections: Cell<u32>,
    ejected_until: Cell<Duration>,
}

impl<T> Member<T> {
    fn new(what: T, standing: Standing) -> Member<T> {
        Member {
            what,
            standing: Cell::new(standing),
            in_flight: Cell::default(),
            credit: Cell::default(),
            latency_us: Cell::default(),
            updated: Cell::default(),
            failures: Cell::default(),
            ejections: Cell::default(),
            ejected_until: Cell::default(),
        }
    }

    fn settle(&self, now: Duration, took: Duration, served: bool) {
        let sample = if served { took } else { took.max(FAILURE_LATENCY) }.as_micros() as f64;
        let passed = now.saturating_sub(self.updated.replace(now)).as_secs_f64();
        let old = self.latency_us.get();
        let keep = (-passed / DECAY.as_secs_f64()).exp();
        self.latency_us.set(if sample > old { sample } else { old * keep + sample * (1.0 - keep) });
        self.failures.set(if served { 0 } else { self.failures.get() + 1 });
        if served && now >= self.ejected_until.get() {
            self.ejections.set(0);
        }
    }

    /// Whether it is left out.
    pub fn is_ejected(&self, now: Duration) -> bool {
        now < self.ejected_until.get()
    }

    fn rank(&self) -> u16 {
        self.standing.get().rank
    }

    fn weight(&self) -> u64 {
        u64::from(self.standing.get().weight)
    }

    fn cost(&self) -> f64 {
        (self.latency_us.get() + 1.0) * f64::from(self.in_flight.get() + 1)
    }

    /// Calls under way if there were one more, as a share of what it should have.
    fn load(&self) -> f64 {
        f64::from(self.in_flight.get() + 1) / self.weight() as f64
    }

    fn eject(&self, now: Duration, outlier: &Outlier) {
        let doubled = 1u32 << self.ejections.get().min(16);
        let time = outlier.ejection_time.saturating_mul(doubled).min(outlier.ejection_time_max);
        self.ejections.set(self.ejections.get() + 1);
        self.ejected_until.set(now + time);
        self.failures.set(0);
    }
}

type Members<T> = Rc<[Rc<Member<T>>]>;

/// All hosts of a backend, on one shard.
pub struct Hosts<T> {
    members: RefCell<Members<T>>,
    turn: Cell<u64>,
}

impl<T: Clone + Eq + Hash> Hosts<T> {
    /// Of which nothing is known.
    pub fn new(list: impl IntoIterator<Item = (T, Standing)>) -> Hosts<T> {
        let hosts = Hosts { members: RefCell::new(Rc::new([])), turn: Cell::new(0) };
        hosts.renew(list);
        hosts
    }

    /// Puts others in their place. Of those that stay, what is known is kept. One that is named twice gets both shares.
    pub fn renew(&self, list: impl IntoIterator<Item = (T, Standing)>) {
        let old = self.members();
        let mut known: HashMap<&T, &Rc<Member<T>>> = old.iter().map(|member| (&member.what, member)).collect();
        let mut places: HashMap<T, usize> = HashMap::new();
        let mut members: Vec<Rc<Member<T>>> = Vec::new();
        for (what, standing) in list {
            if let Some(&place) = places.get(&what) {
                let own = &members[place].standing;
                let weight = own.get().weight.saturating_add(standing.weight);
                own.set(Standing { rank: own.get().rank.min(standing.rank), weight });
                continue;
            }
            places.insert(what.clone(), members.len());
            members.push(match known.remove(&what) {
                Some(member) => {
                    member.standing.set(standing);
                    member.clone()
                }
                None => Rc::new(Member::new(what, standing)),
            });
        }
        *self.members.borrow_mut() = members.into();
    }

    /// All of them.
    pub fn members(&self) -> Members<T> {
        self.members.borrow().clone()
    }

    /// How many are left out.
    pub fn ejected(&self, now: Duration) -> usize {
        self.members().iter().filter(|member| member.is_ejected(now)).count()
    }

    /// The host to ask, among those that are well; `None` if there is none at all. Where all are left out, they are asked all
    /// the same. While less than `panic_below` of all are well, or none is, that does not count: more likely the question is
    /// wrong than everybody unwell, and the few who are well could not bear it.
    pub fn choose(
        &self,
        now: Duration,
        balancing: LoadBalancing,
        panic_below: f64,
        is_well: impl Fn(&T) -> bool,
    ) -> Option<Rc<Member<T>>> {
        let turn = self.turn.replace(self.turn.get().wrapping_add(1));
        let members = self.members();
        let well = members.iter().filter(|member| is_well(&member.what)).count();
        let is_panic = well == 0 || (well as f64) < panic_below * members.len() as f64;
        let counts = |member: &&Rc<Member<T>>| is_panic || is_well(&member.what);
        let is_left_in = |member: &&Rc<Member<T>>| counts(member) && !member.is_ejected(now);
        let rank = members.iter().filter(is_left_in).map(|member| member.rank()).min();
        let among: Vec<&Rc<Member<T>>> = match rank {
            Some(rank) => members.iter().filter(is_left_in).filter(|member| member.rank() == rank).collect(),
            None => {
                let rank = members.iter().filter(counts).map(|member| member.rank()).min()?;
                members.iter().filter(counts).filter(|member| member.rank() == rank).collect()
            }
        };
        let chosen = match balancing {
            _ if among.len() < 2 => among.first().copied(),
            LoadBalancing::RoundRobin => by_turns(&among),
            LoadBalancing::LeastRequest => {
                // Beginning with the one whose turn it is, so that equals take turns.
                let from = turn as usize % among.len();
                let order = among[from..].iter().chain(&among[..from]);
                order.copied().min_by(|one, other| one.load().total_cmp(&other.load()))
            }
            LoadBalancing::P2cEwma => better_of_two(&among, turn),
        };
        chosen.cloned()
    }

    /// A call ended; leaves its host out where it has failed too often.
    pub fn settle(&self, now: Duration, member: &Member<T>, took: Duration, served: bool, outlier: Option<&Outlier>) {
        member.settle(now, took, served);
        let Some(outlier) = outlier.filter(|outlier| member.failures.get() >= outlier.consecutive_errors) else {
            return;
        };
        let most = (self.members().len() as f64 * outlier.ejected_max) as usize;
        if !member.is_ejected(now) && self.ejected(now) < most {
            member.eject(now, outlier);
        }
    }
}

/// In turns, by weight, and evenly mixed: each gains its weight, and the one with the most pays all of it.
fn by_turns<'a, T>(among: &[&'a Rc<Member<T>>]) -> Option<&'a Rc<Member<T>>> {
    let mut best: Option<&Rc<Member<T>>> = None;
    let mut total = 0;
    for member in among {
        let weight = member.weight() as i64;
        total += weight;
        member.credit.set(member.credit.get() + weight);
        if best.is_none_or(|best| member.credit.get() > best.credit.get()) {
            best = Some(member);
        }
    }
    let best = best?;
    best.credit.set(best.credit.get() - total);
    Some(best)
}

/// The one of lower cost, of two that are drawn by weight.
fn better_of_two<'a, T>(among: &[&'a Rc<Member<T>>], turn: u64) -> Option<&'a Rc<Member<T>>> {
    let mixed = (turn ^ 0x5851_f42d_4c95_7f2d).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let draw = |word: u64, without: Option<&'a Rc<Member<T>>>| {
        let others = among.iter().filter(|member| without.is_none_or(|without| !Rc::ptr_eq(member, without)));
        let total: u64 = others.clone().map(|member| member.weight()).sum();
        let mut left = word % total.max(1);
        others.copied().find(|member| {
            let found = left < member.weight();
            left = left.saturating_sub(member.weight());
            found
        })
    };
    let first = draw(mixed >> 17, None)?;
    let second = draw(mixed.rotate_left(29) >> 17, Some(first)).unwrap_or(first);
    Some(if first.cost() <= second.cost() { first } else { second })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTLIER: Outlier = Outlier {
        consecutive_errors: 3,
        ejection_time: Duration::from_secs(10),
        ejection_time_max: Duration::from_secs(25),
        ejected_max: 0.5,
    };

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(1000 + seconds)
    }

    fn hosts(count: usize) -> Hosts<usize> {
        Hosts::new((0..count).map(|index| (index, Standing::EQUAL)))
    }

    fn standing(rank: u16, weight: u32) -> Standing {
        Standing { rank, weight }
    }

    fn settle(hosts: &Hosts<usize>, now: Duration, index: usize, took: Duration, served: bool) {
        hosts.settle(now, &hosts.members()[index], took, served, Some(&OUTLIER));
    }

    fn fail(hosts: &Hosts<usize>, now: Duration, index: usize) {
        (0..3).for_each(|_| settle(hosts, now, index, Duration::ZERO, false));
    }

    /// Where nobody is asked whether he is well.
    fn choose(hosts: &Hosts<usize>, now: Duration, balancing: LoadBalancing) -> Option<Rc<Member<usize>>> {
        hosts.choose(now, balancing, 0.0, |_| true)
    }

    /// How often each is chosen.
    fn chosen(hosts: &Hosts<usize>, now: Duration, balancing: LoadBalancing, times: usize) -> Vec<usize> {
        let mut asked = vec![0; 1 + hosts.members().iter().map(|member| member.what).max().unwrap_or(0)];
        (0..times).for_each(|_| asked[choose(hosts, now, balancing).unwrap().what] += 1);
        asked
    }

    #[test]
    fn round_robin_is_even_and_passes_over_the_ejected() {
        let hosts = hosts(4);
        assert_eq!(chosen(&hosts, at(0), LoadBalancing::RoundRobin, 400), [100; 4]);
        fail(&hosts, at(0), 2);
        assert_eq!(hosts.ejected(at(0)), 1);
        assert_eq!(chosen(&hosts, at(1), LoadBalancing::RoundRobin, 42), [14, 14, 0, 14]);
        assert_eq!(hosts.ejected(at(11)), 0);
        assert!(choose(&self::hosts(0), at(0), LoadBalancing::RoundRobin).is_none());
    }

    #[test]
    fn ejections_grow_and_leave_a_share() {
        let hosts = hosts(4);
        (0..4).for_each(|index| fail(&hosts, at(0), index));
        assert_eq!(hosts.ejected(at(0)), 2, "half of them at most");
        fail(&hosts, at(11), 0);
        assert!(hosts.members()[0].is_ejected(at(30)) && !hosts.members()[0].is_ejected(at(32)));
        settle(&hosts, at(40), 0, Duration::ZERO, true);
        fail(&hosts, at(41), 0);
        assert!(!hosts.members()[0].is_ejected(at(52)), "one that recovered begins anew");
    }

    #[test]
    fn the_slow_and_the_busy_are_avoided() {
        let hosts = hosts(3);
        for round in 0..50 {
            for index in 0..3 {
                let took = Duration::from_millis(if index == 1 { 500 } else { 5 });
                settle(&hosts, at(round), index, took, true);
            }
        }
        let asked = chosen(&hosts, at(50), LoadBalancing::P2cEwma, 3000);
        assert_eq!(asked[1], 0, "of two the slow one never wins: {asked:?}");
        assert!(asked[0] > 1000 && asked[2] > 1000, "{asked:?}");
        hosts.members()[0].in_flight.set(5);
        assert_eq!(chosen(&hosts, at(50), LoadBalancing::LeastRequest, 10)[0], 0);
    }

    #[test]
    fn weights_are_shares_however_hosts_are_balanced() {
        let of_weights = |weights: [u32; 3]| Hosts::new((0..3).map(|index| (index, standing(1, weights[index]))));
        let hosts = of_weights([6, 3, 1]);
        assert_eq!(chosen(&hosts, at(0), LoadBalancing::RoundRobin, 1000), [600, 300, 100]);
        let first: Vec<usize> =
            (0..10).map(|_| choose(&hosts, at(0), LoadBalancing::RoundRobin).unwrap().what).collect();
        assert!(first.windows(3).all(|three| three != [0, 0, 0]), "mixed, not in blocks: {first:?}");
        let asked = chosen(&hosts, at(0), LoadBalancing::P2cEwma, 10_000);
        assert!(asked[0] > asked[1] && asked[1] > asked[2] && asked[2] > 300, "{asked:?}");
        for _ in 0..20 {
            let member = choose(&hosts, at(0), LoadBalancing::LeastRequest).unwrap();
            member.in_flight.set(member.in_flight.get() + 1);
        }
        let under_way: Vec<u32> = hosts.members().iter().map(|member| member.in_flight.get()).collect();
        assert_eq!(under_way, [12, 6, 2]);
    }

    #[test]
    fn a_higher_rank_is_asked_only_while_all_of_the_lower_are_ejected() {
        let hosts = Hosts::new([(0, standing(20, 9)), (1, standing(10, 1)), (2, standing(10, 1))]);
        assert_eq!(chosen(&hosts, at(0), LoadBalancing::RoundRobin, 10), [0, 5, 5]);
        let all = Outlier { ejected_max: 1.0, ..OUTLIER };
        let fail = |index: usize, now| {
            (0..3).for_each(|_| hosts.settle(now, &hosts.members()[index], Duration::ZERO, false, Some(&all)));
        };
        fail(1, at(0));
        assert_eq!(chosen(&hosts, at(1), LoadBalancing::LeastRequest, 10), [0, 0, 10]);
        fail(2, at(1));
        assert_eq!(chosen(&hosts, at(2), LoadBalancing::P2cEwma, 10), [10, 0, 0]);
        fail(0, at(2));
        assert_eq!(chosen(&hosts, at(3), LoadBalancing::RoundRobin, 10), [0, 5, 5], "when all fail, the first");
        assert_eq!(chosen(&hosts, at(12), LoadBalancing::RoundRobin, 10), [0, 5, 5], "back again");
    }

    #[test]
    fn who_is_not_well_is_passed_over_while_enough_are() {
        let hosts = hosts(4);
        let asked = |panic_below: f64, well: &[usize]| {
            let mut asked = [0; 4];
            for _ in 0..12 {
                let chosen = hosts.choose(at(1), LoadBalancing::RoundRobin, panic_below, |host| well.contains(host));
                asked[chosen.unwrap().what] += 1;
            }
            asked
        };
        assert_eq!(asked(0.0, &[0, 1, 2]), [4, 4, 4, 0]);
        assert_eq!(asked(0.5, &[1, 3]), [0, 6, 0, 6], "half is not below half");
        assert_eq!(asked(0.5, &[3]), [3; 4]);
        assert_eq!(asked(0.0, &[3]), [0, 0, 0, 12]);
        assert_eq!(asked(0.0, &[]), [3; 4], "never all out");
        fail(&hosts, at(0), 3);
        assert_eq!(asked(0.0, &[2, 3]), [0, 0, 12, 0], "what calls say counts, too");
        assert_eq!(asked(0.0, &[3]), [0, 0, 0, 12], "and is doubted first");
    }

    #[test]
    fn who_stays_is_known_and_who_is_named_twice_counts_twice() {
        let hosts = hosts(4);
        fail(&hosts, at(0), 1);
        hosts.renew([(1, standing(0, 1)), (3, standing(0, 1)), (3, standing(0, 2)), (7, standing(0, 1))]);
        assert_eq!(hosts.members().iter().map(|member| member.what).collect::<Vec<_>>(), [1, 3, 7]);
        assert!(hosts.members()[0].is_ejected(at(1)));
        assert_eq!(chosen(&hosts, at(1), LoadBalancing::RoundRobin, 40), [0, 0, 0, 30, 0, 0, 0, 10]);
    }
}
