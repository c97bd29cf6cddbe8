//! Names for addresses of this very process, for those who have them from elsewhere: a watchdog's, a panic's.

use crate::events::Mapped;
use crate::frame::Frame;
use crate::module::Modules;
use crate::short::short;
use crate::symbols::{Helper, Names};
use crate::target;

/// The functions at the addresses of a stack, innermost first, inlined ones too. All but the first are where calls return to.
/// What lies outside of the standard library's mark for the beginning of a thread is left out.
pub fn names_of(addresses: &[u64], helper: Option<&Helper>) -> Vec<String> {
    let own = std::process::id().cast_signed();
    let maps = target::maps(own).unwrap_or_default();
    let mut modules = Modules::default();
    let mut frame = |(at, &address): (usize, &u64)| {
        // The call is before the place where it returns to, which may be the next function's.
        let address = address.saturating_sub(u64::from(at > 0));
        let holds = |mapped: &&Mapped| (mapped.start..mapped.end).contains(&address);
        let mapped = maps.iter().find(holds)?;
        Some(Frame::module(modules.number(own, mapped)?, address - mapped.start + mapped.offset))
    };
    let frames: Vec<Option<Frame>> = addresses.iter().enumerate().map(&mut frame).collect();
    let mut names = Names::default();
    names.look_up(modules.all(), frames.iter().flatten().copied(), helper);
    let of = |(frame, address): (Option<Frame>, &u64)| match frame {
        Some(frame) => names.of(frame).iter().rev().map(|name| short(name).into_owned()).collect(),
        None => vec![format!("{address:#x}")],
    };
    let functions = frames.into_iter().zip(addresses).flat_map(of);
    functions.take_while(|function| !function.contains("__rust_begin_short_backtrace")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_this_process_have_names() {
        let place = target::maps as fn(i32) -> _ as *const () as u64;
        // A place that calls return to, at the very beginning of a function, belongs to the one before.
        let names = names_of(&[place, place + 1, 1], None);
        assert!(names[0].contains("maps") && names[1].contains("maps"), "{names:?}");
        assert_eq!(names.last().map(String::as_str), Some("0x1"));
    }
}
