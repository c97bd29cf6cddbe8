//! The known word that somebody probably meant.

/// The known word nearest to `word`, if it is near enough to be meant: within a third of its letters.
pub fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let distances = known.iter().map(|known| (distance(word.as_bytes(), known.as_bytes()), *known));
    let (distance, near) = distances.min_by_key(|(distance, _)| *distance)?;
    (distance <= near.len().max(3) / 3 + 1).then_some(near)
}

/// How many bytes to insert, delete, replace or swap with their neighbour (optimal string alignment).
fn distance(a: &[u8], b: &[u8]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let differs = (a[i - 1] != b[j - 1]) as usize;
            let mut best = (last[j - 1] + differs).min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, expected) in [("", "", 0), ("", "abc", 3), ("listen", "listne", 1), ("kitten", "sitting", 3)] {
            assert_eq!(distance(a.as_bytes(), b.as_bytes()), expected, "{a} {b}");
            assert_eq!(distance(b.as_bytes(), a.as_bytes()), expected, "{b} {a}");
        }
    }

    #[test]
    fn what_is_far_is_not_meant() {
        let known = ["listen", "insecure", "history_size"];
        assert_eq!(nearest("lisen", &known), Some("listen"));
        assert_eq!(nearest("histroy_size", &known), Some("history_size"));
        assert_eq!(nearest("banana", &known), None);
        assert_eq!(nearest("x", &[]), None);
    }
}
