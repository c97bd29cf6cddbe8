//! Entropy-coded data as bits.

/// Bytes of entropy-coded data that are looked at at once, and zeros behind their end.
const WINDOW: usize = 16 << 10;
const ZEROS: usize = 64;

/// The bits of entropy-coded data, without stuffed zeros (T.81 section B.1.1.5).
pub(super) struct Bits<'a> {
    /// What is not in the window yet, with its stuffing.
    rest: &'a [u8],
    window: Box<[u8; WINDOW + ZEROS]>,
    /// Bytes in the window.
    len: usize,
    /// From here on the window does not have eight bytes more.
    safe: usize,
    /// A marker follows the window, or the file ends: what is read beyond is zeros.
    is_last: bool,
    /// More was read than there is.
    pub(super) is_over: bool,
    pub(super) cursor: Cursor,
}

/// The place in the window. Apart, so that it stays in registers where it is moved often.
#[derive(Clone, Copy, Default)]
pub(super) struct Cursor {
    /// The next byte to be taken.
    at: usize,
    /// The next bits, from the left.
    next: u64,
    /// How many they are.
    have: u32,
}

impl Cursor {
    /// A place with these bits, `have` of them, from the right, and no bytes behind them.
    pub(super) fn of(bits: u64, have: u32) -> Cursor {
        Cursor { at: 0, next: bits << (64 - have), have }
    }

    /// Takes bytes until there are 56 bits or more, without a branch: what is taken twice is the same.
    #[inline]
    fn refill(&mut self, window: &[u8; WINDOW + ZEROS]) {
        let eight = window.get(self.at..).and_then(<[u8]>::first_chunk::<8>);
        self.next |= u64::from_be_bytes(*eight.unwrap_or(&[0; 8])) >> self.have;
        self.at += (63 - self.have as usize) >> 3;
        self.have |= 56;
    }

    #[inline]
    pub(super) fn peek(&self, count: u32) -> usize {
        (self.next >> (64 - count)) as usize
    }

    #[inline]
    pub(super) fn consume(&mut self, count: u32) {
        self.next <<= count;
        self.have -= count;
    }

    /// A coefficient of this size (T.81 section F.2.2.1).
    #[inline]
    pub(super) fn value(&mut self, size: u32) -> i32 {
        if size == 0 {
            return 0;
        }
        let value = self.peek(size) as i32;
        self.consume(size);
        if value < 1 << (size - 1) { value - (1 << size) + 1 } else { value }
    }
}

impl<'a> Bits<'a> {
    pub(super) fn new(data: &'a [u8]) -> Bits<'a> {
        let window = Box::new([0; WINDOW + ZEROS]);
        let cursor = Cursor::default();
        let mut bits = Bits { rest: data, window, len: 0, safe: 0, is_last: false, is_over: false, cursor };
        bits.advance();
        bits
    }

    /// The cursor with 56 bits or more; enough for a symbol and its value, or for two leaps.
    #[inline]
    pub(super) fn refilled(&mut self, mut cursor: Cursor) -> Cursor {
        if cursor.at > self.safe {
            self.cursor = cursor;
            self.advance();
            cursor = self.cursor;
        }
        cursor.refill(&self.window);
        cursor
    }

    /// Moves the window on.
    #[cold]
    #[inline(never)]
    fn advance(&mut self) {
        if self.is_last {
            // Zeros for ever.
            (self.is_over, self.cursor.at) = (true, self.safe);
            return;
        }
        self.window.copy_within(self.cursor.at..self.len, 0);
        (self.len, self.cursor.at) = (self.len - self.cursor.at, 0);
        while self.len < WINDOW && !self.is_last {
            let run = self.rest.len().min(WINDOW - self.len);
            let run = memchr::memchr(0xFF, &self.rest[..run]).unwrap_or(run);
            self.window[self.len..self.len + run].copy_from_slice(&self.rest[..run]);
            self.len += run;
            self.rest = &self.rest[run..];
            match self.rest {
                [0xFF, 0, rest @ ..] if self.len < WINDOW => {
                    self.window[self.len] = 0xFF;
                    self.len += 1;
                    self.rest = rest;
                }
                [0xFF, 0, ..] => {}
                [0xFF, ..] | [] => self.is_last = true,
                _ => {}
            }
        }
        self.window[self.len..self.len + ZEROS].fill(0);
        self.safe = if self.is_last { self.len + ZEROS - 8 } else { self.len - 8 };
    }

    /// Whether all that was consumed was there, and less than a byte of padding is left.
    fn is_used_up(&self) -> bool {
        let left = (self.len * 8 + self.cursor.have as usize).checked_sub(self.cursor.at * 8);
        self.is_last && !self.is_over && left.is_some_and(|left| left < 8)
    }

    /// Goes on behind the restart marker of that number (T.81 section E.2.4), if it is next.
    pub(super) fn restart(&mut self, number: u8) -> Option<()> {
        let [0xFF, marker, rest @ ..] = self.rest else { return None };
        if *marker != 0xD0 + number || !self.is_used_up() {
            return None;
        }
        (self.rest, self.len, self.is_last, self.cursor) = (rest, 0, false, Cursor::default());
        self.advance();
        Some(())
    }

    /// Whether the image's end is next.
    pub(super) fn ends(&self) -> Option<()> {
        (self.rest.starts_with(&[0xFF, 0xD9]) && self.is_used_up()).then_some(())
    }
}
