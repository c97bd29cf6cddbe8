//! What a peer may grow, how far, and what happens there. Shared by all connections of one kind.

/// Limits and windows of one kind of HTTP/2 endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Streams that the peer may have open. Beyond: REFUSED_STREAM.
    pub streams_max: u32,
    /// Bytes that the peer may send on a stream before we have taken them (SETTINGS_INITIAL_WINDOW_SIZE). Beyond:
    /// FLOW_CONTROL_ERROR.
    pub stream_window_bytes: u32,
    /// The same of the whole connection, at least 65,535.
    pub connection_window_bytes: u32,
    /// Largest fields of a message, as RFC 9113 section 10.5.1 counts them. Beyond: the stream is reset.
    pub list_bytes_max: usize,
    /// Most fields of a message. Beyond: the stream is reset.
    pub fields_max: usize,
    /// Largest field block before it is decoded, all frames together. Beyond: ENHANCE_YOUR_CALM.
    pub block_bytes_max: usize,
    /// Most CONTINUATION frames of a block. Beyond: ENHANCE_YOUR_CALM.
    pub continuations_max: u32,
    /// Most interim answers (1xx) on a stream. Beyond: the stream is reset.
    pub interim_max: u8,
    /// Frames that achieve nothing (PING, SETTINGS, PRIORITY, GOAWAY, empty DATA, unknown, late ones on streams that were
    /// given up) beyond one for each frame of data and each stream that ended well, in [`Limits::period_ms`]. Beyond:
    /// ENHANCE_YOUR_CALM.
    pub idle_frames_max: u32,
    /// DATA frames of fewer than [`Limits::tiny_data_bytes`] that do not end a stream, and WINDOW_UPDATE frames, beyond
    /// two for each larger frame of data in either direction, in [`Limits::period_ms`]. Beyond: ENHANCE_YOUR_CALM.
    pub tiny_frames_max: u32,
    /// Data frames below this size, without their padding, are tiny.
    pub tiny_data_bytes: u32,
    /// Streams that may end by a reset, the peer's or one that the peer forced on us, beyond those that ended well, in
    /// [`Limits::period_ms`]. Beyond: ENHANCE_YOUR_CALM.
    pub resets_max: u32,
    /// The period of the counts above, in milliseconds.
    pub period_ms: u64,
    /// How long the peer may take to acknowledge our SETTINGS, in milliseconds (RFC 9113 section 6.5.3). Beyond:
    /// SETTINGS_TIMEOUT.
    pub ack_ms_max: u64,
    /// Bytes of control frames that may wait for a peer that does not read. Beyond: ENHANCE_YOUR_CALM.
    pub pending_bytes_max: usize,
}

impl Limits {
    /// 100 streams; windows of 128 KiB and 1 MiB; fields of 16 KiB and 100; per 10 seconds 1,000 frames without effect,
    /// 10,000 tiny ones, 200 resets; as long for an acknowledgement.
    pub const DEFAULT: Limits = Limits {
        streams_max: 100,
        stream_window_bytes: 128 << 10,
        connection_window_bytes: 1 << 20,
        list_bytes_max: 16 << 10,
        fields_max: 100,
        block_bytes_max: 32 << 10,
        continuations_max: 8,
        interim_max: 8,
        idle_frames_max: 1000,
        tiny_frames_max: 10_000,
        tiny_data_bytes: 64,
        resets_max: 200,
        period_ms: 10_000,
        ack_ms_max: 10_000,
        pending_bytes_max: 64 << 10,
    };
}

const _: () = {
    assert!(Limits::DEFAULT.connection_window_bytes >= 65_535);
    assert!(Limits::DEFAULT.stream_window_bytes <= Limits::DEFAULT.connection_window_bytes);
    assert!(Limits::DEFAULT.list_bytes_max <= Limits::DEFAULT.block_bytes_max);
};

impl Default for Limits {
    fn default() -> Limits {
        Limits::DEFAULT
    }
}
