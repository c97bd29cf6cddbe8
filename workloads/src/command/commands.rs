//! The table of commands.

use annulus_perf::command as perf;

use super::table::Group::{Around, Data, Looking, Services};
use super::table::{Does, Entry, Flag, Operand, Takes};
use super::words::unknown;
use super::{check, completion, help, init, run, tools};

/// A configuration in TOML.
const CONFIG: &[Flag] = &[Flag::with("--config", Takes::File("FILE"), "settings in TOML; every key has a default")];
/// The chat's own.
const CHAT: &[Flag] = &[
    Flag::with(
        "--config",
        Takes::File("FILE"),
        "settings in TOML; every key has a default. Or a Centrifugo v6 file in JSON, YAML or TOML, with its CENTRIFUGO_* variables",
    ),
    Flag::switch("--allow-unsupported", "what Centrifugo knows and we do not is told instead of refused"),
];
/// The gateway's own.
const GATEWAY: &[Flag] = &[
    Flag::with(
        "--config",
        Takes::File("FILE"),
        "a KrakenD v3 file in JSON, YAML or TOML; without one there is an echo to look at",
    ),
    Flag::with("--gateway", Takes::File("FILE"), "the same, by the name that it has for run"),
];
/// Of a gateway's file.
const OF_GATEWAYS: &[Flag] = &[
    Flag::switch("--allow-unsupported", "what KrakenD knows and we do not is told instead of refused"),
    Flag::switch("--print-config", "prints the configuration in force, with all defaults, and ends"),
    Flag::switch("--print-openapi", "prints what is offered as an OpenAPI 3.1 document, and ends"),
];
/// `run`'s own.
const RUN: &[Flag] =
    &[Flag::with("--gateway", Takes::File("FILE"), "the gateway's KrakenD v3 file in JSON, YAML or TOML")];
/// The image service's own.
const IMAGE: &[Flag] = &[
    Flag::switch("--plan", "prints every limit with its terms and which one binds, and ends"),
    Flag::with(
        "--measure",
        Takes::Folder("DIR"),
        "with --plan: what the images in DIR take, and the settings that follow",
    ),
];
/// Where data are kept.
const DATA: Flag = Flag::with("--data", Takes::Folder("DIR"), "where everything is kept (./annulus-data)");
/// Where chat listens.
const LISTEN: Flag = Flag::with("--listen", Takes::Text("ADDR"), "the chat's address and port (127.0.0.1:8000)");
/// Where the console listens.
const CONSOLE: Flag =
    Flag::with("--console", Takes::Text("ADDR"), "the console: figures, flamegraphs, stalls (none unless named)");
/// Of `run`.
const PLACES_OF_RUN: &[Flag] =
    &[DATA, LISTEN, Flag { says: "the console: figures, flamegraphs, stalls (127.0.0.1:9900)", ..CONSOLE }];
/// Of `chat`.
const PLACES_OF_CHAT: &[Flag] = &[DATA, LISTEN, CONSOLE];
/// Of `gateway`. The first two are taken so that any service can be started by the same words.
const PLACES_OF_GATEWAY: &[Flag] = &[
    Flag { says: "no effect: a gateway keeps nothing", ..DATA },
    Flag { says: "no effect: its file says listen_ip and port", ..LISTEN },
    CONSOLE,
];
/// Of `image`.
const PLACES_OF_IMAGE: &[Flag] = &[DATA, Flag { says: "its address and port (127.0.0.1:8070)", ..LISTEN }, CONSOLE];
/// How a process of any service is run.
const PROCESS: &[Flag] = &[
    Flag::with("--shards", Takes::Text("N"), "shards, one per core, 1 to 64: as many as there are cores"),
    Flag::with("--pin", Takes::Text("CORE,..."), "the cores to use"),
    Flag::with(
        "--driver",
        Takes::OneOf("NAME", &["auto", "io_uring", "epoll"]),
        "which interface of the kernel's (auto)",
    ),
    Flag::with(
        "--handover",
        Takes::File("PATH"),
        "the socket by which the next release takes over from this one without a failed request: start it with the same words",
    ),
    Flag::with(
        "--user",
        Takes::Text("NAME"),
        "whom the server becomes that root starts, once its ports are open: a name, or UID:GID",
    ),
    Flag::with(
        "--walls",
        Takes::OneOf("NAME", &["auto", "required", "off"]),
        "the kernel's walls around the server: landlock, seccomp (auto)",
    ),
    Flag::with(
        "--log",
        Takes::OneOf("FORM", &["text", "json"]),
        "lines for eyes on standard output, or objects a line on standard error; also ANNULUS_LOG (text)",
    ),
];

/// The log's directory, of both that look at one.
const LOG: &[Operand] = &[Operand::one(
    Takes::Folder("DIR"),
    "the log's directory: chat.log.directory of the service, ./annulus-data/chat/log if not set",
)];

/// Every command.
pub static COMMANDS: &[Entry] = &[
    Entry {
        name: "run",
        group: Services,
        about: "all services: chat (8000), image (8070), gateway (8080) and the console (9900)",
        operands: &[],
        flags: &[CONFIG, RUN, PLACES_OF_RUN, PROCESS],
        more: "Flags win over the file. SIGTERM stops it when all that is under way has ended; SIGHUP has it read its\
               \ngateway's file, certificates and keys again; the image service's certificate is read at its start only.",
        examples: &[
            ("annulus run", "everything on this machine, for this machine"),
            ("annulus run --config annulus.toml --gateway gateway.yaml", "with settings of your own"),
        ],
        does: Does::Words(run::run_all),
    },
    Entry {
        name: "chat",
        group: Services,
        about: "the chat service alone",
        operands: &[],
        flags: &[CHAT, PLACES_OF_CHAT, PROCESS],
        more: "Clients speak Centrifugo's protocol: its SDKs work. Settings: workloads/docs/chat-config.md.",
        examples: &[
            ("annulus init chat", "writes chat.toml, to begin with"),
            ("annulus chat --config chat.toml", "the chat with it"),
        ],
        does: Does::Words(run::chat),
    },
    Entry {
        name: "gateway",
        group: Services,
        about: "the API gateway alone, on a KrakenD v3 file",
        operands: &[],
        flags: &[GATEWAY, OF_GATEWAYS, PLACES_OF_GATEWAY, PROCESS],
        more: "The file is read again when it changes, and on SIGHUP. Settings: workloads/docs/gateway.md.",
        examples: &[
            ("annulus gateway --config gateway.yaml", "the gateway with that file"),
            ("annulus gateway --config gateway.yaml --print-openapi", "what it would offer"),
        ],
        does: Does::Words(run::gateway),
    },
    Entry {
        name: "image",
        group: Services,
        about: "the image service alone: uploads, processing, delivery",
        operands: &[],
        flags: &[CONFIG, PLACES_OF_IMAGE, PROCESS, IMAGE],
        more: "Settings: workloads/docs/image.md.",
        examples: &[
            ("annulus image --config image.toml", "the service with that file"),
            ("annulus image --plan --measure photos", "how large it would be here, and what your images take"),
        ],
        does: Does::Words(run::image),
    },
    Entry {
        name: "init",
        group: Around,
        about: "writes a configuration to begin with, every common key explained",
        operands: &[
            Operand::one(Takes::OneOf("SERVICE", init::KINDS), "what it is for"),
            Operand::maybe(
                Takes::File("PATH"),
                "where to: ./chat.toml, ./image.toml or ./gateway.yaml if not named; -: standard output",
            ),
        ],
        flags: &[],
        more: "A file that is there already is never overwritten.",
        examples: &[("annulus init chat", "writes chat.toml"), ("annulus init gateway - | less", "only to look")],
        does: Does::Words(init::main),
    },
    Entry {
        name: "check",
        group: Around,
        about: "reads a configuration and tells what is wrong with it, and where",
        operands: &[Operand { optional: true, ..Operand::several(Takes::File("FILE"), "files to read") }],
        flags: &[
            &[
                Flag::with(
                    "--as",
                    Takes::OneOf("SERVICE", &["chat", "gateway", "image"]),
                    "whose file it is. Otherwise: ours where TOML has no version, else a gateway's; chat: also Centrifugo's in JSON and YAML",
                ),
                Flag::with("--config", Takes::File("FILE"), "another way to name a file"),
                Flag::with("--gateway", Takes::File("FILE"), "another way to name a gateway's"),
            ],
            OF_GATEWAYS,
        ],
        more: "A gateway's file is told all of its problems, each with line and column; a file of ours is told its first one.\
               \nExit status 1: there are some.",
        examples: &[
            ("annulus check gateway.yaml", "every problem, with line and column"),
            ("annulus check chat.toml image.toml", "both"),
            ("annulus check --as chat centrifugo.json", "a Centrifugo file, as the chat takes it"),
        ],
        does: Does::Words(check::main),
    },
    Entry {
        name: "doctor",
        group: Around,
        about: "whether this machine, and servers that are leaned on, grant what is needed",
        operands: &[],
        flags: &[&[
            Flag::with("--config", Takes::File("FILE"), "run, chat, image: the servers that it names are looked at"),
            Flag::with(
                "--postgres",
                Takes::Text("URL"),
                "version, TLS, what is lost by a crash or failover, tables, connections; may be repeated",
            ),
            Flag::with(
                "--redis",
                Takes::Text("URL"),
                "version, what is lost by a crash or failover, what a full memory does; may be repeated",
            ),
            Flag::with(
                "--s3",
                Takes::Text("URL"),
                "https://HOST/BUCKET[/PREFIX]: whether it can be written, listed and removed from; may be repeated",
            ),
            Flag::switch("--json", "for machines: one object with all findings"),
        ]],
        more: "Each finding has a verdict: yes, it is as it should be; note, it works and somebody should know this; no, it has\
               \nto be changed. Whatever is not yes says how. Exit status 1: something has to be changed.\n\
               \nThe keys of a bucket that --s3 names are read from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.",
        examples: &[
            ("annulus doctor", "this machine"),
            ("annulus doctor --config annulus.toml", "and the servers that a configuration names"),
        ],
        does: Does::Words(tools::doctor),
    },
    Entry {
        name: "completion",
        group: Around,
        about: "prints what lets a shell complete these words",
        operands: &[Operand::one(Takes::OneOf("SHELL", completion::SHELLS), "which shell")],
        flags: &[],
        more: "",
        examples: &[
            ("eval \"$(annulus completion bash)\"", "in ~/.bashrc"),
            ("annulus completion zsh >~/.zfunc/_annulus", "with fpath+=~/.zfunc before compinit in ~/.zshrc"),
            ("annulus completion fish >~/.config/fish/completions/annulus.fish", "for good"),
        ],
        does: Does::Words(completion::main),
    },
    Entry {
        name: "help",
        group: Around,
        about: "all of this, or what there is to say of a command",
        operands: &[Operand { optional: true, ..Operand::several(Takes::Text("COMMAND"), "one or two words") }],
        flags: &[],
        more: "",
        examples: &[],
        does: Does::Words(help::main),
    },
    Entry {
        name: "version",
        group: Around,
        about: "which one this is",
        operands: &[],
        flags: &[],
        more: "",
        examples: &[],
        does: Does::Words(tools::version),
    },
    Entry {
        name: "chat verify-log",
        group: Data,
        about: "whether a chat's log is whole",
        operands: LOG,
        flags: &[],
        more: "It tells what is there and what is damaged, place by place. Exit status 1: it is not whole. It reads only, and\
               \nrefuses while a service uses the log: give it a copy then.",
        examples: &[],
        does: Does::Words(tools::verify_log),
    },
    Entry {
        name: "chat export",
        group: Data,
        about: "the history that a chat's log holds, a line of JSON for each publication",
        operands: LOG,
        flags: &[&[
            Flag::with("--channel", Takes::Text("PREFIX"), "only channels whose names begin so"),
            Flag::with("--since", Takes::Text("OFFSET"), "only publications with a higher offset"),
        ]],
        more: "It reads only, and refuses while a service uses the log: give it a copy then.",
        examples: &[],
        does: Does::Words(tools::export),
    },
    Entry {
        name: "image process",
        group: Data,
        about: "makes smaller, sharper, other images of files",
        operands: &[
            Operand::several(Takes::File("FILE"), "what they are made of"),
            Operand::one(Takes::Folder("FOLDER"), "where outputs are written to, as FILE-NAME.FORMAT"),
        ],
        flags: &[&[
            Flag::with(
                "--preset",
                Takes::OneOf("NAME", &["thumbnail", "web", "web-webp", "avatar", "social", "clean"]),
                "the outputs of a preset",
            ),
            Flag::with(
                "--ops",
                Takes::Text("NAME=OPTIONS"),
                "an output: a name for its file, and imgproxy's options, such as small=rs:fit:256:256/sh:0.5/q:75; may be repeated",
            ),
            Flag::with(
                "--watermark",
                Takes::Text("NAME=FILE"),
                "what wm:... lays over outputs (and wmn:NAME, where there are several); may be repeated",
            ),
            Flag::with(
                "--repeat",
                Takes::Text("N"),
                "make everything N times, with memory that is warm from the second on",
            ),
        ]],
        more: "A line is printed for each output, with its ThumbHash (th) and its BlurHash (bh) where its options ask for them.\
               \nExit status 1: a file could not be made, and standard error says why.",
        examples: &[("annulus image process --preset web photo.jpg out", "photo.jpg as a preset has it, in out/")],
        does: Does::Words(tools::process),
    },
    Entry {
        name: "image sign",
        group: Data,
        about: "prints the signed address of a variant",
        operands: &[
            Operand::one(Takes::Text("ORIGINAL"), "source.key of a job's document, such as 3f0c...e1.original"),
            Operand::maybe(
                Takes::Text("OPTIONS"),
                "what is made of it, such as rs:fill:300:200/f:auto; without any, the original as a clean image",
            ),
        ],
        flags: &[&[
            Flag::with(
                "--config",
                Takes::File("FILE"),
                "the file whose [image.variants] keys sign; the first one does. Without keys there, those in ANNULUS_VARIANT_KEYS",
            ),
            Flag::with(
                "--expires",
                Takes::Text("SECONDS"),
                "how long the address is good from now on; without it, for good",
            ),
            Flag::with("--base", Takes::Text("URL"), "what the address begins with, such as https://img.example.com"),
        ]],
        more: "",
        examples: &[],
        does: Does::Words(tools::sign),
    },
    Entry {
        name: "fetch",
        group: Looking,
        about: "asks servers over HTTP/1.1 and HTTP/2, with the client that the gateway uses",
        operands: &[Operand::several(Takes::Text("URL"), "what to ask; URLs of one origin share a connection")],
        flags: &[&[
            Flag::switch("--http1", "HTTP/1.1 only"),
            Flag::switch("--http2", "HTTP/2 only; https by ALPN"),
            Flag::switch("--h2c", "HTTP/2 without TLS, by prior knowledge"),
            Flag::switch("--insecure", "accept any certificate"),
            Flag { short: "-i", ..Flag::switch("--include", "print status and fields, too") },
            Flag { short: "-f", ..Flag::switch("--fail", "a status of 400 or more is a failure: for health checks") },
            Flag::with("-X", Takes::Text("METHOD"), "the method: GET, or POST with -d"),
            Flag::with("-H", Takes::Text("FIELD"), "a field, as 'Name: value'; may be repeated"),
            Flag::with("-d", Takes::Text("BODY"), "the request's body"),
            Flag::with("--seconds", Takes::Text("N"), "how long all may take (30)"),
        ]],
        more: "Bodies go to standard output in the order of the URLs. Exit status 1: something failed, and standard error says what.",
        examples: &[("annulus fetch -i http://127.0.0.1:8080/__health", "a gateway's word on itself")],
        does: Does::Words(tools::fetch),
    },
    Entry {
        name: "perf",
        group: Looking,
        about: "flamegraphs of any Linux process",
        operands: &[],
        flags: &[],
        more: "",
        examples: &[],
        does: PERF,
    },
    Entry {
        name: "perf record",
        group: Looking,
        about: "samples a process, or a command, into a flamegraph",
        operands: &[Operand {
            optional: true,
            ..Operand::several(Takes::File("-- COMMAND"), "what to run and look at")
        }],
        flags: &[&[
            Flag::with("--pid", Takes::Text("PID"), "a running process: its threads, and what they begin later"),
            Flag::with(
                "--seconds",
                Takes::Text("N"),
                "how long at most: 10 with --pid, otherwise until the command ends",
            ),
            Flag::with("--frequency", Takes::Text("HZ"), "samples per second of a thread that runs (99)"),
            Flag::with("--output", Takes::File("FILE.svg"), "the flamegraph (flamegraph.svg)"),
            Flag::with("--collapsed", Takes::File("FILE"), "the stacks as text besides, for other tools and for diff"),
            Flag::with("--diff", Takes::File("BEFORE.txt"), "colours by what changed since"),
            Flag::with("--unwind", Takes::OneOf("HOW", &["dwarf", "frame-pointers"]), "how stacks are found (dwarf)"),
            Flag::with("--stack-kib", Takes::Text("N"), "how much of each stack is copied for dwarf (16)"),
            Flag::switch("--full-names", "with the types that generic functions and templates are made for"),
            Flag::switch("--merge-threads", "without the threads' names as roots"),
            Flag::with("--title", Takes::Text("TEXT"), "the flamegraph's title"),
        ]],
        more: "",
        examples: &[],
        does: PERF,
    },
    Entry {
        name: "perf diff",
        group: Looking,
        about: "what changed between two recordings, as a flamegraph",
        operands: &[
            Operand::one(Takes::File("BEFORE.txt"), "collapsed stacks"),
            Operand::one(Takes::File("AFTER.txt"), "collapsed stacks"),
        ],
        flags: &[&[
            Flag::with("--output", Takes::File("FILE.svg"), "the flamegraph (flamegraph.svg)"),
            Flag::with("--title", Takes::Text("TEXT"), "the flamegraph's title"),
        ]],
        more: "",
        examples: &[],
        does: PERF,
    },
];

/// A room of its own, which is also a program of its own.
const PERF: Does = Does::Itself { run: perf::main, help: perf::HELP };

/// The command of this name.
pub fn find(name: &str) -> Option<&'static Entry> {
    COMMANDS.iter().find(|entry| entry.name == name)
}

/// The second words that there are after a first one.
pub fn seconds(first: &str) -> impl Iterator<Item = &'static Entry> {
    COMMANDS.iter().filter(move |entry| entry.name.split_once(' ').is_some_and(|(before, _)| before == first))
}

/// Commands of one word.
pub fn firsts() -> impl Iterator<Item = &'static Entry> {
    COMMANDS.iter().filter(|entry| !entry.name.contains(' '))
}

/// The command that words begin with, and how many of them are its name.
///
/// # Errors
/// A sentence: there is none, and which may be meant.
pub fn choose(words: &[String]) -> Result<(&'static Entry, usize), String> {
    let first = match words.first().map(String::as_str) {
        None => return Err("what shall I do? For example: annulus run".to_owned()),
        Some("--help" | "-h") => "help",
        Some("--version" | "-V") => "version",
        Some(first) => first,
    };
    let Some(entry) = find(first) else {
        let known: Vec<&str> = firsts().map(|entry| entry.name).collect();
        return Err(unknown("command", first, &known));
    };
    let Some(second) = words.get(1).filter(|word| !word.starts_with('-') && seconds(first).next().is_some()) else {
        return Ok((entry, 1));
    };
    match (find(&format!("{first} {second}")), entry.does) {
        (Some(entry), _) => Ok((entry, 2)),
        // It knows words that are nobody's business: those by which it starts itself.
        (None, Does::Itself { .. }) => Ok((entry, 1)),
        (None, Does::Words(_)) => {
            let known: Vec<&str> = seconds(first).map(|entry| entry.name).collect();
            Err(unknown("command", &format!("{first} {second}"), &known))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn chosen(line: &str) -> Result<(&'static str, usize), String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        choose(&words).map(|(entry, used)| (entry.name, used))
    }

    #[test]
    fn commands_of_one_word_and_of_two_are_found() {
        assert_eq!(chosen("chat --shards 1"), Ok(("chat", 1)));
        assert_eq!(chosen("chat export x"), Ok(("chat export", 2)));
        assert_eq!(chosen("perf record --pid 1"), Ok(("perf record", 2)));
        assert_eq!(chosen("perf names-of"), Ok(("perf", 1)));
        assert_eq!(chosen("check chat"), Ok(("check", 1)));
        assert_eq!((chosen("-V"), chosen("--help")), (Ok(("version", 1)), Ok(("help", 1))));
        for (line, says) in [
            ("", "annulus run"),
            ("caht", "did you mean chat?"),
            ("chat verfy-log x", "did you mean chat verify-log?"),
            ("image banana", "there are: image process, image sign"),
            ("xyzzyxyzzy", "there are: run, chat, gateway"),
        ] {
            assert!(chosen(line).unwrap_err().contains(says), "{line}: {:?}", chosen(line));
        }
    }

    /// What completes and explains words must not know less, or more, than what reads them.
    #[test]
    fn the_rows_of_perf_are_those_of_its_own_help() {
        let words = perf::HELP.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
        let told: BTreeSet<&str> = words.filter(|word| word.len() > 2 && word.starts_with("--")).collect();
        let known: BTreeSet<&str> = seconds("perf").flat_map(Entry::flags).map(|flag| flag.name).collect();
        assert_eq!(told, known);
        assert_eq!(
            seconds("perf").count(),
            perf::HELP.lines().filter(|line| line.contains("annulus perf ")).count() - 1
        );
    }

    #[test]
    fn no_two_commands_or_flags_are_the_same_and_all_say_something() {
        let names: BTreeSet<&str> = COMMANDS.iter().map(|entry| entry.name).collect();
        assert_eq!(names.len(), COMMANDS.len());
        for entry in COMMANDS {
            let flags: BTreeSet<&str> = entry.flags().flat_map(Flag::spellings).collect();
            assert_eq!(flags.len(), entry.flags().flat_map(Flag::spellings).count(), "{}", entry.name);
            assert!(!entry.about.is_empty() && entry.flags().all(|flag| !flag.says.is_empty()), "{}", entry.name);
            assert!(
                !entry.about.ends_with('.') && entry.flags().all(|flag| !flag.says.ends_with('.')),
                "{}",
                entry.name
            );
        }
    }
}
