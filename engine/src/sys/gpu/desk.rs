//! A desk: one stream of a GPU with all that it works with, for one thread. Several desks keep the decoder, the kernels
//! and the encoder busy at the same time.
//!
//! The promise: everything that is enqueued works in memory that the desk owns, or that its caller lends for the length of
//! a call which waits. The desk waits before any of it is freed.
//!
//! ```text
//!   arena   [ decoded planes | results ... | scratch of the step that is enqueued ]      the stream's order makes the
//!             ▲ kept until `clear`           ▲ given back at once                        scratch free for the next step
//! ```

use std::sync::Arc;

use cudarc::driver::result;

use super::Error;
use super::cuda::{Device, Memory, Pinned, Stream, failed};
use super::kernels::{
    ALIGNMENT, Colour, ENTRIES_MAX, Entry, Kernels, Place, Plane, Resample, SIDE_MAX, Scratch, Sharpen, Turn, bytes,
};
use super::nvjpeg::{Batched, Encoder, Hybrid, Image, Nvjpeg, Parsed, Parser, Quality, Subsampling};

/// Bytes of the tables of all launches between two waits. A thousand pictures of three planes need 0.4 MB.
const TABLES_BYTES: usize = 1 << 20;
/// Pictures that are encoded at the same time.
const ENCODERS: usize = 16;
/// Bytes in which most heads of JPEGs end.
const HEAD_BYTES: usize = 64 << 10;
/// Bytes of an encoded picture, at most; more is for another lane.
const ENCODED_BYTES_MAX: usize = 64 << 20;
/// Rows that a plane has room for are a multiple of this, so that a codec which writes whole blocks stays inside.
const ROWS: u32 = 16;

/// An image that was decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// How its colour is stored.
    pub subsampling: Subsampling,
    /// Luma, then, unless it is grey, blue and red difference.
    pub planes: Vec<Plane>,
    /// Whether the hardware decoder did it.
    pub hardware: bool,
}

/// A picture to be encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// How its colour is stored in the JPEG, and for planes in those too.
    pub subsampling: Subsampling,
    /// Its samples.
    pub samples: Samples,
    /// How well it is encoded.
    pub quality: Quality,
}

/// What a picture is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Samples {
    /// Luma, blue and red difference.
    Planes(Vec<Plane>),
    /// Red, green and blue, three samples to a pixel.
    Packed(Plane),
}

/// See the module's description. It stays on the thread that made it.
pub struct Desk {
    arena: Memory,
    used: u64,
    tables: Memory,
    tables_host: Pinned,
    tables_used: usize,
    encoded: Pinned,
    kernels: Kernels,
    parser: Parser,
    batched: Option<Batched>,
    /// Streams of the hardware decoder, one for each of its engines.
    decoding: Vec<Stream>,
    hybrid: Option<Hybrid>,
    encoders: Vec<Encoder>,
    nvjpeg: Arc<Nvjpeg>,
    stream: Stream,
}

impl Desk {
    /// A desk with so many bytes of the device's memory for its pictures.
    ///
    /// # Errors
    /// [`Error::Failed`], also where the device has no more memory.
    pub fn new(device: &Arc<Device>, nvjpeg: &Arc<Nvjpeg>, arena_bytes: u64) -> Result<Desk, Error> {
        let stream = Stream::new(device)?;
        let batched = nvjpeg.hardware().map(|_| Batched::new(nvjpeg));
        let engines = nvjpeg.hardware().map_or(0, |hardware| hardware.engines);
        let decoding = (0..engines).map(|_| Stream::new(device)).collect::<Result<Vec<Stream>, Error>>()?;
        let encoders = (0..ENCODERS).map(|_| Encoder::new(nvjpeg, &stream)).collect::<Result<Vec<Encoder>, Error>>()?;
        Ok(Desk {
            arena: Memory::new(device, arena_bytes)?,
            used: 0,
            tables: Memory::new(device, TABLES_BYTES as u64)?,
            tables_host: Pinned::new(device, TABLES_BYTES)?,
            tables_used: 0,
            encoded: Pinned::new(device, 1 << 20)?,
            kernels: Kernels::load(device)?,
            parser: Parser::new(nvjpeg)?,
            batched,
            decoding,
            hybrid: None,
            encoders,
            nvjpeg: nvjpeg.clone(),
            stream,
        })
    }

    /// Waits until all that was enqueued is done.
    ///
    /// # Errors
    /// [`Error::Failed`]: a fault of the device.
    pub fn wait(&mut self) -> Result<(), Error> {
        self.stream.wait()?;
        self.tables_used = 0;
        Ok(())
    }

    /// Waits, and forgets all planes.
    ///
    /// # Errors
    /// As [`Desk::wait`].
    pub fn clear(&mut self) -> Result<(), Error> {
        self.wait()?;
        self.used = 0;
        Ok(())
    }

    /// Bytes of the arena that are in use.
    pub fn used_bytes(&self) -> u64 {
        self.used
    }

    /// Room for a plane, with unspecified content.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where the arena is full.
    pub fn plane(&mut self, width: u32, height: u32) -> Result<Plane, Error> {
        if !(1..=SIDE_MAX).contains(&width) || !(1..=SIDE_MAX).contains(&height) {
            return Err(Error::Unsupported(format!("a plane of {width} x {height}")));
        }
        let pitch = width.next_multiple_of(ALIGNMENT as u32);
        let offset = self.take(u64::from(pitch) * u64::from(height.next_multiple_of(ROWS)))?;
        Ok(Plane { offset, pitch, width, height })
    }

    fn take(&mut self, len: u64) -> Result<u64, Error> {
        let offset = self.used;
        let end = offset.checked_add(len.next_multiple_of(ALIGNMENT)).filter(|&end| end <= self.arena.len());
        self.used = end.ok_or_else(|| {
            Error::Unsupported(format!("{len} bytes more than the arena of {} has room for", self.arena.len()))
        })?;
        Ok(offset)
    }

    /// Decodes JPEGs into planes, by the hardware all at once where it takes them, and waits. The inner errors are
    /// [`Error::Unsupported`]: about that image alone.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where several do not fit into the arena at once, [`Error::Failed`].
    pub fn decode(&mut self, inputs: &[&[u8]]) -> Result<Vec<Result<Decoded, Error>>, Error> {
        // On Hopper the hardware decoder does not wait for the stream: what was in this memory must be done.
        self.wait()?;
        let mut images = Vec::with_capacity(inputs.len());
        for input in inputs {
            // nvJPEG goes through all that it is given, and heads are short.
            let head = &input[..input.len().min(HEAD_BYTES)];
            let image = match recoverable(self.parser.head(head))?.or_else(|_| self.parser.head(input)) {
                Ok(head) => match self.place(&head) {
                    // The others may be what fills the arena: then it is not about this one.
                    Err(full) if inputs.len() > 1 => return Err(full),
                    placed => recoverable(placed)?,
                },
                Err(why) => recoverable(Err(why))?,
            };
            images.push(image);
        }
        let mut left: Vec<usize> = (0..inputs.len()).filter(|at| images[*at].is_ok()).collect();
        let done = self.by_hardware(inputs, &images)?;
        left.retain(|at| !done.contains(at));
        for at in left {
            let Ok(image) = &images[at] else { continue };
            let image = Image::of(&self.arena, &image.planes)?;
            let decoded = recoverable(self.by_hybrid(inputs[at], image))?;
            images[at] = decoded.and_then(|()| images[at].clone()).map(|image| Decoded { hardware: false, ..image });
        }
        Ok(images)
    }

    /// Room for what a head promises.
    fn place(&mut self, head: &Parsed) -> Result<Decoded, Error> {
        let planes = head.planes.iter().take(head.subsampling.planes());
        let planes = planes.map(|&(width, height)| self.plane(width, height)).collect::<Result<Vec<Plane>, Error>>()?;
        let Parsed { width, height, subsampling, hardware, .. } = *head;
        Ok(Decoded { width, height, subsampling, planes, hardware })
    }

    /// Those that the hardware has decoded: images of one subsampling together, and as many at a time as it has engines. If
    /// one of such a group is broken none of it is decoded, and nobody says which one it was.
    fn by_hardware(&mut self, inputs: &[&[u8]], images: &[Result<Decoded, Error>]) -> Result<Vec<usize>, Error> {
        let Some(batched) = &mut self.batched else { return Ok(Vec::new()) };
        let suited = |at: &usize| images[*at].as_ref().is_ok_and(|image| image.hardware);
        let alike = |at: usize| images[at].as_ref().map_or(0, |image| image.subsampling as usize);
        let mut order: Vec<usize> = (0..inputs.len()).filter(suited).collect();
        order.sort_by_key(|&at| alike(at));
        let groups = order.chunk_by(|&one, &other| alike(one) == alike(other));
        let groups = groups.flat_map(|alike| alike.chunks(self.decoding.len()));
        let (mut done, mut ended) = (Vec::with_capacity(order.len()), Ok(()));
        for (group, stream) in groups.zip(self.decoding.iter().cycle()) {
            let found = group.iter().filter_map(|&at| images[at].as_ref().ok());
            let subsampling = found.clone().next().map_or(Subsampling::Gray, |image| image.subsampling);
            let destinations: Result<Vec<Image>, Error> =
                found.map(|image| Image::of(&self.arena, &image.planes)).collect();
            let inputs: Vec<&[u8]> = group.iter().map(|&at| inputs[at]).collect();
            // Nothing may leave this loop but by its end: what is enqueued has to be waited for.
            let decoded = destinations.and_then(|mut images| batched.decode(stream, subsampling, &inputs, &mut images));
            match recoverable(decoded) {
                Ok(Ok(())) => done.extend(group),
                Ok(Err(_another_decoder_may)) => {}
                Err(fault) => {
                    ended = Err(fault);
                    break;
                }
            }
        }
        // Whatever was enqueued ends before the inputs may go.
        let waited = wait_for_all(&self.decoding);
        batched.settle();
        waited.and(ended).map(|()| done)
    }

    fn by_hybrid(&mut self, input: &[u8], mut image: Image) -> Result<(), Error> {
        let hybrid = match &mut self.hybrid {
            Some(hybrid) => hybrid,
            none => none.insert(Hybrid::new(&self.nvjpeg)?),
        };
        let decoded = hybrid.decode(&self.stream, input, &mut image);
        self.stream.wait()?;
        decoded
    }

    /// Enqueues a ragged batch of resamplings.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for what does not fit, [`Error::Failed`].
    pub fn resample(&mut self, batch: &[Resample]) -> Result<(), Error> {
        let before = self.used;
        let mut table = Vec::with_capacity(batch.len());
        for resample in batch {
            resample.check(self.arena.len())?;
            let [middle, weights_x, weights_y] = resample.scratch_bytes();
            let scratch = Scratch {
                middle: self.take(middle)?,
                weights_x: self.take(weights_x)?,
                weights_y: self.take(weights_y)?,
            };
            table.push(resample.entry(scratch));
        }
        self.used = before;
        let place = self.upload(&table)?;
        self.kernels.resample(&self.stream, place, &table)
    }

    /// Enqueues a ragged batch of unsharp masks.
    ///
    /// # Errors
    /// As [`Desk::resample`].
    pub fn sharpen(&mut self, batch: &[Sharpen]) -> Result<(), Error> {
        let table = self.entries(batch, Sharpen::entry)?;
        let place = self.upload(&table)?;
        self.kernels.sharpen(&self.stream, place, &table)
    }

    /// Enqueues a ragged batch of turns.
    ///
    /// # Errors
    /// As [`Desk::resample`].
    pub fn turn(&mut self, batch: &[Turn]) -> Result<(), Error> {
        let table = self.entries(batch, Turn::entry)?;
        let place = self.upload(&table)?;
        self.kernels.turn(&self.stream, place, &table)
    }

    /// Enqueues a ragged batch of conversions to red, green and blue.
    ///
    /// # Errors
    /// As [`Desk::resample`].
    pub fn colour(&mut self, batch: &[Colour]) -> Result<(), Error> {
        let table = self.entries(batch, Colour::entry)?;
        let place = self.upload(&table)?;
        self.kernels.colour(&self.stream, place, &table)
    }

    fn entries<T, E>(&self, batch: &[T], entry: impl Fn(&T, u64) -> Result<E, Error>) -> Result<Vec<E>, Error> {
        batch.iter().map(|item| entry(item, self.arena.len())).collect()
    }

    /// Enqueues the copy of a table, which stays until the next wait.
    fn upload<T: Entry>(&mut self, table: &[T]) -> Result<Place, Error> {
        let bytes = bytes(table);
        if table.len() > ENTRIES_MAX || bytes.len() > TABLES_BYTES {
            return Err(Error::Unsupported(format!("a batch of {} steps at once", table.len())));
        }
        if self.tables_used + bytes.len() > TABLES_BYTES {
            self.wait()?;
        }
        let offset = self.tables_used;
        self.tables_used += bytes.len().next_multiple_of(ALIGNMENT as usize);
        self.tables_host.write(offset, bytes);
        let (to, from) = (self.tables.at(offset as u64), self.tables_host.slice(offset, bytes.len()));
        // SAFETY: both sides are as long as `bytes`, belong to the desk, and are not written again before a wait.
        let copied = unsafe { result::memcpy_htod_async(to, from, self.stream.raw) };
        copied.map_err(|error| failed("cuMemcpyHtoDAsync", error))?;
        Ok(Place { arena: self.arena.at(0), table: to })
    }

    /// Encodes pictures as baseline JPEGs, and hands each over with its place in the list. Waits.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for what does not fit, [`Error::Failed`].
    pub fn encode(&mut self, pictures: &[Picture], mut made: impl FnMut(usize, &[u8])) -> Result<(), Error> {
        for (wave, pictures) in pictures.chunks(ENCODERS).enumerate() {
            for (picture, encoder) in pictures.iter().zip(&mut self.encoders) {
                let (planes, packed) = checked(picture)?;
                let image = Image::of(&self.arena, planes)?;
                let size = (picture.width, picture.height);
                encoder.encode(&self.stream, &image, size, picture.subsampling, packed, picture.quality)?;
            }
            let mut lens = Vec::with_capacity(pictures.len());
            for (_, encoder) in pictures.iter().zip(&mut self.encoders) {
                lens.push(encoder.len(&self.stream)?);
            }
            self.wait()?;
            self.fetch(wave * ENCODERS, &lens, &mut made)?;
        }
        Ok(())
    }

    fn fetch(&mut self, first: usize, lens: &[usize], made: &mut impl FnMut(usize, &[u8])) -> Result<(), Error> {
        let total = lens.iter().fold(0usize, |sum, &len| sum.saturating_add(len.next_multiple_of(64)));
        if total > ENCODED_BYTES_MAX * ENCODERS || lens.iter().any(|&len| len > ENCODED_BYTES_MAX) {
            return Err(Error::Unsupported(format!("outputs of {total} bytes")));
        }
        if total > self.encoded.len() {
            self.encoded = Pinned::new(self.stream.device(), total.next_power_of_two())?;
        }
        let mut offset = 0;
        for (&len, encoder) in lens.iter().zip(&mut self.encoders) {
            encoder.fetch(&self.stream, &self.encoded, offset, len)?;
            offset += len.next_multiple_of(64);
        }
        self.wait()?;
        let mut offset = 0;
        for (at, &len) in lens.iter().enumerate() {
            made(first + at, self.encoded.slice(offset, len));
            offset += len.next_multiple_of(64);
        }
        Ok(())
    }

    /// The samples of a plane, rows without gaps. Waits.
    ///
    /// # Errors
    /// As [`Desk::wait`].
    pub fn read(&mut self, plane: &Plane) -> Result<Vec<u8>, Error> {
        plane.check(self.arena.len())?;
        self.wait()?;
        let mut rows = vec![0; plane.bytes() as usize];
        // SAFETY: the plane lies inside the arena, as just checked, and `rows` is as long; the call waits.
        let copied = unsafe { result::memcpy_dtoh_sync(&mut rows, self.arena.at(plane.offset)) };
        copied.map_err(|error| failed("cuMemcpyDtoH", error))?;
        Ok(rows.chunks_exact(plane.pitch as usize).flat_map(|row| &row[..plane.width as usize]).copied().collect())
    }

    /// Fills a plane; `samples` are its rows without gaps. Waits.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where they are not as many, [`Error::Failed`].
    pub fn write(&mut self, plane: &Plane, samples: &[u8]) -> Result<(), Error> {
        plane.check(self.arena.len())?;
        if samples.len() != plane.width as usize * plane.height as usize {
            return Err(Error::Unsupported("another number of samples than the plane has".to_owned()));
        }
        self.wait()?;
        let mut rows = vec![0; plane.bytes() as usize];
        for (row, samples) in
            rows.chunks_exact_mut(plane.pitch as usize).zip(samples.chunks_exact(plane.width as usize))
        {
            row[..samples.len()].copy_from_slice(samples);
        }
        // SAFETY: the plane lies inside the arena, as just checked, and `rows` is as long; the call waits.
        let copied = unsafe { result::memcpy_htod_sync(self.arena.at(plane.offset), &rows) };
        copied.map_err(|error| failed("cuMemcpyHtoD", error))
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        // A fault shows again with whoever asks the device next; the memory can go in either case.
        let _ended = wait_for_all(&self.decoding).and(self.stream.wait());
    }
}

/// Waits for each of them, also after one has failed: what the others were given may still be under way.
fn wait_for_all(streams: &[Stream]) -> Result<(), Error> {
    let mut waited = Ok(());
    for stream in streams {
        waited = waited.and(stream.wait());
    }
    waited
}

/// Sorts errors about one image from those about the device.
fn recoverable<T>(result: Result<T, Error>) -> Result<Result<T, Error>, Error> {
    match result {
        Err(Error::Unsupported(what)) => Ok(Err(Error::Unsupported(what))),
        Err(other) => Err(other),
        Ok(value) => Ok(Ok(value)),
    }
}

/// The planes of a picture, if they are as large as its size says.
fn checked(picture: &Picture) -> Result<(&[Plane], bool), Error> {
    let (width, height) = (picture.width, picture.height);
    let fits = match &picture.samples {
        Samples::Packed(plane) => (plane.width, plane.height) == (width.saturating_mul(3), height),
        Samples::Planes(planes) => {
            let (along, down) = picture.subsampling.pixels();
            let size =
                |at: usize| if at == 0 { (width, height) } else { (width.div_ceil(along), height.div_ceil(down)) };
            planes.len() == picture.subsampling.planes()
                && planes.iter().enumerate().all(|(at, plane)| (plane.width, plane.height) == size(at))
        }
    };
    if !fits || !(1..=100).contains(&picture.quality.steps) {
        return Err(Error::Unsupported("a picture whose planes do not fit its size, or of no quality".to_owned()));
    }
    Ok(match &picture.samples {
        Samples::Packed(plane) => (std::slice::from_ref(plane), true),
        Samples::Planes(planes) => (planes, false),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_as_large_as_its_planes() {
        let plane = |width, height| Plane { offset: 0, pitch: 256, width, height };
        let picture = |planes: &[Plane], subsampling| Picture {
            width: 101,
            height: 51,
            subsampling,
            samples: Samples::Planes(planes.to_vec()),
            quality: Quality { steps: 80, optimized: true },
        };
        let (luma, half) = (plane(101, 51), plane(51, 26));
        checked(&picture(&[luma, half, half], Subsampling::Both)).unwrap();
        checked(&picture(&[luma], Subsampling::Gray)).unwrap();
        checked(&picture(&[luma, luma, luma], Subsampling::Whole)).unwrap();
        checked(&picture(&[luma, half], Subsampling::Both)).unwrap_err();
        checked(&picture(&[luma, half, plane(50, 26)], Subsampling::Both)).unwrap_err();
        checked(&picture(&[luma, half, half], Subsampling::Whole)).unwrap_err();
        checked(&Picture { quality: Quality { steps: 0, optimized: true }, ..picture(&[luma], Subsampling::Gray) })
            .unwrap_err();
        checked(&Picture { samples: Samples::Packed(plane(303, 51)), ..picture(&[], Subsampling::Both) }).unwrap();
        checked(&Picture { samples: Samples::Packed(luma), ..picture(&[], Subsampling::Both) }).unwrap_err();
    }
}
