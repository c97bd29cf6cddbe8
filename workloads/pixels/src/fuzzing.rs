//! Images of any bytes: what the fuzzer tries, and tests with its corpora. Compiled for tests and for the fuzzer only.
//!
//! The targets are in `workloads/fuzz`; what they do is here, so that every `cargo test` tries the corpora.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc)] // A target that panics has found something.

use crate::fault::Fault;
use crate::format::Format;
use crate::header::{self, Apart, Header, Limits, Progress};
use crate::options;
use crate::pipeline::exif::Exif;
use crate::pipeline::pixels::Pool;
use crate::pipeline::watermark::Marks;
use crate::pipeline::{self, Output, Wanted, Watch};
use crate::recipe::Recipe;
use crate::sniff;

/// Small, so that the fuzzer meets them.
const LIMITS: Limits = Limits {
    bytes_max: 1 << 20,
    pixels_max: 1 << 16,
    progressive_pixels_max: 1 << 14,
    side_max: 2048,
    frames_max: 8,
    scans_max: 8,
    icc_bytes_max: 4096,
    metadata_bytes_max: 4096,
    pixels_per_byte_max: 2000,
};

/// Any bytes as the head of an image: within the limits or refused with a sentence, and the same whole and as it arrives. The
/// first byte says how much comes first.
pub fn head(input: &[u8]) {
    let _either_way = is_read(input);
}

fn is_read(input: &[u8]) -> bool {
    let Some((&first, file)) = input.split_first() else { return false };
    let _kind = sniff::sniff(file);
    let whole = match header::read(file, Some(file.len() as u64), &LIMITS) {
        Ok(Progress::Header(header)) => Ok(header),
        Ok(Progress::NeedMore { from, bytes }) => panic!("{bytes} from {from} of a whole file of {}", file.len()),
        Err(fault) => Err(fault),
    };
    match &whole {
        Ok(header) => is_within_limits(header),
        Err(fault) => is_of_the_image(fault),
    }
    for known in [Some(file.len() as u64), None] {
        match arriving(file, usize::from(first), known) {
            // What lies behind the pixels is known only of a whole file, and may be too much.
            Some(Ok(came)) => assert!(whole.as_ref().is_ok_and(|whole| is_same(whole, &came)) || whole.is_err()),
            Some(Err(fault)) => {
                is_of_the_image(&fault);
                assert!(whole.is_err(), "refused as it came, and taken whole: {fault:?}");
            }
            // Where the length is known, no more than it is asked for.
            None => assert!(known.is_none()),
        }
    }
    if let Ok(header) = &whole {
        let recipes = [recipe("w:16/h:16/f:png"), recipe("rs:fill:8:4/f:jpeg")];
        let cost = pipeline::predict(header, &recipes);
        assert!(cost.peak_bytes > 0);
        assert!(header::frames(file, header) >= 1);
    }
    let exif = Exif::read(file);
    let _rights = (exif.rights(), Exif::of_jpeg(file).rights(), pipeline::jpeg::profile(file, 4096));
    whole.is_ok()
}

fn is_within_limits(header: &Header) {
    assert!(header.width >= 1 && header.height >= 1 && header.width.max(header.height) <= LIMITS.side_max);
    assert!(header.pixels() <= LIMITS.pixels_max && header.frames <= LIMITS.frames_max && header.frames >= 1);
    assert!(matches!(header.components, 1 | 3 | 4) && (1..=16).contains(&header.bits));
    assert!(header.coefficient_bytes == 0 || header.pixels() <= LIMITS.progressive_pixels_max);
}

fn is_of_the_image(fault: &Fault) {
    assert!(!fault.is_transient() && !fault.detail.is_empty(), "{fault:?}");
}

fn is_same(a: &Header, b: &Header) -> bool {
    (a.format, a.width, a.height, a.components, a.bits, a.alpha)
        == (b.format, b.width, b.height, b.components, b.bits, b.alpha)
}

/// Gives what is asked for, as an upload would bring it: what lies between is not kept. `None`: the file ended first.
fn arriving(file: &[u8], first: usize, known: Option<u64>) -> Option<Result<Header, Fault>> {
    let (mut start, mut apart, mut len) = (first.min(file.len()), Apart::default(), first.min(file.len()));
    loop {
        match header::read_apart(&file[..start], apart, known, &LIMITS) {
            Ok(Progress::Header(header)) => return Some(Ok(header)),
            Err(fault) => return Some(Err(fault)),
            Ok(Progress::NeedMore { from, bytes }) => {
                let (from, bytes) = (from as usize, bytes as usize);
                assert!(bytes > len, "{bytes} are wanted where {len} are there");
                if bytes > file.len() {
                    return None;
                }
                len = bytes;
                match from {
                    0 => start = len,
                    _ => {
                        assert!(from <= bytes);
                        apart = Apart { at: from, bytes: &file[from..len] };
                    }
                }
            }
        }
    }
}

fn recipe(options: &str) -> Recipe {
    options::parse("fuzz", options).unwrap()
}

/// Stops nothing.
struct Never;

impl Watch for Never {
    fn check(&self) -> Result<(), Fault> {
        Ok(())
    }
}

/// Any bytes as an image that is decoded, made small and encoded: outputs of the size that was asked for, or a refusal. The
/// first byte chooses what is made of it.
pub fn image(input: &[u8]) {
    let _either_way = is_made_small(input);
}

fn is_made_small(input: &[u8]) -> bool {
    let Some((&choice, file)) = input.split_first() else { return false };
    let Ok(Progress::Header(header)) = header::read(file, Some(file.len() as u64), &LIMITS) else { return false };
    let (wanted, width_max, height_max) = match choice % 4 {
        0 => ("w:16/h:16/f:png", 16, 16),
        1 => ("rs:fill:8:4/g:sm/f:jpeg", 8, 4),
        2 => ("rs:force:5:7/f:webp", 5, 7),
        _ => ("w:16/f:png/kcr:1", 16, LIMITS.side_max),
    };
    let recipes = [recipe(wanted)];
    let wanted = Wanted { header: &header, recipes: &recipes, marks: &Marks::default() };
    let mut pool = Pool::new(1 << 20);
    let mut made = Vec::new();
    let mut take = |output: Output| {
        made.push(output);
        Ok(())
    };
    let processed = pipeline::process(file, wanted, &mut pool, &Never, &mut take);
    match &processed {
        Ok(_) => {
            let [output] = &made[..] else { panic!("{} outputs", made.len()) };
            assert!((1..=width_max).contains(&output.width) && (1..=height_max).contains(&output.height), "{header:?}");
            assert!(sniff::sniff(&output.bytes) == Some(sniff::Sniffed::Known(output.format)));
        }
        Err(fault) => is_of_the_image(fault),
    }
    assert!(
        matches!(header.format, Format::Jpeg)
            || pool.peak_bytes() <= pipeline::predict(&header, &recipes).peak_bytes as usize
    );
    processed.is_ok()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    /// How many files of the corpus were taken.
    fn replay(target: &str, body: fn(&[u8]) -> bool) -> usize {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
        let files = fs::read_dir(&corpus).unwrap().map(|entry| entry.unwrap().path());
        let is_taken = |file: &PathBuf| {
            // Captured, and shown with a panic.
            println!("{}", file.display());
            body(&fs::read(file).unwrap())
        };
        files.filter(is_taken).count()
    }

    #[test]
    fn the_corpus_of_heads_is_read_or_refused() {
        assert!(replay("image_head", super::is_read) > 10);
    }

    #[test]
    fn the_corpus_of_images_is_made_small_or_refused() {
        assert!(replay("image", super::is_made_small) > 10);
    }
}
