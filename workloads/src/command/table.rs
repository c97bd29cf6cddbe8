//! What there is to be asked of the program: the shape of the one table that the help, the reader of words, the suggestions,
//! the completion of shells and the reference are made of.

use super::Ended;
use super::words::Words;

/// A command.
pub struct Entry {
    /// As it is asked for: one word, or two.
    pub name: &'static str,
    /// Where the overview shows it.
    pub group: Group,
    /// What it does, in a line.
    pub about: &'static str,
    /// What it takes besides flags, in order.
    pub operands: &'static [Operand],
    /// Its flags, in the order of its help.
    pub flags: &'static [&'static [Flag]],
    /// What else its help says, in paragraphs.
    pub more: &'static str,
    /// What one may try: a command line, and what it does.
    pub examples: &'static [(&'static str, &'static str)],
    /// Does it.
    pub does: Does,
}

/// How a command comes to its words.
#[derive(Clone, Copy)]
pub enum Does {
    /// They are read by the table.
    Words(fn(&Words) -> Ended),
    /// It reads them itself, and has a help of its own, because another program has the same: see `annulus-perf`.
    Itself {
        /// Does it, with the words after its first.
        run: fn(Vec<String>) -> std::process::ExitCode,
        /// Its help.
        help: &'static str,
    },
}

/// Where the overview shows a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// What serves.
    Services,
    /// What is done before and around serving.
    Around,
    /// What looks at data, or makes some, without a service.
    Data,
    /// What looks at servers and processes.
    Looking,
}

impl Group {
    /// All, in the order of the overview.
    pub const ALL: [Group; 4] = [Group::Services, Group::Around, Group::Data, Group::Looking];

    /// Its title.
    pub fn title(self) -> &'static str {
        match self {
            Group::Services => "services",
            Group::Around => "before and around them",
            Group::Data => "files, without a service",
            Group::Looking => "looking at servers and processes",
        }
    }
}

/// What a flag, or an operand, takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// Nothing: it is there or not.
    Nothing,
    /// Any text, which the help calls so.
    Text(&'static str),
    /// A file's path.
    File(&'static str),
    /// A folder's path.
    Folder(&'static str),
    /// One of these words.
    OneOf(&'static str, &'static [&'static str]),
}

impl Takes {
    /// What the help calls it.
    pub fn called(self) -> Option<&'static str> {
        match self {
            Takes::Nothing => None,
            Takes::Text(name) | Takes::File(name) | Takes::Folder(name) | Takes::OneOf(name, _) => Some(name),
        }
    }
}

/// A flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flag {
    /// As it is written: the long form, or the only one.
    pub name: &'static str,
    /// Another way to write it, or nothing.
    pub short: &'static str,
    /// What comes after it.
    pub takes: Takes,
    /// What it is for.
    pub says: &'static str,
}

impl Flag {
    /// A switch.
    pub const fn switch(name: &'static str, says: &'static str) -> Flag {
        Flag { name, short: "", takes: Takes::Nothing, says }
    }

    /// One with a value.
    pub const fn with(name: &'static str, takes: Takes, says: &'static str) -> Flag {
        Flag { name, short: "", takes, says }
    }

    /// All ways to write it.
    pub fn spellings(&self) -> impl Iterator<Item = &'static str> {
        [self.short, self.name].into_iter().filter(|spelling| !spelling.is_empty())
    }
}

/// What a command takes besides flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operand {
    /// What it is.
    pub takes: Takes,
    /// What it is for.
    pub says: &'static str,
    /// Whether it may be left out.
    pub optional: bool,
    /// Whether there may be several.
    pub several: bool,
}

impl Operand {
    /// One that has to be there.
    pub const fn one(takes: Takes, says: &'static str) -> Operand {
        Operand { takes, says, optional: false, several: false }
    }

    /// One that may be left out.
    pub const fn maybe(takes: Takes, says: &'static str) -> Operand {
        Operand { optional: true, ..Operand::one(takes, says) }
    }

    /// One or more.
    pub const fn several(takes: Takes, says: &'static str) -> Operand {
        Operand { several: true, ..Operand::one(takes, says) }
    }

    /// As a line of usage shows it.
    pub fn shown(&self) -> String {
        let name = match self.takes {
            Takes::OneOf(_, words) => words.join("|"),
            takes => takes.called().unwrap_or_default().to_owned(),
        };
        let dots = if self.several { "..." } else { "" };
        if self.optional { format!("[{name}{dots}]") } else { format!("{name}{dots}") }
    }
}

impl Entry {
    /// All of its flags.
    pub fn flags(&self) -> impl Iterator<Item = &'static Flag> {
        self.flags.iter().copied().flatten()
    }

    /// The flag that is written so.
    pub fn flag(&self, spelling: &str) -> Option<&'static Flag> {
        self.flags().find(|flag| flag.spellings().any(|known| known == spelling))
    }

    /// How it is written, in a line.
    pub fn usage(&self) -> String {
        let flags = if self.flags().next().is_some() { " [options]" } else { "" };
        let operands: String = self.operands.iter().map(|operand| format!(" {}", operand.shown())).collect();
        format!("annulus {}{flags}{operands}", self.name)
    }
}
