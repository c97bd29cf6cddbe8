//! Random rules on any good texts: what comes out is one good text, gathered as merged, and stays one through canonical
//! form and flatmap operations. The first byte chooses rules, the rest are texts with 0xFF between them.
#![no_main]

use annulus_protocols::json::{
    Answer, Fault, Operation, Root, Rules, Shape, Value, canonical, flatmap, gather, lookup, merge, validate,
};
use libfuzzer_sys::fuzz_target;

/// A deterministic stream of choices out of one byte.
struct Choices(u32);

impl Choices {
    fn below(&mut self, bound: u32) -> u32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 16) % bound
    }

    fn path(&mut self, steps: &[&str]) -> String {
        let count = 1 + self.below(3);
        (0..count).map(|_| steps[self.below(steps.len() as u32) as usize]).collect::<Vec<_>>().join(".")
    }
}

const NAMES: &[&str] = &["a", "b", "c", "é", ""];

fn rules(choices: &mut Choices) -> Rules {
    let root = [Root::Object, Root::Any, Root::Collection][choices.below(3) as usize];
    let mut rules = Rules { root, ..Rules::default() };
    let which = choices.below(32);
    if which & 1 != 0 && choices.below(2) == 0 {
        rules.target = choices.path(NAMES);
    }
    if which & 2 != 0 {
        rules.allow = (0..3).map(|_| choices.path(NAMES)).collect();
    }
    if which & 4 != 0 {
        rules.deny = (0..3).map(|_| choices.path(NAMES)).collect();
    }
    if which & 8 != 0 {
        rules.mapping.insert("a".to_owned(), "b".to_owned());
        rules.mapping.insert("c".to_owned(), "\"".to_owned());
    }
    if which & 16 != 0 {
        rules.group = Some("g\u{1}".to_owned());
    }
    rules
}

fn operations(choices: &mut Choices) -> Vec<Operation> {
    let steps = ["a", "b", "*", "0", "1"];
    let operation = |choices: &mut Choices| {
        let name = ["move", "append", "del"][choices.below(3) as usize];
        Operation::new(name, &[choices.path(&steps), choices.path(&steps)]).ok()
    };
    (0..3).filter_map(|_| operation(choices)).collect()
}

/// Around what was validated there may be a group, a collection and a path: deeper then, and nothing else.
fn is_good(text: &[u8]) {
    assert!(matches!(validate(text), Ok(_) | Err(Fault::TooDeep(_))), "{}", text.escape_ascii());
}

fuzz_target!(|data: &[u8]| {
    let Some((&first, texts)) = data.split_first() else { return };
    let mut choices = Choices(first as u32);
    let texts: Vec<_> = texts.split(|&byte| byte == 0xFF).filter(|text| validate(text).is_ok()).take(4).collect();
    let shapes: Vec<_> = texts.iter().map(|_| Shape::compile(&rules(&mut choices))).collect();
    let answers: Vec<Answer<'_>> =
        texts.iter().zip(&shapes).filter_map(|(text, shape)| shape.apply(text).ok()).collect();

    let mut merged = Vec::new();
    merge(&answers, &mut merged);
    is_good(&merged);
    assert_eq!(gather(&answers).slices().collect::<Vec<_>>().concat(), merged);
    assert!(Value::of(&merged).members().is_some());
    if let Some(value) = lookup(&merged, "g\u{1}.a") {
        is_good(value.raw());
        drop(value.plain_text());
    }

    let (mut sorted, mut again) = (Vec::new(), Vec::new());
    canonical(&merged, &mut sorted);
    is_good(&sorted);
    canonical(&sorted, &mut again);
    assert_eq!(sorted, again);

    let operations = operations(&mut choices);
    let mut moved = Vec::new();
    flatmap(&operations, &merged, &mut moved);
    is_good(&moved);
});
