//! Raw samples in pooled memory: page faults of fresh frames cost a third of a decode.

/// What the samples of a pixel are, one byte each, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Grey.
    Gray,
    /// Red, green, blue.
    Rgb,
    /// Red, green, blue, alpha; not premultiplied.
    Rgba,
}

impl Layout {
    /// Bytes of a pixel.
    pub fn bytes(self) -> usize {
        match self {
            Layout::Gray => 1,
            Layout::Rgb => 3,
            Layout::Rgba => 4,
        }
    }
}

/// An upright image in sRGB, rows without gaps from top to bottom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pixels {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// What a pixel is.
    pub layout: Layout,
    /// `width * height * layout.bytes()` samples.
    pub samples: Vec<u8>,
}

/// Buffers to be used again, warm. Holds at most a number of bytes; what is beyond is freed.
#[derive(Debug)]
pub struct Pool {
    free: Vec<Vec<u8>>,
    held_bytes: usize,
    held_bytes_max: usize,
    lent_bytes: usize,
    peak_bytes: usize,
}

impl Pool {
    /// A pool that keeps at most so many bytes.
    pub fn new(held_bytes_max: usize) -> Pool {
        Pool { free: Vec::new(), held_bytes: 0, held_bytes_max, lent_bytes: 0, peak_bytes: 0 }
    }

    /// A buffer of exactly `len` bytes with unspecified content: the smallest free one that is large enough, else a
    /// fresh one.
    pub fn take(&mut self, len: usize) -> Vec<u8> {
        let fits = self.free.iter().enumerate().filter(|(_, free)| free.capacity() >= len);
        let best = fits.min_by_key(|(_, free)| free.capacity()).map(|(at, _)| at);
        let Some(at) = best else {
            self.lend(len);
            return vec![0; len];
        };
        let mut buffer = self.free.swap_remove(at);
        self.held_bytes -= buffer.capacity();
        self.lend(buffer.capacity());
        buffer.resize(len, 0);
        buffer
    }

    /// Gives a buffer back.
    pub fn give(&mut self, buffer: Vec<u8>) {
        self.lent_bytes = self.lent_bytes.saturating_sub(buffer.capacity());
        if buffer.capacity() > 0 && self.held_bytes + buffer.capacity() <= self.held_bytes_max {
            self.held_bytes += buffer.capacity();
            self.free.push(buffer);
        }
    }

    /// Forgets what was counted: a task begins. Buffers that never came back are not its own.
    pub fn count_from_here(&mut self) {
        (self.lent_bytes, self.peak_bytes) = (0, 0);
    }

    /// The most bytes that were lent at the same time, since the count began.
    pub fn peak_bytes(&self) -> usize {
        self.peak_bytes
    }

    fn lend(&mut self, bytes: usize) {
        self.lent_bytes += bytes;
        self.peak_bytes = self.peak_bytes.max(self.lent_bytes);
    }
}
