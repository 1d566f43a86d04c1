//! HTTP/1.1 heads and bodies (RFC 9112).
