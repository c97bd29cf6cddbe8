//! AVIF: the boxes of an image file (ISO/IEC 14496-12, 23008-12 and 23000-22, and AOM's AV1 image file format) as far as a
//! still image needs them. The pixels themselves are a stream of AV1 in one or several items; nothing of it is read here.
//!
//! ```text
//!   ftyp │ meta ┬ pitm: which item is the image          iloc: where the bytes of items lie
//!        │      ├ iref: which item is its alpha          iinf: which items are AV1, which are grids of others
//!        │      └ iprp ┬ ipco: properties, numbered      (size, colours, turns, bits)
//!        │             └ ipma: which item has which
//! ```
//!
//! Every box lies in its parent, every list is bounded by the bytes that hold it, and only the items that the image
//! needs are kept: at most [`ITEMS_MAX`].

use std::collections::BTreeMap;
use std::ops::Range;

use super::bytes::{Head, Pause, bad, unsupported};
use super::{Header, Limits, Orientation};
use crate::format::Format;

/// Items that one image may be made of: the tiles of its grid, those of its alpha, and both themselves.
const ITEMS_MAX: usize = 600;
/// Pieces that the items lie in, together.
const EXTENTS_MAX: usize = 4096;
/// Properties in the file.
const PROPERTIES_MAX: usize = 4096;
/// Properties of one item.
const ITEM_PROPERTIES_MAX: usize = 64;

/// An image as its boxes describe it.
#[derive(Clone, Debug)]
pub(crate) struct Avif {
    pub(crate) color: Item,
    pub(crate) alpha: Option<Item>,
    /// Whether colours have been multiplied by alpha already.
    pub(crate) premultiplied: bool,
    pub(crate) colors: Colors,
    pub(crate) orientation: Orientation,
}

/// Colours or alpha: one AV1 image, or a grid of them.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) bits: u8,
    pub(crate) monochrome: bool,
    /// Where the grid's own description lies, for a grid.
    pub(crate) grid: Option<Vec<Range<u64>>>,
    /// Where each AV1 image lies: one, or those of the grid row by row.
    pub(crate) tiles: Vec<Vec<Range<u64>>>,
}

/// What the boxes say of colours. An ICC profile goes before numbers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Colors {
    /// Primaries, transfer, matrix (ITU-T H.273), and whether the range is full.
    pub(crate) nclx: Option<(u16, u16, u16, bool)>,
    /// Where the ICC profile lies.
    pub(crate) icc: Option<Range<usize>>,
}

pub(super) fn read(head: Head<'_>, limits: &Limits) -> Result<Header, Pause> {
    let avif = Avif::parse(head, limits)?;
    Ok(Header {
        format: Format::Avif,
        width: avif.color.width,
        height: avif.color.height,
        components: if avif.color.monochrome { 1 } else { 3 },
        bits: avif.color.bits,
        alpha: avif.alpha.is_some(),
        frames: 1,
        coefficient_bytes: 0,
        orientation: avif.orientation,
    })
}

impl Avif {
    /// Of a whole file that [`super::read`] has accepted.
    pub(crate) fn of(file: &[u8]) -> Option<Avif> {
        let limits = Limits { metadata_bytes_max: u32::MAX, icc_bytes_max: u32::MAX, ..Limits::DEFAULT };
        Avif::parse(Head::of(file), &limits).ok()
    }

    fn parse(head: Head<'_>, limits: &Limits) -> Result<Avif, Pause> {
        let boxes = Boxes::find(head, limits)?;
        Meta::read(&boxes)?.image(&boxes, limits)
    }
}

/// A part of the file with reads that cannot leave it.
#[derive(Clone, Copy)]
struct Part<'a> {
    bytes: &'a [u8],
    /// Where it begins in the file.
    start: usize,
}

impl<'a> Part<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], Pause> {
        let Some((taken, rest)) = self.bytes.split_at_checked(len) else {
            return Err(bad("the avif has a box whose content is longer than the box"));
        };
        self.bytes = rest;
        self.start += len;
        Ok(taken)
    }

    /// A big-endian number of 0 to 8 bytes.
    fn number(&mut self, len: usize) -> Result<u64, Pause> {
        Ok(self.take(len)?.iter().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    /// The version and flags of a full box.
    fn version(&mut self) -> Result<(u8, u32), Pause> {
        let word = self.number(4)? as u32;
        Ok(((word >> 24) as u8, word & 0xFF_FFFF))
    }

    /// An item's id, which later versions of a box hold in four bytes.
    fn id(&mut self, wide: bool) -> Result<u32, Pause> {
        Ok(self.number(if wide { 4 } else { 2 })? as u32)
    }

    /// The next box inside, or none at the end.
    fn next_box(&mut self) -> Result<Option<([u8; 4], Part<'a>)>, Pause> {
        if self.bytes.is_empty() {
            return Ok(None);
        }
        let rest = self.bytes.len() as u64;
        let short = self.number(4)?;
        let kind = self.take(4)?;
        let kind = [kind[0], kind[1], kind[2], kind[3]];
        let len = match short {
            0 => rest - 8,
            1 => self.number(8)?.wrapping_sub(16),
            len => len.wrapping_sub(8),
        };
        let start = self.start;
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let bytes = self.take(len)?;
        Ok(Some((kind, Part { bytes, start })))
    }
}

/// The boxes that matter, found once.
struct Boxes<'a> {
    pitm: Part<'a>,
    iloc: Part<'a>,
    iinf: Part<'a>,
    iref: Option<Part<'a>>,
    idat: Option<Part<'a>>,
    properties: Vec<([u8; 4], Part<'a>)>,
    associations: Vec<Part<'a>>,
}

impl<'a> Boxes<'a> {
    fn find(head: Head<'a>, limits: &Limits) -> Result<Boxes<'a>, Pause> {
        let mut meta = meta(head, limits)?;
        meta.version()?;
        let (mut pitm, mut iloc, mut iinf, mut iref, mut idat) = (None, None, None, None, None);
        let (mut properties, mut associations) = (Vec::new(), Vec::new());
        while let Some((kind, part)) = meta.next_box()? {
            match &kind {
                b"pitm" => pitm = Some(part),
                b"iloc" => iloc = Some(part),
                b"iinf" => iinf = Some(part),
                b"iref" => iref = Some(part),
                b"idat" => idat = Some(part),
                b"iprp" => {
                    let mut inside = part;
                    while let Some((kind, mut part)) = inside.next_box()? {
                        match &kind {
                            b"ipco" => {
                                while let Some(property) = part.next_box()? {
                                    properties.push(property);
                                    if properties.len() > PROPERTIES_MAX {
                                        return Err(bad(format!("the avif has more than {PROPERTIES_MAX} properties")));
                                    }
                                }
                            }
                            b"ipma" if associations.len() < ITEM_PROPERTIES_MAX => associations.push(part),
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        let need = |part: Option<Part<'a>>, name| part.ok_or_else(|| bad(format!("the avif has no {name} box")));
        Ok(Boxes {
            pitm: need(pitm, "pitm")?,
            iloc: need(iloc, "iloc")?,
            iinf: need(iinf, "iinf")?,
            iref,
            idat,
            properties,
            associations,
        })
    }
}

/// The content of the `meta` box, wherever at the top it lies.
fn meta<'a>(head: Head<'a>, limits: &Limits) -> Result<Part<'a>, Pause> {
    let mut at = 0u64;
    loop {
        let short = u64::from(head.be32(at)?);
        let kind = head.array::<4>(at + 4)?;
        let (header, len) = match short {
            0 if kind != *b"meta" => return Err(bad("the avif has no meta box")),
            0 if !head.whole => return Err(Pause::More(u64::MAX)),
            0 => (8, head.bytes.len() as u64 - at),
            1 => (16, u64::from(head.be32(at + 8)?) << 32 | u64::from(head.be32(at + 12)?)),
            len => (8, len),
        };
        if len < header {
            return Err(bad("the avif has a box that is shorter than its own header"));
        }
        if kind == *b"meta" {
            let most = u64::from(limits.metadata_bytes_max) + u64::from(limits.icc_bytes_max);
            super::within("its meta box", "bytes", len, most, "metadata_bytes_max with icc_bytes_max")?;
            let bytes = head.slice(at + header, len - header)?;
            return Ok(Part { bytes, start: (at + header) as usize });
        }
        at = at.saturating_add(len);
    }
}

/// One item, as far as it is known.
#[derive(Default)]
struct Facts {
    kind: [u8; 4],
    extents: Vec<Range<u64>>,
    /// Numbers of properties from 1, and whether they must be understood.
    properties: Vec<(usize, bool)>,
}

/// The items that the image may need.
struct Meta {
    primary: u32,
    /// Auxiliary images of the primary one; which of them is the alpha, their properties say.
    auxiliaries: Vec<u32>,
    premultiplied: bool,
    /// What each grid among them is made of.
    tiles: BTreeMap<u32, Vec<u32>>,
    items: BTreeMap<u32, Facts>,
}

impl Meta {
    fn read(boxes: &Boxes<'_>) -> Result<Meta, Pause> {
        let mut pitm = boxes.pitm;
        let wide = pitm.version()?.0 > 0;
        let primary = pitm.id(wide)?;
        let mut meta = Meta {
            primary,
            auxiliaries: Vec::new(),
            premultiplied: false,
            tiles: BTreeMap::new(),
            items: BTreeMap::new(),
        };
        meta.relations(boxes)?;
        meta.kinds(boxes.iinf)?;
        meta.locations(boxes)?;
        for part in &boxes.associations {
            meta.associations(*part)?;
        }
        Ok(meta)
    }

    /// `iref`: first what belongs to the primary item, then what those are made of.
    fn relations(&mut self, boxes: &Boxes<'_>) -> Result<(), Pause> {
        for second in [false, true] {
            let Some(mut iref) = boxes.iref else { break };
            let wide = iref.version()?.0 > 0;
            while let Some((kind, mut part)) = iref.next_box()? {
                let from = part.id(wide)?;
                let count = part.number(2)?;
                let wanted = match &kind {
                    b"auxl" | b"prem" => !second,
                    b"dimg" => second && (from == self.primary || self.auxiliaries.contains(&from)),
                    _ => false,
                };
                if !wanted {
                    continue;
                }
                let mut to = Vec::new();
                for _ in 0..count {
                    to.push(part.id(wide)?);
                }
                match &kind {
                    b"auxl" if to.contains(&self.primary) && self.auxiliaries.len() < 8 => self.auxiliaries.push(from),
                    b"prem" if from == self.primary => self.premultiplied = true,
                    b"dimg" => _ = self.tiles.insert(from, to),
                    _ => {}
                }
            }
        }
        self.items.insert(self.primary, Facts::default());
        let needed = self.auxiliaries.iter().chain(self.tiles.values().flatten());
        for &id in needed {
            self.items.insert(id, Facts::default());
            if self.items.len() > ITEMS_MAX {
                return Err(unsupported(format!("this AVIF is made of more than {ITEMS_MAX} images")));
            }
        }
        Ok(())
    }

    fn kinds(&mut self, mut iinf: Part<'_>) -> Result<(), Pause> {
        let version = iinf.version()?.0;
        iinf.number(if version == 0 { 2 } else { 4 })?;
        while let Some((kind, mut part)) = iinf.next_box()? {
            if kind != *b"infe" {
                continue;
            }
            let version = part.version()?.0;
            if version < 2 {
                continue;
            }
            let id = part.id(version > 2)?;
            part.number(2)?;
            if let Some(item) = self.items.get_mut(&id) {
                item.kind.copy_from_slice(part.take(4)?);
            }
        }
        Ok(())
    }

    fn locations(&mut self, boxes: &Boxes<'_>) -> Result<(), Pause> {
        let mut iloc = boxes.iloc;
        let version = iloc.version()?.0;
        let sizes = iloc.number(2)? as usize;
        let [offset_len, length_len, base_len, index_len] =
            [sizes >> 12, sizes >> 8, sizes >> 4, sizes].map(|s| s & 15);
        let index_len = if version == 0 { 0 } else { index_len };
        if [offset_len, length_len, base_len, index_len].iter().any(|len| !matches!(len, 0 | 4 | 8)) {
            return Err(bad("the avif's iloc box has numbers of a size that does not exist"));
        }
        let count = iloc.number(if version < 2 { 2 } else { 4 })?;
        let mut kept = 0;
        for _ in 0..count {
            let id = iloc.id(version >= 2)?;
            let method = if version == 0 { 0 } else { iloc.number(2)? & 15 };
            let elsewhere = iloc.number(2)? != 0;
            let base = iloc.number(base_len)?;
            let extents = iloc.number(2)?;
            let item = self.items.get_mut(&id);
            let (base, end) = match (method, &boxes.idat) {
                (0, _) if !elsewhere => (base, u64::MAX),
                (1, Some(idat)) => (base.saturating_add(idat.start as u64), (idat.start + idat.bytes.len()) as u64),
                _ if item.is_none() => (0, 0),
                _ => return Err(unsupported("this AVIF keeps its pixels in another file or item")),
            };
            let mut ranges = Vec::new();
            for _ in 0..extents {
                iloc.number(index_len)?;
                let start = base.saturating_add(iloc.number(offset_len)?);
                let len = iloc.number(length_len)?;
                if item.is_some() {
                    // No length means up to the end.
                    ranges.push(start..if len == 0 { end } else { start.saturating_add(len).min(end) });
                    kept += 1;
                    if kept > EXTENTS_MAX {
                        return Err(unsupported(format!("this AVIF is cut into more than {EXTENTS_MAX} pieces")));
                    }
                }
            }
            if let Some(item) = item {
                item.extents = ranges;
            }
        }
        Ok(())
    }

    fn associations(&mut self, mut ipma: Part<'_>) -> Result<(), Pause> {
        let (version, flags) = ipma.version()?;
        let count = ipma.number(4)?;
        for _ in 0..count {
            let id = ipma.id(version > 0)?;
            let properties = ipma.number(1)?;
            for _ in 0..properties {
                let (number, essential) = match flags & 1 {
                    0 => ipma.number(1).map(|byte| (byte & 0x7F, byte & 0x80 != 0))?,
                    _ => ipma.number(2).map(|word| (word & 0x7FFF, word & 0x8000 != 0))?,
                };
                if let Some(item) = self.items.get_mut(&id)
                    && item.properties.len() < ITEM_PROPERTIES_MAX
                {
                    item.properties.push((number as usize, essential));
                }
            }
        }
        Ok(())
    }

    fn image(self, boxes: &Boxes<'_>, limits: &Limits) -> Result<Avif, Pause> {
        let color = self.item(self.primary, boxes)?;
        let alpha = self.auxiliaries.iter().find(|&&id| self.is_alpha(id, boxes));
        let alpha = alpha.map(|&id| self.item(id, boxes)).transpose()?;
        if let Some(alpha) = &alpha
            && (alpha.width, alpha.height) != (color.width, color.height)
        {
            return Err(unsupported("this AVIF has an alpha of another size than its colours"));
        }
        let mut colors = Colors::default();
        // A grid's colours may be said of the grid or of its tiles.
        let tile = self.tiles.get(&self.primary).and_then(|tiles| tiles.first());
        for id in [Some(&self.primary), tile].into_iter().flatten() {
            for (_, part) in self.properties(*id, boxes).filter(|(kind, _)| kind == b"colr") {
                read_colors(part, &mut colors, limits)?;
            }
        }
        Ok(Avif { color, alpha, premultiplied: self.premultiplied, colors, orientation: self.orientation(boxes)? })
    }

    fn properties<'b>(&'b self, id: u32, boxes: &'b Boxes<'_>) -> impl Iterator<Item = ([u8; 4], Part<'b>)> {
        let numbers = self.items.get(&id).map_or(&[][..], |item| &item.properties);
        numbers.iter().filter_map(|(number, _)| boxes.properties.get(number.checked_sub(1)?).copied())
    }

    fn is_alpha(&self, id: u32, boxes: &Boxes<'_>) -> bool {
        self.properties(id, boxes).any(|(kind, part)| {
            let name = part.bytes.get(4..).unwrap_or(&[]).split(|&byte| byte == 0).next();
            kind == *b"auxC"
                && matches!(name, Some(b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha" | b"urn:mpeg:hevc:2015:auxid:1"))
        })
    }

    fn item(&self, id: u32, boxes: &Boxes<'_>) -> Result<Item, Pause> {
        let facts = self.items.get(&id).ok_or_else(|| bad("the avif's image is no item of the file"))?;
        let (tiles, grid) = match (&facts.kind, self.tiles.get(&id)) {
            (b"av01", _) => (vec![id], None),
            (b"grid", Some(tiles)) if !tiles.is_empty() => (tiles.clone(), Some(facts.extents.clone())),
            (kind, _) => {
                let kind = kind.escape_ascii();
                return Err(unsupported(format!("this file's image is of the kind \"{kind}\"; only AV1 is supported")));
            }
        };
        self.check_essential(id, boxes)?;
        let size = |id| self.properties(id, boxes).find(|(kind, _)| kind == b"ispe");
        let Some((_, mut ispe)) = size(id) else { return Err(bad("the avif does not say how large its image is")) };
        ispe.version()?;
        let (width, height) = (ispe.number(4)? as u32, ispe.number(4)? as u32);
        if width == 0 || height == 0 {
            return Err(bad(format!("the avif says that it is {width}x{height} pixels large")));
        }
        let config = self.properties(tiles[0], boxes).find(|(kind, _)| kind == b"av1C");
        let Some((_, mut config)) = config else { return Err(bad("the avif does not say how its AV1 is configured")) };
        let flags = config.number(4)? >> 8;
        let bits = match (flags & 0x40 != 0, flags & 0x20 != 0) {
            (false, _) => 8,
            (true, false) => 10,
            (true, true) => 12,
        };
        let extents = |id: &u32| self.items.get(id).map(|item| item.extents.clone()).unwrap_or_default();
        Ok(Item {
            width,
            height,
            bits,
            monochrome: flags & 0x10 != 0,
            grid,
            tiles: tiles.iter().map(extents).collect(),
        })
    }

    /// What must be understood and is not makes the image another one (23008-12 section 9.3.1).
    fn check_essential(&self, id: u32, boxes: &Boxes<'_>) -> Result<(), Pause> {
        const UNDERSTOOD: [&[u8; 4]; 11] =
            [b"ispe", b"pixi", b"av1C", b"irot", b"imir", b"clap", b"colr", b"auxC", b"pasp", b"a1op", b"a1lx"];
        for (number, essential) in &self.items[&id].properties {
            let property = number.checked_sub(1).and_then(|at| boxes.properties.get(at));
            if let Some((kind, _)) = property
                && *essential
                && !UNDERSTOOD.contains(&kind)
            {
                let kind = kind.escape_ascii();
                return Err(unsupported(format!("this AVIF has a property \"{kind}\" that is not understood")));
            }
        }
        Ok(())
    }

    /// Turns and mirrors in the order in which they are listed (23008-12 sections 6.5.10 and 6.5.12).
    fn orientation(&self, boxes: &Boxes<'_>) -> Result<Orientation, Pause> {
        let mut orientation = Orientation::Normal;
        for (kind, mut part) in self.properties(self.primary, boxes) {
            let next = match &kind {
                b"irot" => match part.number(1)? & 3 {
                    0 => Orientation::Normal,
                    1 => Orientation::Rotate270,
                    2 => Orientation::Rotate180,
                    _ => Orientation::Rotate90,
                },
                b"imir" => match part.number(1)? & 1 {
                    0 => Orientation::FlipV,
                    _ => Orientation::FlipH,
                },
                _ => continue,
            };
            orientation = orientation.then(next);
        }
        Ok(orientation)
    }
}

fn read_colors(mut part: Part<'_>, colors: &mut Colors, limits: &Limits) -> Result<(), Pause> {
    match part.take(4)? {
        b"nclx" if colors.nclx.is_none() => {
            let mut number = |len| part.number(len);
            let (primaries, transfer, matrix) = (number(2)? as u16, number(2)? as u16, number(2)? as u16);
            colors.nclx = Some((primaries, transfer, matrix, number(1)? & 0x80 != 0));
        }
        b"prof" | b"rICC" if colors.icc.is_none() => {
            limits.check_icc(part.bytes.len() as u64)?;
            colors.icc = Some(part.start..part.start + part.bytes.len());
        }
        _ => {}
    }
    Ok(())
}
