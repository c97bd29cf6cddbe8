//! HTTP/1.1, RFC 9112: strict heads and bodies.
