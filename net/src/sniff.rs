//! What a client speaks, from its first bytes: one port carries gRPC and HTTP/1, as etcd's does.
//!
//! A pure function over what has arrived; the caller reads on while the answer is
//! [`Sniffed::More`], for as long as it is willing to wait. At most [`PREFACE`]'s length is ever
//! needed. Leaves out TLS, where ALPN answers the question.
//!
//! Worked example: `PR` may become the preface or a method, so it is `More`; `PRI * HTTP/2.0` and
//! the rest of the preface is `Http2`; `GET ` is `Http1`; a TLS handshake on a plain port is `Tls`.

/// The first bytes of every HTTP/2 connection (RFC 9113, 3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The methods of HTTP/1 that anybody sends to this port.
const METHODS: [&[u8]; 9] =
    [b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"TRACE", b"CONNECT"];

/// See [`sniff`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sniffed {
    /// Not enough bytes to say.
    More,
    /// HTTP/2 with prior knowledge: gRPC.
    Http2,
    /// An HTTP/1 request line.
    Http1,
    /// A TLS handshake where none is expected: the client's URL says https.
    Tls,
    /// Nothing known: close.
    Garbage,
}

/// Decides from the first bytes of a connection.
pub fn sniff(bytes: &[u8]) -> Sniffed {
    let common = bytes.len().min(PREFACE.len());
    if bytes[..common] == PREFACE[..common] {
        return if common == PREFACE.len() { Sniffed::Http2 } else { Sniffed::More };
    }
    if bytes[0] == 0x16 {
        return match bytes.get(1) {
            None => Sniffed::More,
            Some(0x03) => Sniffed::Tls,
            Some(_) => Sniffed::Garbage,
        };
    }
    let begins = |method: &&[u8]| {
        let common = bytes.len().min(method.len());
        bytes[..common] == method[..common] && matches!(bytes.get(common), None | Some(b' '))
    };
    match METHODS.iter().copied().find(|method| begins(method)) {
        Some(method) if bytes.len() > method.len() => Sniffed::Http1,
        Some(_) => Sniffed::More,
        None => Sniffed::Garbage,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preface_is_http2_and_only_when_whole() {
        for length in 0..PREFACE.len() {
            assert_eq!(sniff(&PREFACE[..length]), Sniffed::More, "{length} bytes");
        }
        assert_eq!(sniff(PREFACE), Sniffed::Http2);
        assert_eq!(sniff(&[&PREFACE[..], b"\0\0\0\x04"].concat()), Sniffed::Http2);
    }

    #[test]
    fn methods_are_http1() {
        for line in
            ["GET /health HTTP/1.1\r\n", "POST /v3/kv/put", "PUT /", "PATCH /", "OPTIONS * "]
        {
            assert_eq!(sniff(line.as_bytes()), Sniffed::Http1, "{line}");
        }
        assert_eq!(sniff(b"PUT"), Sniffed::More);
    }

    #[test]
    fn the_rest_is_refused_soon() {
        assert_eq!(sniff(b"PRI * HTTP/1.1"), Sniffed::Garbage);
        assert_eq!(sniff(b"get /"), Sniffed::Garbage);
        assert_eq!(sniff(b" "), Sniffed::Garbage);
        assert_eq!(sniff(b"INVALID CONNECTION PREFACE"), Sniffed::Garbage);
        assert_eq!(sniff(b"GETS /"), Sniffed::Garbage);
        assert_eq!(sniff(&[0x16, 3, 1]), Sniffed::Tls);
        assert_eq!(sniff(&[0x16, 9]), Sniffed::Garbage);
        assert_eq!(sniff(&[0xF5, b'H', b'F', b'P']), Sniffed::Garbage, "a peer on the client port");
    }

    #[test]
    fn a_decision_comes_within_the_preface_length() {
        let mut bytes = [0u8; 24];
        for seed in 0..200_000u32 {
            let mut x = seed;
            for byte in &mut bytes {
                x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                *byte = if seed % 2 == 0 { b'A' + (x >> 24) as u8 % 26 } else { (x >> 24) as u8 };
            }
            assert_ne!(sniff(&bytes), Sniffed::More, "{bytes:?}");
        }
    }
}
