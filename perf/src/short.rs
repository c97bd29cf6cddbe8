//! Functions' names without what makes them long: the types that generic functions and templates are made for.
//!
//! `catch_unwind<AssertUnwindSafe<{closure#0}>, ()>` is `catch_unwind`, and `<Box<dyn FnOnce()> as FnOnce<()>>::call_once` is
//! `<Box as FnOnce>::call_once`.

use std::borrow::Cow;

/// A name without the arguments of its types. As it is, if its brackets do not match.
pub fn short(name: &str) -> Cow<'_, str> {
    // Other brackets are marks of ours, and names that a compiler at run time gave.
    if !name.contains('<') || name.starts_with('[') {
        return Cow::Borrowed(name);
    }
    let mut short = String::with_capacity(name.len());
    // Open brackets: whether each, and all around it, is kept.
    let mut open: Vec<bool> = Vec::new();
    let mut before = ' ';
    for letter in name.chars() {
        let is_kept = open.last().copied().unwrap_or(true);
        match letter {
            // `operator<<` of C++ is a name.
            '<' | '>'
                if short.ends_with("operator") || short.ends_with("operator<") || short.ends_with("operator>") =>
            {
                short.push(letter);
            }
            '<' => {
                // At the beginning of a path it is no list of arguments: `<A as B>::c`, `<impl A for B>::c`.
                let begins = before.is_whitespace() || matches!(before, '<' | '(' | '[' | '&' | ',' | '*');
                if is_kept && !begins && short.ends_with("::") {
                    short.truncate(short.len() - "::".len());
                }
                if is_kept && begins {
                    short.push('<');
                }
                open.push(is_kept && begins);
            }
            // The arrow of a function's type.
            '>' if before == '-' && !open.is_empty() => short.extend(is_kept.then_some('>')),
            '>' => match open.pop() {
                Some(true) => short.push('>'),
                Some(false) => {}
                None => return Cow::Borrowed(name),
            },
            letter if is_kept => short.push(letter),
            _ => {}
        }
        before = letter;
    }
    if open.is_empty() && !short.is_empty() { Cow::Owned(short) } else { Cow::Borrowed(name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_of_types_are_left_out() {
        for (name, expected) in [
            ("main", "main"),
            ("catch_unwind<core::panic::AssertUnwindSafe<{closure#0}>, ()>", "catch_unwind"),
            ("std::panicking::catch_unwind::<isize, a::{closure#0}>", "std::panicking::catch_unwind"),
            (
                "<alloc::boxed::Box<dyn FnOnce<(), Output = ()> + Send> as FnOnce<()>>::call_once",
                "<alloc::boxed::Box as FnOnce>::call_once",
            ),
            (
                "<std::sys::thread::unix::Thread>::new::thread_start",
                "<std::sys::thread::unix::Thread>::new::thread_start",
            ),
            ("call<fn(u8) -> Vec<u8>>", "call"),
            ("<&mut A<B> as C>::d", "<&mut A as C>::d"),
            ("std::vector<int, std::allocator<int> >::push_back(int const&)", "std::vector::push_back(int const&)"),
            ("std::operator<< <char>(std::ostream&)", "std::operator<< <char>(std::ostream&)"),
            ("a::operator->()", "a::operator->()"),
            ("{closure#1}<a::b>", "{closure#1}"),
        ] {
            assert_eq!(short(name), expected);
        }
    }

    #[test]
    fn what_does_not_match_is_left_alone() {
        for name in ["a<b", "a>b<", "[lib<x>.so]", ""] {
            assert_eq!(short(name), name);
        }
    }
}
