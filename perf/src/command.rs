//! The command line: `record` and `diff`.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::events::{FREQUENCY_MAX, STACK_BYTES, STACK_BYTES_MAX, STACK_BYTES_MIN, Unwind};
use crate::folded::Folded;
use crate::record::{DRAIN_EVERY, Profile, Recording, Request};
use crate::refusal::{Reason, Refusal};
use crate::symbols;
use crate::target::{self, Paused};

/// What `annulus perf --help` prints.
pub const HELP: &str = "\
annulus perf: flamegraphs of any Linux process

usage: annulus perf record [options] --pid PID
       annulus perf record [options] -- COMMAND [ARGUMENTS...]
       annulus perf diff BEFORE.txt AFTER.txt [--output FILE.svg] [--title TEXT]

options of record:
  --pid PID           a running process: its threads, and what they begin later
  --seconds N         how long at most: 10 with --pid, otherwise until COMMAND ends. Ctrl-C ends it earlier
  --frequency HZ      samples per second of a thread that runs (99)
  --output FILE.svg   the flamegraph (flamegraph.svg)
  --collapsed FILE    the stacks as text besides, for other tools and for diff
  --diff BEFORE.txt   colours by what changed since: red is more, blue is less
  --unwind HOW        dwarf (by unwind tables, for any program) or frame-pointers (cheaper, for programs that have them)
  --stack-kib N       how much of each stack is copied for dwarf: 16, up to 60 for deep ones
  --full-names        with the types that generic functions and templates are made for
  --merge-threads     without the threads' names as roots
  --title TEXT        the flamegraph's title

Time in the kernel is shown where perf_event_paranoid is at most 1, or to root.
";

/// The word after which this is a [`symbols::Helper`]: in the binary `annulus` its words are `perf` and this one.
pub const NAMES_WORD: &str = "names-of";
/// How long a process that runs already is recorded.
const SECONDS_OF_PID: f64 = 10.0;
/// A day: longer is hardly meant.
const SECONDS_MAX: f64 = 86_400.0;
/// How long COMMAND has to end after Ctrl-C, for its end to be told.
const ENDING_MAX: Duration = Duration::from_secs(2);
/// A rate that is not in step with what programs do every hundredth of a second.
const FREQUENCY: u64 = 99;
/// A file of collapsed stacks is read up to this size.
const COLLAPSED_BYTES_MAX: u64 = 1 << 30;
/// The exit status for a wrong command line.
const EXIT_COMMAND_LINE: u8 = 2;
/// The exit status of the second Ctrl-C, as shells have it.
const EXIT_INTERRUPTED: i32 = 130;

/// Does what the words after `annulus perf` say.
pub fn main(words: Vec<String>) -> ExitCode {
    if let Some((first, rest)) = words.split_first()
        && first == target::START_WORD
    {
        return target::start_when_told(rest);
    }
    if let Some((first, rest)) = words.split_first()
        && first == NAMES_WORD
    {
        return if symbols::help(rest) { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let before_command = words.iter().take_while(|word| *word != "--");
    if words.is_empty() || before_command.clone().any(|word| matches!(word.as_str(), "--help" | "-h" | "help")) {
        print!("{HELP}");
        return ExitCode::SUCCESS;
    }
    match Asked::read(&words).and_then(|asked| asked.run(words.len())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(refusal) => {
            say(&refusal.sentence);
            match refusal.reason {
                Reason::CommandLine => ExitCode::from(EXIT_COMMAND_LINE),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

/// Tells whoever started this. On standard error: standard output is COMMAND's.
fn say(sentence: &str) {
    let _nobody_listens = writeln!(std::io::stderr(), "annulus perf: {sentence}");
}

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq)]
enum Asked {
    Record(Box<Record>),
    Diff { before: PathBuf, after: PathBuf, output: PathBuf, title: Option<String> },
}

#[derive(Clone, Debug, PartialEq)]
struct Record {
    target: Target,
    seconds: Option<f64>,
    frequency: u64,
    output: PathBuf,
    collapsed: Option<PathBuf>,
    diff: Option<PathBuf>,
    unwind: Unwind,
    stack_bytes: u32,
    full_names: bool,
    merge_threads: bool,
    title: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
enum Target {
    Pid(i32),
    Command(Vec<String>),
}

fn wrong(sentence: impl Into<String>) -> Refusal {
    Refusal::new(Reason::CommandLine, sentence)
}

impl Asked {
    fn read(words: &[String]) -> Result<Asked, Refusal> {
        match words.split_first() {
            Some((verb, rest)) if verb == "record" => Record::read(rest).map(|record| Asked::Record(Box::new(record))),
            Some((verb, rest)) if verb == "diff" => Asked::read_diff(rest),
            Some((verb, _)) => Err(wrong(format!("there is no {verb:?}: expected record or diff; see --help"))),
            None => Err(wrong("expected record or diff; see --help")),
        }
    }

    fn read_diff(words: &[String]) -> Result<Asked, Refusal> {
        let (mut files, mut output, mut title) = (Vec::new(), PathBuf::from("flamegraph.svg"), None);
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| wrong(format!("{word} needs a value")));
            match word.as_str() {
                "--output" => output = value()?.into(),
                "--title" => title = Some(value()?.clone()),
                option if option.starts_with('-') => {
                    return Err(wrong(format!("there is no option {option}; see --help")));
                }
                file => files.push(PathBuf::from(file)),
            }
        }
        let [before, after] = <[PathBuf; 2]>::try_from(files)
            .map_err(|files| wrong(format!("diff needs two files, BEFORE.txt and AFTER.txt; found {}", files.len())))?;
        Ok(Asked::Diff { before, after, output, title })
    }

    fn run(self, words: usize) -> Result<(), Refusal> {
        match self {
            Asked::Record(record) => record.run(words),
            Asked::Diff { before, after, output, title } => {
                let (old, new) = (read_collapsed(&before)?, read_collapsed(&after)?);
                let names = (before.display(), after.display());
                let title = title.unwrap_or_else(|| format!("{} since {}", names.1, names.0));
                let facts = format!("{} samples, before {}; red is more, blue is less", new.samples(), old.samples());
                write(&output, &new.difference(&old, &title, &facts))?;
                say(&format!("{} is written: {facts}", output.display()));
                Ok(())
            }
        }
    }
}

impl Record {
    fn read(words: &[String]) -> Result<Record, Refusal> {
        let (mut pid, mut command) = (None, None);
        let mut record = Record {
            target: Target::Pid(0),
            seconds: None,
            frequency: FREQUENCY,
            output: "flamegraph.svg".into(),
            collapsed: None,
            diff: None,
            unwind: Unwind::Dwarf,
            stack_bytes: STACK_BYTES,
            full_names: false,
            merge_threads: false,
            title: None,
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            if word == "--" {
                command = Some(words.by_ref().cloned().collect::<Vec<_>>());
                break;
            }
            let mut value = || words.next().ok_or_else(|| wrong(format!("{word} needs a value")));
            match word.as_str() {
                "--pid" => pid = Some(number("--pid", value()?, 1, i32::MAX as u64, "the number of a process")? as i32),
                "--seconds" => record.seconds = Some(seconds(value()?)?),
                "--frequency" => {
                    record.frequency = number("--frequency", value()?, 1, FREQUENCY_MAX, "samples per second")?;
                }
                "--output" => record.output = value()?.into(),
                "--collapsed" => record.collapsed = Some(value()?.into()),
                "--diff" => record.diff = Some(value()?.into()),
                "--title" => record.title = Some(value()?.clone()),
                "--stack-kib" => {
                    let (least, most) = (STACK_BYTES_MIN >> 10, STACK_BYTES_MAX >> 10);
                    let kib = number("--stack-kib", value()?, least.into(), most.into(), "KiB of each stack")?;
                    record.stack_bytes = (kib as u32) << 10;
                }
                "--full-names" => record.full_names = true,
                "--merge-threads" => record.merge_threads = true,
                "--unwind" => {
                    record.unwind = match value()?.as_str() {
                        "dwarf" => Unwind::Dwarf,
                        "frame-pointers" => Unwind::FramePointers,
                        other => {
                            return Err(wrong(format!("--unwind: expected dwarf or frame-pointers, found {other:?}")));
                        }
                    };
                }
                other => {
                    return Err(wrong(format!("there is no option {other:?}; COMMAND comes after --; see --help")));
                }
            }
        }
        record.target = match (pid, command) {
            (Some(pid), None) => Target::Pid(pid),
            (None, Some(command)) if !command.is_empty() => Target::Command(command),
            (None, _) => return Err(wrong("record what? Expected --pid PID, or -- COMMAND; see --help")),
            (Some(_), Some(_)) => return Err(wrong("either --pid or -- COMMAND, not both")),
        };
        Ok(record)
    }

    fn run(&self, words: usize) -> Result<(), Refusal> {
        // What cannot work is told before the time is spent.
        let before = self.diff.as_deref().map(read_collapsed).transpose()?;
        check_folder(&self.output)?;
        self.collapsed.as_deref().map_or(Ok(()), check_folder)?;
        check_frequency(self.frequency)?;
        let end = Arc::new(AtomicBool::new(false));
        listen(&end)?;
        let (profile, took, ending) = self.record(words, &end)?;
        if let Some(ending) = ending {
            say(&ending);
        }
        if profile.samples() == 0 {
            return Err(self.nothing(took));
        }
        let names = profile.names();
        let folded = profile.fold(&names, !self.merge_threads, self.full_names);
        let facts = format!(
            "{} samples in {:.1} s, {} per second of {}",
            profile.samples(),
            took.as_secs_f64(),
            self.frequency,
            profile.grant().beat.name()
        );
        let title = self.title.clone().unwrap_or_else(|| self.target_name());
        let picture = match &before {
            Some(before) => folded.difference(before, &title, &(facts.clone() + "; red is more, blue is less")),
            None => folded.flamegraph_about(&title, &facts),
        };
        // The text first: it is what another try at the picture could be made of.
        if let Some(collapsed) = &self.collapsed {
            write(collapsed, folded.collapsed().as_bytes())?;
        }
        write(&self.output, &picture)?;
        for note in profile.notes(&names) {
            say(&note);
        }
        say(&format!("{} is written: {facts}", self.output.display()));
        Ok(())
    }

    /// Samples until it is time to end. What was seen, for how long, and how a COMMAND ended.
    fn record(&self, words: usize, end: &AtomicBool) -> Result<(Profile, Duration, Option<String>), Refusal> {
        let request = |pid, on_exec| Request {
            unwind: self.unwind,
            stack_bytes: self.stack_bytes,
            on_exec,
            ..Request::new(pid, self.frequency)
        };
        match &self.target {
            Target::Pid(pid) => {
                let started = target::started_at(*pid).ok_or_else(|| Refusal::no_process(*pid))?;
                let recording = Recording::start(request(*pid, false))?;
                let seconds = self.seconds.unwrap_or(SECONDS_OF_PID);
                let mut has_ended = false;
                let (profile, took) = sample(recording, Some(seconds), end, || {
                    has_ended = target::started_at(*pid) != Some(started);
                    has_ended
                });
                Ok((profile, took, has_ended.then(|| format!("process {pid} ended after {:.1} s", took.as_secs_f64()))))
            }
            Target::Command(command) => {
                let own: Vec<_> = std::env::args_os().skip(1).collect();
                let paused = Paused::start(&own[..own.len().saturating_sub(words)], command)?;
                let recording = Recording::start(request(paused.pid(), true))?;
                let failed = |error| Refusal::new(Reason::File, format!("{} cannot be continued: {error}", command[0]));
                let mut child = paused.go().map_err(failed)?;
                let mut status = None;
                let (profile, took) = sample(recording, self.seconds, end, || {
                    status = child.try_wait().ok().flatten();
                    status.is_some()
                });
                let ending = match status {
                    Some(status) => target::ending(status),
                    None => self.leave(&mut child, end),
                };
                Ok((profile, took, Some(format!("{} {ending}", command[0]))))
            }
        }
    }

    /// The time is over, or Ctrl-C came, and COMMAND still runs. A Ctrl-C was for it too, so it is given time to end.
    fn leave(&self, child: &mut Child, end: &AtomicBool) -> String {
        let patience = Instant::now() + if end.load(Ordering::Relaxed) { ENDING_MAX } else { Duration::ZERO };
        while Instant::now() < patience {
            if let Ok(Some(status)) = child.try_wait() {
                return target::ending(status);
            }
            std::thread::sleep(DRAIN_EVERY);
        }
        format!("is still running as process {}", child.id())
    }

    fn target_name(&self) -> String {
        match &self.target {
            Target::Pid(pid) => {
                let name = target::thread_name(*pid, *pid).map(|name| format!("{name} "));
                format!("{}(process {pid})", name.unwrap_or_default())
            }
            Target::Command(command) => command.join(" "),
        }
    }

    fn nothing(&self, took: Duration) -> Refusal {
        let why = match &self.target {
            Target::Pid(pid) => format!("process {pid} did not run on a processor"),
            Target::Command(command) => format!("{} did not run on a processor long enough", command[0]),
        };
        let seconds = took.as_secs_f64();
        Refusal::new(
            Reason::NoSamples,
            format!(
                "no samples in {seconds:.1} s: {why}, and waiting is not sampled; give it work, or try --seconds and \
                 --frequency"
            ),
        )
    }
}

/// Samples until the time is over, or `end` is set, or `has_ended` says so.
fn sample(
    mut recording: Recording,
    seconds: Option<f64>,
    end: &AtomicBool,
    mut has_ended: impl FnMut() -> bool,
) -> (Profile, Duration) {
    let began = Instant::now();
    let most = seconds.map(Duration::from_secs_f64);
    loop {
        let left = most.map_or(DRAIN_EVERY, |most| most.saturating_sub(began.elapsed()));
        std::thread::sleep(left.min(DRAIN_EVERY));
        recording.step();
        let is_over = most.is_some_and(|most| began.elapsed() >= most);
        if has_ended() || is_over || end.load(Ordering::Relaxed) {
            return (recording.finish(), began.elapsed());
        }
    }
}

/// Has Ctrl-C and SIGTERM end the recording, and a second one the program.
fn listen(end: &Arc<AtomicBool>) -> Result<(), Refusal> {
    for signal in [SIGINT, SIGTERM] {
        // In this order: the first one finds the flag not set yet.
        flag::register_conditional_shutdown(signal, EXIT_INTERRUPTED, end.clone())
            .and_then(|_| flag::register(signal, end.clone()))
            .map_err(|error| Refusal::new(Reason::Unsupported, format!("signals cannot be listened for: {error}")))?;
    }
    Ok(())
}

/// The kernel has a limit of its own, and lowers it where samples take too long.
fn check_frequency(frequency: u64) -> Result<(), Refusal> {
    let text = fs::read_to_string("/proc/sys/kernel/perf_event_max_sample_rate").unwrap_or_default();
    match text.trim().parse::<u64>() {
        Ok(most) if frequency > most => Err(wrong(format!(
            "--frequency {frequency} is more than this kernel allows, {most}; lower it, or raise \
             kernel.perf_event_max_sample_rate"
        ))),
        _ => Ok(()),
    }
}

fn check_folder(file: &Path) -> Result<(), Refusal> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match fs::metadata(folder) {
        Ok(metadata) if metadata.is_dir() && !file.is_dir() => Ok(()),
        _ => Err(Refusal::new(
            Reason::File,
            format!("{} cannot be written: expected a file in a folder that exists", file.display()),
        )),
    }
}

fn read_collapsed(file: &Path) -> Result<Folded, Refusal> {
    let failed = |why: String| Refusal::new(Reason::File, format!("{}: {why}", file.display()));
    let bytes = fs::metadata(file).map_err(|error| failed(format!("it cannot be read: {error}")))?.len();
    if bytes > COLLAPSED_BYTES_MAX {
        return Err(failed(format!("it has {bytes} bytes, more than {COLLAPSED_BYTES_MAX}")));
    }
    let text = fs::read_to_string(file).map_err(|error| failed(format!("it cannot be read: {error}")))?;
    Folded::read(&text).map_err(|refusal| failed(refusal.sentence))
}

fn write(file: &Path, bytes: &[u8]) -> Result<(), Refusal> {
    fs::write(file, bytes)
        .map_err(|error| Refusal::new(Reason::File, format!("{} cannot be written: {error}", file.display())))
}

fn number(option: &str, text: &str, least: u64, most: u64, what: &str) -> Result<u64, Refusal> {
    let parsed = text.parse().ok().filter(|value| (least..=most).contains(value));
    parsed.ok_or_else(|| wrong(format!("{option}: expected {what} from {least} to {most}, found {text:?}")))
}

fn seconds(text: &str) -> Result<f64, Refusal> {
    let parsed = text.parse().ok().filter(|&value: &f64| value > 0.0 && value <= SECONDS_MAX);
    parsed.ok_or_else(|| wrong(format!("--seconds: expected a number above 0 and up to {SECONDS_MAX}, found {text:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn record(text: &str) -> Record {
        match Asked::read(&words(text)) {
            Ok(Asked::Record(record)) => *record,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn options_are_read() {
        let asked = record("record --pid 12 --seconds 2.5 --frequency 999 --unwind frame-pointers --merge-threads");
        assert_eq!((&asked.target, asked.seconds, asked.frequency), (&Target::Pid(12), Some(2.5), 999));
        assert_eq!((asked.unwind, asked.merge_threads), (Unwind::FramePointers, true));
        let asked = record("record --output a.svg -- ls --pid 3 -h");
        assert_eq!(asked.target, Target::Command(words("ls --pid 3 -h")));
        assert_eq!((asked.output.to_str(), asked.seconds), (Some("a.svg"), None));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let cases = [
            ("", "record or diff"),
            ("rekord", "no \"rekord\""),
            ("record", "record what?"),
            ("record --", "record what?"),
            ("record --pid", "--pid needs a value"),
            ("record --pid x", "--pid: expected"),
            ("record --pid 0", "--pid: expected"),
            ("record --pid 1 -- ls", "not both"),
            ("record --pid 1 --seconds 0", "--seconds: expected"),
            ("record --pid 1 --seconds nan", "--seconds: expected"),
            ("record --pid 1 --frequency 1000000", "from 1 to 10000"),
            ("record --pid 1 --unwind x", "expected dwarf or frame-pointers"),
            ("record --pid 1 --stack-kib 64", "from 1 to 60"),
            ("record ls", "comes after --"),
            ("diff a.txt", "two files"),
            ("diff a.txt b.txt --x", "no option --x"),
        ];
        for (line, part) in cases {
            let refusal = Asked::read(&words(line)).unwrap_err();
            assert_eq!(refusal.reason, Reason::CommandLine, "{line}");
            assert!(refusal.sentence.contains(part), "{line}: {refusal}");
        }
    }
}
