//! Broken files for tests of decoders: what strangers send, in the small.

use std::time::{Duration, Instant};

use crate::fault::Fault;

/// The time that a test may take, whatever the machine.
const TIME_MAX: Duration = Duration::from_secs(20);

/// Tries `rounds` mutations of the files in turn and counts those that were decoded and those that were refused. Stops
/// early, but not before a thousand, when time is over.
pub fn run(files: &[Vec<u8>], rounds: u64, mut decode: impl FnMut(&[u8]) -> Result<(), Fault>) -> (u64, u64) {
    let (mut made, mut refused) = (0, 0);
    let start = Instant::now();
    let mut random = Random(9);
    for round in 0..rounds {
        let mutated = mutate(&files[round as usize % files.len()], &mut random);
        match decode(&mutated) {
            Ok(()) => made += 1,
            Err(fault) => {
                assert!(!fault.is_transient() && !fault.detail.is_empty(), "{fault:?}");
                refused += 1;
            }
        }
        if round >= 1000 && start.elapsed() > TIME_MAX {
            break;
        }
    }
    (made, refused)
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound.max(1)
    }
}

/// A few bytes changed, dropped or added, or the end cut off. The first four, which say what it is, stay.
fn mutate(file: &[u8], random: &mut Random) -> Vec<u8> {
    let mut mutated = file.to_vec();
    for _ in 0..=random.below(4) {
        let at = 4 + random.below(mutated.len().saturating_sub(5));
        if at >= mutated.len() {
            break;
        }
        match random.below(6) {
            0 => mutated[at] = [0, 1, 0x7F, 0x80, 0xFF][random.below(5)],
            1 | 2 => mutated[at] ^= 1 << random.below(8),
            3 => drop(mutated.drain(at..(at + 1 + random.below(20)).min(mutated.len()))),
            4 => drop(mutated.splice(at..at, std::iter::repeat_n(random.below(256) as u8, 1 + random.below(20)))),
            _ if random.below(4) == 0 => mutated.truncate(at),
            _ => mutated[at] = random.below(256) as u8,
        }
    }
    mutated
}
