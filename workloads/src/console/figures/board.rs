//! What the console knows of each process: of its own, and of others that it asks. Kept as text, because it is told more
//! often than it is made.
//!
//! Each point has a number of this console's. Who has seen the points up to one asks for what came after it.
//!
//! ```text
//!   process 0 (this one)   head   points 1 3 5 7 8 10 ...
//!   process 1 (asked)      head   points 2 4 6     9  ...       ?after=8 tells 10, 9
//! ```

use std::collections::VecDeque;
use std::fmt::Write;

use serde_json::{Value, json};

/// Points kept of each process: five minutes.
pub const POINTS_MAX: usize = 300;
/// Bytes of a process' points; of more, the oldest go. Another process may tell whatever it likes.
pub const POINTS_BYTES_MAX: usize = 3 << 20;

/// See the module's description.
#[derive(Default)]
pub struct Board {
    /// The number of the newest point.
    newest: u64,
    processes: Vec<Process>,
}

#[derive(Default)]
struct Process {
    /// Where its console is; empty: this one.
    at: String,
    /// Everything but its points: a JSON object. Empty: it has never answered.
    head: String,
    points: VecDeque<(u64, String)>,
    /// Why it did not answer when it was asked last.
    trouble: Option<String>,
}

impl Board {
    /// For this process, and others whose consoles are at these addresses.
    pub fn new(others: &[String]) -> Board {
        let at = std::iter::once(String::new()).chain(others.iter().cloned());
        Board { newest: 0, processes: at.map(|at| Process { at, ..Process::default() }).collect() }
    }

    /// A process has told of itself, and points of it that are new.
    pub fn put(&mut self, process: usize, head: &Value, points: &[Value]) {
        let Some(process) = self.processes.get_mut(process) else { return };
        process.trouble = None;
        process.head = head.to_string();
        for point in points {
            self.newest += 1;
            process.points.push_back((self.newest, point.to_string()));
        }
        let mut bytes = 0;
        let fits = |(_, point): &&(u64, String)| {
            bytes += point.len();
            bytes <= POINTS_BYTES_MAX
        };
        let kept = process.points.iter().rev().take(POINTS_MAX).take_while(fits).count();
        process.points.drain(..process.points.len() - kept);
    }

    /// A process does not answer.
    pub fn miss(&mut self, process: usize, why: String) {
        if let Some(process) = self.processes.get_mut(process) {
            process.trouble = Some(why);
        }
    }

    /// What a process told before is not to be continued: it has begun anew.
    pub fn forget(&mut self, process: usize) {
        if let Some(process) = self.processes.get_mut(process) {
            process.points.clear();
        }
    }

    /// The document: what is known of each process, with the points after this number.
    pub fn document(&self, began_ms: u64, now_ms: u64, after: u64, only_own: bool) -> String {
        let mut out =
            format!("{{\"began_ms\":{began_ms},\"now_ms\":{now_ms},\"newest\":{},\"processes\":[", self.newest);
        let shown = if only_own { 1 } else { self.processes.len() };
        for (index, process) in self.processes.iter().take(shown).enumerate() {
            let comma = if index > 0 { "," } else { "" };
            let head = if process.head.is_empty() { "null" } else { &process.head };
            let (at, trouble) = (json!(process.at), json!(process.trouble));
            let _infallible = write!(out, "{comma}{{\"at\":{at},\"trouble\":{trouble},\"head\":{head},\"points\":[");
            let new = process.points.iter().skip_while(|(number, _)| *number <= after);
            for (place, (_, point)) in new.enumerate() {
                let comma = if place > 0 { "," } else { "" };
                let _infallible = write!(out, "{comma}{point}");
            }
            out.push_str("]}");
        }
        out.push_str("]}\n");
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(board: &Board, after: u64, only_own: bool) -> Value {
        serde_json::from_str(&board.document(1, 2, after, only_own)).unwrap()
    }

    #[test]
    fn who_has_seen_points_gets_those_after_them() {
        let mut board = Board::new(&["127.0.0.1:9901".to_owned()]);
        let empty = told(&board, 0, false);
        assert_eq!((&empty["newest"], &empty["processes"][0]["head"]), (&json!(0), &Value::Null));
        board.put(0, &json!({"name": "run"}), &[json!({"n": 1})]);
        board.put(1, &json!({"name": "chat \"a\""}), &[json!({"n": 2}), json!({"n": 3})]);
        board.put(0, &json!({"name": "run"}), &[json!({"n": 4})]);
        let all = told(&board, 0, false);
        assert_eq!(all["processes"][0]["points"], json!([{"n": 1}, {"n": 4}]));
        assert_eq!(all["processes"][1]["points"], json!([{"n": 2}, {"n": 3}]));
        assert_eq!(all["processes"][1]["head"]["name"], "chat \"a\"");
        let new = told(&board, 2, false);
        assert_eq!((&new["newest"], &new["processes"][0]["points"]), (&json!(4), &json!([{"n": 4}])));
        assert_eq!(new["processes"][1]["points"], json!([{"n": 3}]));
        assert_eq!(told(&board, 4, true)["processes"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn what_does_not_answer_is_named_and_what_it_told_stays() {
        let mut board = Board::new(&["127.0.0.1:9901".to_owned()]);
        board.put(1, &json!({}), &[json!(1)]);
        board.miss(1, "refused".to_owned());
        let other = &told(&board, 0, false)["processes"][1];
        assert_eq!(
            (&other["trouble"], &other["at"], &other["points"]),
            (&json!("refused"), &json!("127.0.0.1:9901"), &json!([1]))
        );
        board.put(1, &json!({}), &[]);
        board.forget(1);
        let other = &told(&board, 0, false)["processes"][1];
        assert_eq!((&other["trouble"], &other["points"]), (&Value::Null, &json!([])));
        // There is no third.
        board.put(2, &json!({}), &[json!(1)]);
        board.miss(2, String::new());
        board.forget(2);
    }

    #[test]
    fn the_oldest_points_go() {
        let mut board = Board::new(&[]);
        (0..POINTS_MAX + 5).for_each(|n| board.put(0, &json!({}), &[json!(n)]));
        let points = &told(&board, 0, false)["processes"][0]["points"];
        assert_eq!((points.as_array().unwrap().len(), &points[0]), (POINTS_MAX, &json!(5)));
    }

    #[test]
    fn of_large_points_fewer_are_kept() {
        let mut board = Board::new(&[]);
        let mut kept = |bytes: usize| {
            board.put(0, &json!({}), &[json!("x".repeat(bytes))]);
            told(&board, 0, false)["processes"][0]["points"].as_array().unwrap().len()
        };
        // Each with its quotes.
        let quarter = POINTS_BYTES_MAX / 4;
        assert_eq!([quarter; 5].map(&mut kept), [1, 2, 3, 3, 3]);
        assert_eq!([kept(0), kept(POINTS_BYTES_MAX), kept(0)], [4, 0, 1]);
    }
}
