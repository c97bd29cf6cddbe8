//! Random rules on random answers, merged: the same object, in the same order, as a plain tree gives.

mod json_reference;

use annulus_protocols::json::{Answer, Root, Rules, Shape, gather, merge};
use json_reference::{NAMES, Random, Tree, set};

/// The rules on a tree, one after the other.
fn apply(rules: &Rules, tree: Tree) -> Option<Vec<(String, Tree)>> {
    let null = Tree::Plain("null".to_owned());
    let mut members = match (rules.root, tree) {
        (Root::Object | Root::Any, Tree::Object(members)) => members,
        (Root::Object, tree) if tree == null => Vec::new(),
        (Root::Any | Root::Collection, tree @ Tree::List(_)) => vec![("collection".to_owned(), tree)],
        (Root::Collection, tree) if tree == null => vec![("collection".to_owned(), tree)],
        (Root::Any, tree) => vec![("content".to_owned(), tree)],
        (Root::Object | Root::Collection, _) => return None,
    };
    if !rules.target.is_empty() {
        for name in rules.target.split('.') {
            members = match members.into_iter().find(|(known, _)| known == name) {
                Some((_, Tree::Object(members))) => members,
                _ => Vec::new(),
            };
        }
    }
    if !rules.allow.is_empty() {
        allow(&effective(&rules.allow), &mut members);
    } else {
        rules.deny.iter().for_each(|path| deny(path, &mut members));
    }
    let renamed: Vec<_> = members.iter().map(|(name, _)| rules.mapping.get(name)).collect();
    let taken: Vec<_> = renamed.iter().flatten().map(|name| name.as_str()).collect();
    let mut mapped = Vec::new();
    for ((name, value), new) in members.iter().zip(&renamed) {
        match new {
            Some(new) => set(&mut mapped, (*new).clone(), value.clone()),
            None if taken.contains(&name.as_str()) => {}
            None => mapped.push((name.clone(), value.clone())),
        }
    }
    Some(match &rules.group {
        Some(name) => vec![(name.clone(), Tree::Object(mapped))],
        None => mapped,
    })
}

/// Of two paths of which one continues the other, the later.
fn effective(paths: &[String]) -> Vec<String> {
    let continues = |one: &String, other: &String| one == other || one.starts_with(&format!("{other}."));
    let later = |index: usize| &paths[index + 1..];
    let counts = |index: usize, path: &String| {
        !later(index).iter().any(|other| continues(path, other) || continues(other, path))
    };
    paths.iter().enumerate().filter(|(index, path)| counts(*index, path)).map(|(_, path)| path.clone()).collect()
}

fn allow(paths: &[String], members: &mut Vec<(String, Tree)>) {
    members.retain_mut(|(name, value)| {
        let further: Vec<_> = paths
            .iter()
            .filter_map(|path| if path == name { Some(None) } else { path.strip_prefix(&format!("{name}.")).map(Some) })
            .collect();
        if further.contains(&None) {
            return true;
        }
        let further: Vec<_> = further.into_iter().flatten().map(str::to_owned).collect();
        let Tree::Object(members) = value else { return false };
        allow(&further, members);
        !further.is_empty() && !members.is_empty()
    });
}

fn deny(path: &str, members: &mut Vec<(String, Tree)>) {
    match path.split_once('.') {
        None => members.retain(|(name, _)| name != path),
        Some((first, further)) => {
            for (name, value) in members {
                if let Tree::Object(members) = value
                    && name == first
                {
                    deny(further, members);
                }
            }
        }
    }
}

fn random_rules(random: &mut Random) -> Rules {
    let path = |random: &mut Random| -> String {
        (0..=random.below(3)).map(|_| *random.one_of(NAMES)).collect::<Vec<_>>().join(".")
    };
    let paths = |random: &mut Random| -> Vec<String> { (0..1 + random.below(4)).map(|_| path(random)).collect() };
    let root = *random.one_of(&[Root::Object, Root::Object, Root::Any, Root::Collection]);
    let mut rules = Rules { root, ..Rules::default() };
    if random.below(4) == 0 {
        rules.target = path(random);
    }
    if random.below(3) == 0 {
        rules.allow = paths(random);
    }
    if random.below(3) == 0 {
        // Paths none of which continues another: there the order of the rules decides, as with allow.
        rules.deny = effective(&paths(random));
    }
    if random.below(3) == 0 {
        for _ in 0..=random.below(3) {
            rules.mapping.insert((*random.one_of(NAMES)).to_owned(), (*random.one_of(NAMES)).to_owned());
        }
    }
    if random.below(3) == 0 {
        rules.group = Some((*random.one_of(NAMES)).to_owned());
    }
    rules
}

#[test]
fn shapes_and_merges_agree_with_a_tree() {
    let mut random = Random(7);
    let (mut misfits, mut merged_members) = (0, 0);
    for round in 0..6000 {
        let mut texts = Vec::new();
        let mut shapes = Vec::new();
        let mut expected = Vec::new();
        for _ in 0..1 + random.below(4) {
            let tree =
                if random.below(8) == 0 { Tree::random(&mut random, 4) } else { Tree::random_object(&mut random, 4) };
            let mut text = String::new();
            tree.write(&mut random, &mut text);
            let rules = random_rules(&mut random);
            shapes.push((Shape::compile(&rules), rules.clone()));
            expected.push(apply(&rules, tree.unique()));
            texts.push(text.into_bytes());
        }
        let answers: Vec<Answer<'_>> = shapes
            .iter()
            .zip(&texts)
            .zip(&expected)
            .filter_map(|(((shape, rules), text), expected)| {
                let answer = shape.apply(text);
                assert_eq!(answer.is_ok(), expected.is_some(), "{rules:?} {}", text.escape_ascii());
                misfits += answer.is_err() as usize;
                let empty = expected.as_ref().is_some_and(Vec::is_empty);
                assert!(answer.as_ref().is_ok_and(Answer::is_empty) == empty, "{rules:?} {}", text.escape_ascii());
                answer.ok()
            })
            .collect();
        let mut together = Vec::new();
        expected.into_iter().flatten().flatten().for_each(|(name, value)| set(&mut together, name, value));

        let mut out = b"before".to_vec();
        merge(&answers, &mut out);
        let out = out.strip_prefix(b"before").unwrap();
        let gathered = gather(&answers);
        assert_eq!(gathered.slices().collect::<Vec<_>>().concat(), out);
        assert_eq!(gathered.len(), out.len());
        assert!(serde_json::from_slice::<serde_json::Value>(out).is_ok());
        let Tree::Object(ours) = Tree::parse(out) else { panic!("no object: {}", out.escape_ascii()) };
        if answers.len() > 1 {
            for (index, (name, _)) in ours.iter().enumerate() {
                assert!(ours[..index].iter().all(|(earlier, _)| earlier != name), "{name} is there twice");
            }
        }
        merged_members += ours.len();
        let rules: Vec<_> = shapes.iter().map(|(_, rules)| rules).collect();
        assert_eq!(Tree::Object(ours).unique(), Tree::Object(together), "round {round}: {rules:?}");
    }
    assert!(misfits > 100 && merged_members > 10_000);
}
