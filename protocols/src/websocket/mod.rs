//! WebSocket, RFC 6455: framing, masking, UTF-8 and the close dance, for both roles.
