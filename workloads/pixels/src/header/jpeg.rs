//! JPEG (ITU-T T.81 annex B): segments up to the first scan, and the scans counted when the whole file is there.

use super::bytes::{Head, Pause, bad, unsupported};
use super::{Header, Limits};
use crate::format::Format;
use crate::pipeline::exif::Exif;

const SOI: u8 = 0xD8;
const EOI: u8 = 0xD9;
const SOS: u8 = 0xDA;
const DHT: u8 = 0xC4;
const JPG: u8 = 0xC8;
const DAC: u8 = 0xCC;
const TEM: u8 = 0x01;
pub(crate) const APP1: u8 = 0xE1;
const APP2: u8 = 0xE2;
const APP15: u8 = 0xEF;
const APP0: u8 = 0xE0;
const COM: u8 = 0xFE;

/// The segments of a JPEG in their order, each with its marker and payload, up to and with the first scan's header.
pub(crate) struct Segments<'a> {
    head: Head<'a>,
    at: u64,
}

impl<'a> Segments<'a> {
    /// Of a whole file.
    pub(crate) fn of(file: &'a [u8]) -> Segments<'a> {
        Segments { head: Head::of(file), at: 2 }
    }

    /// The marker and where its payload lies. A scan's entropy-coded data, which follow its payload, are skipped as what
    /// any decoder skips: bytes that are no marker.
    fn next_segment(&mut self) -> Result<(u8, u64, u64), Pause> {
        loop {
            let marker = self.next_marker()?;
            if matches!(marker, TEM | 0xD0..=SOI) {
                continue;
            }
            if marker == EOI {
                return Ok((EOI, self.at, 0));
            }
            let len = u64::from(self.head.be16(self.at)?);
            if len < 2 {
                return Err(bad(format!(
                    "the jpeg has a segment (marker FF{marker:02X}) that is shorter than its length"
                )));
            }
            let payload = self.at + 2;
            self.at += len;
            return Ok((marker, payload, len - 2));
        }
    }

    /// Skips to behind the next marker. `FF00` is a stuffed byte and `FFFF` fills (T.81 section B.1.1.2).
    fn next_marker(&mut self) -> Result<u8, Pause> {
        let bytes = self.head.bytes;
        let mut at = usize::try_from(self.at).unwrap_or(usize::MAX);
        loop {
            let rest = bytes.get(at..).unwrap_or(&[]);
            let Some(skip) = rest.iter().position(|&byte| byte == 0xFF) else {
                return Err(Pause::More(bytes.len().max(at) as u64 + 2));
            };
            at += skip + 1;
            match bytes.get(at) {
                None => return Err(Pause::More(at as u64 + 1)),
                Some(0 | 0xFF) => {}
                Some(&marker) => {
                    self.at = at as u64 + 1;
                    return Ok(marker);
                }
            }
        }
    }
}

impl<'a> Iterator for Segments<'a> {
    type Item = (u8, &'a [u8]);

    /// The marker and payload of the next segment before the first scan that lies wholly in the file.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (marker, at, len) = self.next_segment().ok()?;
        if matches!(marker, SOS | EOI) {
            return None;
        }
        Some((marker, self.head.slice(at, len).ok()?))
    }
}

pub(super) fn read(head: Head<'_>, limits: &Limits) -> Result<Header, Pause> {
    let mut segments = Segments { head, at: 2 };
    let (mut icc, mut metadata) = (0, 0);
    let mut orientation = None;
    let mut frame: Option<Frame> = None;
    loop {
        let (marker, at, len) = segments.next_segment()?;
        match marker {
            APP0..=APP15 | COM => {
                let payload = |most: u64| head.slice(at, len.min(most));
                if marker == APP2 && payload(12)?.starts_with(b"ICC_PROFILE\0") {
                    icc += len;
                    limits.check_icc(icc)?;
                    continue;
                }
                metadata += len;
                limits.check_metadata(metadata)?;
                if marker == APP1 && orientation.is_none() && payload(6)? == b"Exif\0\0" {
                    orientation = Some(Exif::read(payload(len)?).orientation);
                }
            }
            0xC0..=0xCF if !matches!(marker, DHT | JPG | DAC) => {
                if frame.is_some() {
                    return Err(bad("the jpeg has two frame headers"));
                }
                frame = Some(Frame::read(marker, head.slice(at, len)?)?);
            }
            SOS => {
                let Some(frame) = frame else { return Err(bad("the jpeg has a scan before its frame header")) };
                let in_scan = head.u8(at)?;
                let header = frame.header(in_scan, orientation.unwrap_or_default());
                if header.coefficient_bytes > 0 && head.whole {
                    count_scans(segments, limits)?;
                }
                return Ok(header);
            }
            EOI => return Err(bad("the jpeg ends before its first scan")),
            _ => {}
        }
    }
}

/// Counts scans from behind the first scan's header to the end of the file, or until they are too many.
fn count_scans(mut segments: Segments<'_>, limits: &Limits) -> Result<(), Pause> {
    let mut scans = 1;
    // A file that ends without an end marker is for the decoder to judge.
    while let Ok((marker, ..)) = segments.next_segment() {
        match marker {
            SOS => {
                scans += 1;
                limits.check_scans(scans)?;
            }
            EOI => break,
            _ => {}
        }
    }
    Ok(())
}

/// What the frame header says (T.81 section B.2.2).
struct Frame {
    width: u32,
    height: u32,
    components: u8,
    progressive: bool,
    /// Coefficients per pixel times two, because each takes two bytes; rounded up.
    coefficient_bytes: u8,
}

impl Frame {
    fn read(marker: u8, payload: &[u8]) -> Result<Frame, Pause> {
        let kind = match marker {
            0xC0..=0xC2 => None,
            0xC3 => Some("a lossless JPEG"),
            0xC5..=0xC7 => Some("a hierarchical JPEG"),
            0xC9..=0xCB => Some("a JPEG with arithmetic coding"),
            _ => Some("a JPEG of a rare kind"),
        };
        if let Some(kind) = kind {
            return Err(unsupported(format!(
                "this is {kind} (marker FF{marker:02X}), which hardly any program reads. \
                 Save it as a baseline or progressive JPEG."
            )));
        }
        let &[precision, h1, h0, w1, w0, components, ref rest @ ..] = payload else {
            return Err(bad("the jpeg's frame header is too short"));
        };
        if precision != 8 {
            return Err(unsupported(format!("this JPEG has {precision} bits per sample; only 8 are supported.")));
        }
        let (width, height) = (u16::from_be_bytes([w1, w0]), u16::from_be_bytes([h1, h0]));
        if width == 0 || height == 0 {
            return Err(bad(format!("the jpeg says that it is {width}x{height} pixels large")));
        }
        if !matches!(components, 1 | 3 | 4) {
            return Err(unsupported(format!("this JPEG has {components} components; 1, 3 and 4 are supported.")));
        }
        let samplings = rest.chunks_exact(3).map(|component| (component[1] >> 4, component[1] & 15));
        let samplings: Vec<(u8, u8)> = samplings.take(usize::from(components)).collect();
        if samplings.len() < usize::from(components) {
            return Err(bad("the jpeg's frame header is too short"));
        }
        if samplings.iter().any(|&(h, v)| !(1..=4).contains(&h) || !(1..=4).contains(&v)) {
            return Err(bad("the jpeg's sampling factors are not between 1 and 4"));
        }
        let most = |of: fn(&(u8, u8)) -> u8| u32::from(samplings.iter().map(of).max().unwrap_or(1));
        let blocks: u32 = samplings.iter().map(|&(h, v)| u32::from(h) * u32::from(v)).sum();
        let coefficient_bytes = (2 * blocks).div_ceil(most(|s| s.0) * most(|s| s.1)) as u8;
        Ok(Frame {
            width: width.into(),
            height: height.into(),
            components,
            progressive: marker == 0xC2,
            coefficient_bytes,
        })
    }

    /// A sequential JPEG whose first scan holds only some of its components has more scans, and its decoder keeps all
    /// coefficients as for a progressive one.
    fn header(self, in_scan: u8, orientation: super::Orientation) -> Header {
        let several = self.progressive || in_scan < self.components;
        Header {
            format: Format::Jpeg,
            width: self.width,
            height: self.height,
            components: self.components,
            bits: 8,
            alpha: false,
            frames: 1,
            coefficient_bytes: if several { self.coefficient_bytes } else { 0 },
            orientation,
        }
    }
}
