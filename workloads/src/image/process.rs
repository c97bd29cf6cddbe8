//! `annulus image process`: the pipeline on files, without a service. For batches, for trying options, and for measuring.
//!
//! ```text
//! annulus image process [--preset NAME] [--watermark NAME=FILE]... [--ops NAME=OPTIONS]... [--repeat N] FILE... FOLDER
//! ```

use std::path::{Path, PathBuf};
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::fault::Fault;
use super::header::{self, Header, Limits, Progress};
use super::lanes::marks::MarkFiles;
use super::options;
use super::pipeline::pixels::Pool;
use super::pipeline::watermark::Marks;
use super::pipeline::{Output, Wanted, Watch, process};
use super::presets::{Presets, is_name};
use super::recipe::Recipe;
use crate::command::Trouble;
use crate::command::words::Words;

/// Bytes of buffers that are kept from one image to the next.
const POOL_BYTES: usize = 512 << 20;

/// What to make, of what.
#[derive(Clone, Debug, PartialEq)]
pub struct Process {
    files: Vec<PathBuf>,
    folder: PathBuf,
    recipes: Vec<Recipe>,
    marks: Marks,
    repeat: u32,
}

impl Process {
    /// Takes the words after `image process`, and reads the watermarks that they name.
    ///
    /// # Errors
    /// What is wrong and what was expected; or a watermark cannot be read.
    pub fn read(words: &Words) -> Result<Process, Trouble> {
        let wrong = |sentence: &str| Trouble::Words(sentence.to_owned());
        let mut files: Vec<PathBuf> = words.operands().iter().map(PathBuf::from).collect();
        let Some(folder) = files.pop().filter(|_| !files.is_empty()) else {
            return Err(wrong("of what, and where to? For example: annulus image process --preset web photo.jpg out"));
        };
        let mut recipes = recipes(words).map_err(Trouble::Words)?;
        if recipes.is_empty() {
            return Err(wrong("what is to be made? For example: --preset web, or --ops small=rs:fit:256:256"));
        }
        let repeat: u32 = words.parsed("--repeat", "a number above 0").map_err(Trouble::Words)?.unwrap_or(1);
        if repeat == 0 {
            return Err(wrong("--repeat 0: expected a number above 0"));
        }
        let watermarks: Result<Vec<_>, _> = words.values("--watermark").map(watermark).collect();
        let marks = MarkFiles::read(&watermarks.map_err(Trouble::Words)?)?;
        let mut presets = Presets::built_in();
        let known = marks.heads().map(|head| (head.name.clone(), head.digest.clone())).collect();
        presets.know_watermarks(known).map_err(|fault| fault.detail)?;
        let resolved = recipes.iter_mut().try_for_each(|recipe| presets.resolve(recipe));
        resolved.map_err(|fault| Trouble::Words(fault.detail))?;
        Ok(Process { files, folder, recipes, marks: marks.decode()?, repeat })
    }

    /// Makes everything. Tells whether all of it could be made.
    pub fn run(&self) -> bool {
        let mut pool = Pool::new(POOL_BYTES);
        let mut is_whole = true;
        for _ in 0..self.repeat {
            for file in &self.files {
                if let Err(sentence) = self.file(file, &mut pool) {
                    eprintln!("annulus image process: {}: {sentence}", file.display());
                    is_whole = false;
                }
            }
        }
        is_whole
    }

    fn file(&self, file: &Path, pool: &mut Pool) -> Result<(), String> {
        let input = std::fs::read(file).map_err(|error| error.to_string())?;
        let header = header_of(&input).map_err(|fault| fault.detail)?;
        let stem = file.file_stem().unwrap_or_default().to_string_lossy();
        let mut lines = Vec::new();
        let mut write = |output: Output| {
            let name = format!("{stem}-{}.{}", self.recipes[output.index].name, output.format.name());
            let path = self.folder.join(name);
            std::fs::write(&path, &output.bytes).map_err(|error| {
                Fault::new(super::fault::Kind::Io, format!("cannot write {}: {error}", path.display()))
            })?;
            let mut line =
                format!("{}: {}x{}, {} bytes", path.display(), output.width, output.height, output.bytes.len());
            if let Some(hash) = output.placeholders.thumbhash {
                line += &format!(", thumbhash {}", STANDARD.encode(hash));
            }
            if let Some(hash) = output.placeholders.blurhash {
                line += &format!(", blurhash {hash}");
            }
            lines.push(line);
            Ok(())
        };
        let started = Instant::now();
        let wanted = Wanted { header: &header, recipes: &self.recipes, marks: &self.marks };
        let timings = process(&input, wanted, pool, &Unhurried, &mut write);
        let timings = timings.map_err(|fault| fault.detail)?;
        lines.iter().for_each(|line| crate::answer!("{line}"));
        crate::answer!(
            "{}: {:.1} ms (decoding {:.1}, transforming {:.1}, encoding {:.1})",
            file.display(),
            started.elapsed().as_secs_f64() * 1e3,
            timings.decode.as_secs_f64() * 1e3,
            timings.transform.as_secs_f64() * 1e3,
            timings.encode.as_secs_f64() * 1e3
        );
        Ok(())
    }
}

/// Ends nothing: whoever waits at a terminal has an interrupt key.
struct Unhurried;

impl Watch for Unhurried {
    fn check(&self) -> Result<(), Fault> {
        Ok(())
    }
}

/// What is asked for, in the order in which it is.
fn recipes(words: &Words) -> Result<Vec<Recipe>, String> {
    let (mut recipes, presets) = (Vec::new(), Presets::built_in());
    for (flag, value) in words.given() {
        match flag {
            "--preset" => recipes.extend_from_slice(presets.get(value).map_err(|fault| fault.detail)?),
            "--ops" => recipes.push(recipe(value)?),
            _ => {}
        }
    }
    Ok(recipes)
}

fn watermark(value: &str) -> Result<(String, PathBuf), String> {
    match value.split_once('=') {
        Some((name, file)) if is_name(name) => Ok((name.to_owned(), PathBuf::from(file))),
        _ => Err(format!("--watermark {value}: expected NAME=FILE, such as logo=logo.png")),
    }
}

fn recipe(value: &str) -> Result<Recipe, String> {
    let Some((name, text)) = value.split_once('=') else {
        return Err(format!("--ops {value}: expected NAME=OPTIONS, such as small=rs:fit:256:256"));
    };
    let harmless = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if name.is_empty() || !name.bytes().all(harmless) {
        return Err(format!("--ops {value}: a name is made of letters, digits, - and _"));
    }
    options::parse(name, text).map_err(|fault| fault.detail)
}

/// The header of a file that is there in whole.
fn header_of(input: &[u8]) -> Result<Header, Fault> {
    match header::read(input, Some(input.len() as u64), &Limits::DEFAULT)? {
        Progress::Header(header) => Ok(header),
        Progress::NeedMore { .. } => Err(Fault::new(super::fault::Kind::BadImage, "the file ends within its header")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::commands::find;
    use crate::command::table::Takes;

    fn read(line: &str) -> Result<Process, Trouble> {
        let words = Words::read(find("image process").unwrap(), line.split_whitespace().map(str::to_owned));
        Process::read(&words.map_err(Trouble::Words)?)
    }

    #[test]
    fn the_table_knows_the_presets() {
        let flag = find("image process").unwrap().flag("--preset").unwrap();
        let Takes::OneOf(_, names) = flag.takes else { panic!("{flag:?}") };
        let presets = Presets::built_in();
        assert!(names.iter().all(|name| presets.get(name).is_ok()));
        assert_eq!(names.len(), presets.names().count());
    }

    #[test]
    fn options_are_read() {
        let process = read("--preset web --ops=tiny=rs:fit:16:16/q:50 --repeat 3 a.jpg b.png out").unwrap();
        assert_eq!((process.files.len(), process.folder, process.repeat), (2, PathBuf::from("out"), 3));
        let names: Vec<_> = process.recipes.iter().map(|recipe| recipe.name.as_str()).collect();
        assert_eq!(names, ["small", "medium", "large", "tiny"]);
        assert_eq!(process.recipes[3].quality, Some(50));
    }

    #[test]
    fn mistakes_are_named() {
        for (line, says) in [
            ("", "--preset web photo.jpg out"),
            ("--preset web a.jpg", "where to"),
            ("a.jpg out", "what is to be made"),
            ("--ops rs:fit:1:1 a.jpg out", "NAME=OPTIONS"),
            ("--ops ../x=rs:fit:1:1 a.jpg out", "letters, digits"),
            ("--preset wbe a.jpg out", "did you mean web?"),
            ("--repeat 0 --preset web a.jpg out", "above 0"),
            ("--size 3 a.jpg out", "there is no option"),
            ("--repeat", "needs a value"),
        ] {
            let Err(Trouble::Words(error)) = read(line) else { panic!("{line}") };
            assert!(error.contains(says), "{line}: {error}");
        }
    }
}
