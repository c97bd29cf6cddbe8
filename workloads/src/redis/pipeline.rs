//! Calls on their way, without a socket: which wait, which were sent, and whose answer comes next.
//!
//! ```text
//!   push ─► waiting ─ write_batch ─► sent ─ on_answer ─► its caller
//!              ▲                      │
//!              └── again ◄─ NOSCRIPT ─┘      on_broken: sent ─► Doubtful, the others ─► Away
//! ```
//!
//! Calls are sent in the order in which they were made, and answers come in the order in which calls were sent. A script
//! whose name the server has forgotten is sent again, whole, before anything that waits, and only when nothing is under way
//! any more: so scripts stay in their order among themselves, too.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::resp;
use super::script::Script;
use super::trouble::Trouble;
use super::value::Value;

/// Calls that have no answer, on one connection. Beyond, calls are refused.
pub const CALLS_MAX: usize = 16_384;
/// Bytes of calls that have no answer, on one connection. Beyond, calls are refused.
pub const BYTES_MAX: usize = 32 << 20;
/// Bytes that leave together, beyond which the last call may reach.
const BATCH_BYTES: usize = 128 << 10;

/// What is sent.
pub(super) struct Call {
    kind: Kind,
    /// The command; of a script what comes behind its name.
    bytes: Vec<u8>,
    /// How often a cluster has sent it on.
    pub(super) hops: u8,
}

enum Kind {
    Command,
    Script { script: &'static Script, parts: usize },
}

impl Call {
    /// A command that is written already.
    pub(super) fn command(bytes: Vec<u8>) -> Call {
        Call { kind: Kind::Command, bytes, hops: 0 }
    }

    /// A script with its keys and arguments.
    pub(super) fn script(script: &'static Script, keys: &[&[u8]], args: &[&[u8]]) -> Call {
        let mut bytes = Vec::new();
        resp::write_part(&mut bytes, keys.len().to_string().as_bytes());
        keys.iter().chain(args).for_each(|part| resp::write_part(&mut bytes, part));
        Call { kind: Kind::Script { script, parts: 3 + keys.len() + args.len() }, bytes, hops: 0 }
    }

    fn len(&self) -> usize {
        self.bytes.len()
    }

    fn write(&self, out: &mut Vec<u8>, known: &mut Vec<&'static Script>) {
        if let Kind::Script { script, parts } = self.kind {
            resp::write_count(out, parts);
            if known.iter().any(|known| std::ptr::eq(*known, script)) {
                resp::write_part(out, b"EVALSHA");
                resp::write_part(out, script.sha().as_bytes());
            } else {
                // What is sent behind it finds it loaded.
                resp::write_part(out, b"EVAL");
                resp::write_part(out, script.text().as_bytes());
                known.push(script);
            }
        }
        out.extend_from_slice(&self.bytes);
    }
}

/// Where an answer is put.
#[derive(Default)]
struct Slot {
    answer: Option<Result<Value, Trouble>>,
    waker: Option<Waker>,
}

/// An answer that comes. Dropped, it does not take the call back.
#[must_use = "an answer may be a refusal"]
pub(super) struct Answer(Rc<RefCell<Slot>>);

impl Answer {
    /// One that is there.
    pub(super) fn ready(answer: Result<Value, Trouble>) -> Answer {
        Answer(Rc::new(RefCell::new(Slot { answer: Some(answer), waker: None })))
    }
}

impl Future for Answer {
    type Output = Result<Value, Trouble>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut slot = self.0.borrow_mut();
        match slot.answer.take() {
            Some(answer) => Poll::Ready(answer),
            None => {
                slot.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

fn answer(slot: &RefCell<Slot>, with: Result<Value, Trouble>) {
    let waker = {
        let mut slot = slot.borrow_mut();
        slot.answer = Some(with);
        slot.waker.take()
    };
    if let Some(waker) = waker {
        waker.wake();
    }
}

struct Sent {
    slot: Rc<RefCell<Slot>>,
    at: Duration,
    bytes: usize,
    /// What may have to be sent once more: a script whose name is not known, anything in a cluster.
    call: Option<Call>,
}

/// A call that a node of a cluster did not carry out, because it belongs elsewhere, with its answer's place.
pub(super) struct Redirected {
    pub(super) call: Call,
    /// What is to be sent right before it.
    pub(super) before: Option<Call>,
    slot: Rc<RefCell<Slot>>,
    /// `MOVED`, `ASK` or `TRYAGAIN`.
    pub(super) code: String,
    /// The words after it.
    pub(super) message: String,
}

impl Redirected {
    /// It goes nowhere.
    pub(super) fn refuse(self) {
        answer(&self.slot, Err(Trouble::Refused { code: self.code, message: self.message }));
    }

    /// It does not, for a reason of ours.
    pub(super) fn fail(self, trouble: Trouble) {
        answer(&self.slot, Err(trouble));
    }
}

/// What an answer says of the server, beside answering.
pub(super) enum Verdict {
    /// It serves.
    Serves,
    /// The call belongs elsewhere.
    Redirected(Redirected),
    /// It is no longer one that takes writes: connect anew. What it said.
    Leave(String),
    /// It answered what nobody asked.
    Unasked,
}

/// The calls of one connection.
#[derive(Default)]
pub(super) struct Pipeline {
    waiting: VecDeque<(Call, Rc<RefCell<Slot>>)>,
    /// Scripts to send again, before those that wait.
    again: VecDeque<(Call, Rc<RefCell<Slot>>)>,
    sent: VecDeque<Sent>,
    bytes: usize,
    known: Vec<&'static Script>,
    /// Whether calls may belong elsewhere.
    is_of_cluster: bool,
}

impl Pipeline {
    /// Without calls.
    pub(super) fn new(is_of_cluster: bool) -> Pipeline {
        Pipeline { is_of_cluster, ..Pipeline::default() }
    }

    /// Takes a call.
    ///
    /// # Errors
    /// Too many have no answer.
    pub(super) fn push(&mut self, call: Call) -> Result<Answer, Trouble> {
        self.make_room(1, call.len())?;
        let slot = Rc::new(RefCell::new(Slot::default()));
        self.waiting.push_back((call, slot.clone()));
        Ok(Answer(slot))
    }

    /// Takes a call that was made elsewhere.
    pub(super) fn adopt(&mut self, mut redirected: Redirected) {
        let before = redirected.before.take();
        let (calls, bytes) = before.as_ref().map_or((1, 0), |before| (2, before.len()));
        if let Err(trouble) = self.make_room(calls, bytes + redirected.call.len()) {
            return redirected.fail(trouble);
        }
        if let Some(before) = before {
            self.waiting.push_back((before, Rc::default()));
        }
        self.waiting.push_back((redirected.call, redirected.slot));
    }

    fn make_room(&mut self, calls: usize, bytes: usize) -> Result<(), Trouble> {
        if self.len() + calls > CALLS_MAX {
            return Err(Trouble::busy(format!("{CALLS_MAX} calls have no answer yet")));
        }
        if self.bytes + bytes > BYTES_MAX {
            return Err(Trouble::busy(format!("calls of {BYTES_MAX} bytes have no answer yet")));
        }
        self.bytes += bytes;
        Ok(())
    }

    fn len(&self) -> usize {
        self.waiting.len() + self.again.len() + self.sent.len()
    }

    /// Whether nothing waits and nothing is under way.
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether something is under way.
    pub(super) fn is_under_way(&self) -> bool {
        !self.sent.is_empty()
    }

    /// Whether there is something to send now.
    pub(super) fn is_ready(&self) -> bool {
        match self.again.is_empty() {
            true => !self.waiting.is_empty(),
            false => self.sent.is_empty(),
        }
    }

    /// When the oldest call that has no answer was sent.
    pub(super) fn oldest(&self) -> Option<Duration> {
        self.sent.front().map(|sent| sent.at)
    }

    /// Appends what is to be sent now; how many calls that are.
    pub(super) fn write_batch(&mut self, now: Duration, out: &mut Vec<u8>) -> usize {
        if !self.is_ready() {
            return 0;
        }
        let (begin, before) = (out.len(), self.sent.len());
        while out.len() - begin < BATCH_BYTES {
            let Some((call, slot)) = self.again.pop_front().or_else(|| self.waiting.pop_front()) else { break };
            call.write(out, &mut self.known);
            let bytes = call.len();
            let call = Some(call).filter(|call| self.is_of_cluster || matches!(call.kind, Kind::Script { .. }));
            self.sent.push_back(Sent { slot, at: now, bytes, call });
        }
        self.sent.len() - before
    }

    /// The answer to the oldest call.
    pub(super) fn on_answer(&mut self, value: Value) -> Verdict {
        let Some(Sent { slot, bytes, call, .. }) = self.sent.pop_front() else { return Verdict::Unasked };
        let Value::Error { code, message } = value else {
            self.bytes -= bytes;
            answer(&slot, Ok(value));
            return Verdict::Serves;
        };
        let call = match (&*code, call) {
            ("NOSCRIPT", Some(Call { kind: Kind::Script { script, parts }, bytes, hops })) => {
                self.known.retain(|known| !std::ptr::eq(*known, script));
                self.again.push_back((Call { kind: Kind::Script { script, parts }, bytes, hops }, slot));
                return Verdict::Serves;
            }
            (_, call) => call,
        };
        self.bytes -= bytes;
        if let ("MOVED" | "ASK" | "TRYAGAIN", true, Some(call)) = (&*code, self.is_of_cluster, call) {
            return Verdict::Redirected(Redirected { call, before: None, slot, code, message });
        }
        let verdict = match &*code {
            "READONLY" | "LOADING" | "MASTERDOWN" => Verdict::Leave(format!("{code} {message}")),
            _ => Verdict::Serves,
        };
        answer(&slot, Err(Trouble::Refused { code, message }));
        verdict
    }

    /// The connection is gone: everything that has no answer gets one, and a next connection begins anew.
    pub(super) fn on_broken(&mut self, why: &str) -> usize {
        let doubtful = self.sent.len();
        let (sent, again, waiting) =
            (std::mem::take(&mut self.sent), std::mem::take(&mut self.again), std::mem::take(&mut self.waiting));
        self.bytes = 0;
        self.known.clear();
        sent.iter().for_each(|sent| answer(&sent.slot, Err(Trouble::Doubtful(why.to_owned()))));
        again.iter().chain(&waiting).for_each(|(_, slot)| answer(slot, Err(Trouble::Away(why.to_owned()))));
        doubtful
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::LazyLock;

    static ONE: LazyLock<Script> = LazyLock::new(|| Script::new("return 1"));
    const NOW: Duration = Duration::from_secs(1);

    fn command(text: &str) -> Call {
        let mut bytes = Vec::new();
        resp::write_command(&mut bytes, &[text]);
        Call::command(bytes)
    }

    fn script(argument: &str) -> Call {
        Call::script(&ONE, &[], &[argument.as_bytes()])
    }

    fn batch(pipeline: &mut Pipeline) -> String {
        let mut out = Vec::new();
        pipeline.write_batch(NOW, &mut out);
        let words = String::from_utf8(out).unwrap();
        let words = words.split("\r\n").filter(|word| !word.starts_with(['*', '$']) && !word.is_empty());
        words.collect::<Vec<_>>().join(" ").replace("return 1", "TEXT").replace(ONE.sha(), "SHA")
    }

    fn poll(answer: &mut Answer) -> Option<Result<Value, Trouble>> {
        match Pin::new(answer).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(answer) => Some(answer),
            Poll::Pending => None,
        }
    }

    fn no_script() -> Value {
        Value::Error { code: "NOSCRIPT".to_owned(), message: "No matching script.".to_owned() }
    }

    #[test]
    fn answers_meet_their_calls() {
        let mut pipeline = Pipeline::default();
        let mut answers: Vec<Answer> = ["A", "B", "C"].map(|text| pipeline.push(command(text)).unwrap()).into();
        assert_eq!(batch(&mut pipeline), "A B C");
        let mut late = pipeline.push(command("D")).unwrap();
        for number in 0..2 {
            assert!(matches!(pipeline.on_answer(Value::Int(number)), Verdict::Serves));
        }
        assert_eq!(poll(&mut answers[0]), Some(Ok(Value::Int(0))));
        assert_eq!(poll(&mut answers[1]), Some(Ok(Value::Int(1))));
        assert_eq!(poll(&mut answers[2]), None);
        assert_eq!(pipeline.on_broken("gone"), 1);
        assert_eq!(poll(&mut answers[2]), Some(Err(Trouble::Doubtful("gone".to_owned()))));
        assert_eq!(poll(&mut late), Some(Err(Trouble::Away("gone".to_owned()))));
        assert!(pipeline.is_empty() && pipeline.bytes == 0);
        assert!(matches!(pipeline.on_answer(Value::Nil), Verdict::Unasked));
    }

    #[test]
    fn a_script_is_sent_whole_once_and_again_where_it_was_forgotten() {
        let mut pipeline = Pipeline::default();
        let mut answers: Vec<Answer> = ["a", "b"].map(|text| pipeline.push(script(text)).unwrap()).into();
        assert_eq!(batch(&mut pipeline), "EVAL TEXT 0 a EVALSHA SHA 0 b");
        pipeline.on_answer(Value::Int(1));
        // Somebody has flushed the server's scripts.
        let mut last = pipeline.push(script("c")).unwrap();
        assert_eq!(batch(&mut pipeline), "EVALSHA SHA 0 c");
        pipeline.on_answer(no_script());
        let mut behind = pipeline.push(script("d")).unwrap();
        assert!(!pipeline.is_ready(), "what was made later does not overtake");
        assert_eq!(batch(&mut pipeline), "");
        pipeline.on_answer(no_script());
        assert_eq!(batch(&mut pipeline), "EVAL TEXT 0 b EVALSHA SHA 0 c EVALSHA SHA 0 d");
        (0..3).for_each(|number| assert!(matches!(pipeline.on_answer(Value::Int(number)), Verdict::Serves)));
        assert_eq!(poll(&mut answers[1]), Some(Ok(Value::Int(0))));
        assert_eq!((poll(&mut last), poll(&mut behind)), (Some(Ok(Value::Int(1))), Some(Ok(Value::Int(2)))));
        assert!(pipeline.is_empty() && pipeline.bytes == 0);
        // Another connection may be to another server.
        pipeline.on_broken("gone");
        let _answer = pipeline.push(script("e")).unwrap();
        assert_eq!(batch(&mut pipeline), "EVAL TEXT 0 e");
    }

    #[test]
    fn calls_without_answers_are_bounded() {
        let mut pipeline = Pipeline::default();
        let answers: Vec<_> = (0..CALLS_MAX).map(|_| pipeline.push(command("A")).unwrap()).collect();
        assert!(pipeline.push(command("A")).is_err_and(|trouble| trouble.is("BUSY")));
        drop(answers);
        pipeline.on_broken("gone");
        let large = || Call::command(vec![b'x'; BYTES_MAX / 2]);
        let kept = [pipeline.push(large()).unwrap(), pipeline.push(large()).unwrap()];
        assert!(pipeline.push(command("A")).is_err_and(|trouble| trouble.is("BUSY")));
        // They leave one by one, and what is under way counts on.
        assert!(pipeline.write_batch(NOW, &mut Vec::new()) == 1 && pipeline.is_ready());
        assert!(pipeline.push(command("A")).is_err());
        pipeline.on_answer(Value::Nil);
        assert!(pipeline.push(command("A")).is_ok());
        drop(kept);
    }

    #[test]
    fn a_server_that_no_longer_takes_writes_is_left() {
        for code in ["READONLY", "LOADING", "MASTERDOWN"] {
            let mut pipeline = Pipeline::default();
            let mut answer = pipeline.push(command("A")).unwrap();
            batch(&mut pipeline);
            let verdict = pipeline.on_answer(Value::Error { code: code.to_owned(), message: "no".to_owned() });
            assert!(matches!(verdict, Verdict::Leave(why) if why == format!("{code} no")));
            assert!(poll(&mut answer).unwrap().is_err_and(|trouble| trouble.is(code) && trouble.is_passing()));
        }
    }

    #[test]
    fn a_call_that_belongs_elsewhere_takes_its_answer_along() {
        let [mut here, mut there] = [Pipeline::new(true), Pipeline::new(true)];
        let mut answers: Vec<Answer> = vec![here.push(command("A")).unwrap(), here.push(script("b")).unwrap()];
        assert_eq!(batch(&mut here), "A EVAL TEXT 0 b");
        for answer in &mut answers {
            let moved = Value::Error { code: "ASK".to_owned(), message: "1 b:2".to_owned() };
            let Verdict::Redirected(mut redirected) = here.on_answer(moved) else { panic!("it is not here") };
            redirected.before = Some(command("ASKING"));
            there.adopt(redirected);
            assert_eq!(poll(answer), None);
        }
        assert!(here.is_empty() && here.bytes == 0);
        assert_eq!(batch(&mut there), "ASKING A ASKING EVAL TEXT 0 b");
        for number in 0..4 {
            there.on_answer(Value::Int(number));
        }
        assert_eq!(poll(&mut answers[0]), Some(Ok(Value::Int(1))));
        assert_eq!(poll(&mut answers[1]), Some(Ok(Value::Int(3))));
        assert!(there.is_empty() && there.bytes == 0);
    }
}
