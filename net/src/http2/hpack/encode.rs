//! The header blocks of answers: a gRPC head, trailers, and an outcome alone.
//!
//! Two fields repeat in all answers, `content-type: application/grpc` and `grpc-status: 0`. They enter
//! the client's dynamic table at their first use and are one byte from then on, so the head of an
//! answer is two bytes and its trailers are one. All else is written out and not indexed.
//!
//! Leaves out frames. Laws: (1) a block never names what the client's table does not hold, whatever
//! sizes the client sets; (2) a smaller size is confirmed at the beginning of the next block, and if
//! it went down and up again, the lowest first (RFC 7541, 4.2).
//!
//! Worked example: NotFound `50% gone` is `grpc-status: 5`, `grpc-message: 50%25 gone`.

use super::huffman;
use super::table::OVERHEAD;
use crate::call::{Code, GrpcStatus};

/// The size both sides begin with (6.5.2 of RFC 9113), and the most that is used.
const TABLE_BYTES: usize = 4096;

const CONTENT_TYPE: (&[u8], &[u8]) = (b"content-type", b"application/grpc");
const STATUS_OK: (&[u8], &[u8]) = (b"grpc-status", b"0");

/// What both repeated fields need. A smaller table is not used at all.
const NEEDED: usize = CONTENT_TYPE.0.len()
    + CONTENT_TYPE.1.len()
    + STATUS_OK.0.len()
    + STATUS_OK.1.len()
    + 2 * OVERHEAD;

/// Index of the newest dynamic entry.
const DYNAMIC: usize = 62;

const STATIC_STATUS_200: u8 = 0x88;
const STATIC_STATUS: usize = 8;
const STATIC_CONTENT_TYPE: usize = 31;

/// Writes the header blocks of one connection.
pub(in crate::http2) struct Encoder {
    limit: usize,
    /// The lowest limit since the last block, if it changed.
    lowest: Option<usize>,
    inserted: usize,
    /// How many were inserted before it.
    content_type: Option<usize>,
    status_ok: Option<usize>,
    scratch: Vec<u8>,
}

impl Encoder {
    pub(in crate::http2) fn new() -> Encoder {
        Encoder {
            limit: TABLE_BYTES,
            lowest: None,
            inserted: 0,
            content_type: None,
            status_ok: None,
            scratch: Vec::new(),
        }
    }

    /// The client's SETTINGS_HEADER_TABLE_SIZE.
    pub(in crate::http2) fn set_limit(&mut self, limit: u32) {
        let limit = (limit as usize).min(TABLE_BYTES);
        let limit = if limit < NEEDED { 0 } else { limit };
        if limit != self.limit {
            self.lowest = Some(self.lowest.unwrap_or(self.limit).min(limit));
            self.limit = limit;
        }
    }

    /// Before messages.
    #[inline]
    pub(in crate::http2) fn head(&mut self, out: &mut Vec<u8>) {
        self.confirm_limit(out);
        out.push(STATIC_STATUS_200);
        self.content_type(out);
    }

    /// Before a text that is no message.
    pub(in crate::http2) fn foreign_head(&mut self, http: u16, out: &mut Vec<u8>) {
        self.confirm_limit(out);
        integer(STATIC_STATUS, 4, 0, out);
        string(http.to_string().as_bytes(), out);
        integer(STATIC_CONTENT_TYPE, 4, 0, out);
        string(b"text/plain; charset=utf-8", out);
    }

    /// After messages.
    #[inline]
    pub(in crate::http2) fn trailers(&mut self, status: &GrpcStatus, out: &mut Vec<u8>) {
        self.confirm_limit(out);
        self.status(status, out);
    }

    /// Without messages.
    pub(in crate::http2) fn outcome_only(
        &mut self,
        http: u16,
        status: &GrpcStatus,
        out: &mut Vec<u8>,
    ) {
        self.confirm_limit(out);
        if http == 200 {
            out.push(STATIC_STATUS_200);
        } else {
            integer(STATIC_STATUS, 4, 0, out);
            string(http.to_string().as_bytes(), out);
        }
        self.content_type(out);
        self.status(status, out);
    }

    #[inline]
    fn confirm_limit(&mut self, out: &mut Vec<u8>) {
        let Some(lowest) = self.lowest.take() else { return };
        if lowest < self.limit {
            integer(lowest, 5, 0x20, out);
        }
        integer(self.limit, 5, 0x20, out);
        if lowest < NEEDED {
            (self.content_type, self.status_ok) = (None, None);
        }
    }

    #[inline]
    fn content_type(&mut self, out: &mut Vec<u8>) {
        if let Some(before) = self.content_type {
            return integer(DYNAMIC + self.inserted - 1 - before, 7, 0x80, out);
        }
        if self.limit == 0 {
            integer(STATIC_CONTENT_TYPE, 4, 0, out);
        } else {
            integer(STATIC_CONTENT_TYPE, 6, 0x40, out);
            self.content_type = Some(self.inserted);
            self.inserted += 1;
        }
        string(CONTENT_TYPE.1, out);
    }

    #[inline]
    fn status(&mut self, status: &GrpcStatus, out: &mut Vec<u8>) {
        if status.code != Code::Ok || !status.message.is_empty() {
            return self.failure(status, out);
        }
        if let Some(before) = self.status_ok {
            return integer(DYNAMIC + self.inserted - 1 - before, 7, 0x80, out);
        }
        if self.limit == 0 {
            out.push(0);
        } else {
            out.push(0x40);
            self.status_ok = Some(self.inserted);
            self.inserted += 1;
        }
        string(STATUS_OK.0, out);
        string(STATUS_OK.1, out);
    }

    fn failure(&mut self, status: &GrpcStatus, out: &mut Vec<u8>) {
        out.push(0);
        string(STATUS_OK.0, out);
        string((status.code as u8).to_string().as_bytes(), out);
        out.push(0);
        string(b"grpc-message", out);
        self.scratch.clear();
        escape(&status.message, &mut self.scratch);
        string(&self.scratch, out);
    }
}

/// gRPC's percent-encoding: printable ASCII but `%` stays.
fn escape(text: &str, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => out.push(byte),
            _ => out.extend([b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]),
        }
    }
}

/// The shorter of both forms.
fn string(text: &[u8], out: &mut Vec<u8>) {
    let coded = huffman::encoded_len(text);
    if coded < text.len() {
        integer(coded, 7, 0x80, out);
        return huffman::encode(text, out);
    }
    integer(text.len(), 7, 0, out);
    out.extend_from_slice(text);
}

/// An integer behind a prefix of `bits`, under the pattern in the bits before it.
#[inline]
fn integer(value: usize, bits: u32, pattern: u8, out: &mut Vec<u8>) {
    let mask = (1_usize << bits) - 1;
    if value < mask {
        return out.push(pattern | value as u8);
    }
    out.push(pattern | mask as u8);
    let mut rest = value - mask;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

#[cfg(test)]
mod tests {
    use super::super::Decoder;
    use super::*;
    use proptest::prelude::*;

    fn status(code: Code, message: &str) -> GrpcStatus {
        GrpcStatus { code, message: message.into() }
    }

    fn read(decoder: &mut Decoder, block: &[u8]) -> Vec<(String, String)> {
        let mut out = Vec::new();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let read = decoder
            .decode(block, usize::MAX, |field| out.push((text(field.name), text(field.value))));
        assert_eq!(read, Ok(()), "{block:02x?}");
        out
    }

    #[test]
    fn messages_are_percent_encoded() {
        for (text, encoded) in [
            ("etcdserver: no leader", "etcdserver: no leader"),
            ("50% gone", "50%25 gone"),
            ("a\nb", "a%0Ab"),
            ("é", "%C3%A9"),
        ] {
            let mut out = Vec::new();
            escape(text, &mut out);
            assert_eq!(out, encoded.as_bytes());
        }
    }

    #[test]
    fn the_second_answer_is_three_bytes() {
        let mut encoder = Encoder::new();
        let mut first = Vec::new();
        encoder.head(&mut first);
        encoder.trailers(&status(Code::Ok, ""), &mut first);
        let (mut head, mut trailers) = (Vec::new(), Vec::new());
        encoder.head(&mut head);
        encoder.trailers(&status(Code::Ok, ""), &mut trailers);
        assert_eq!((head, trailers), (vec![0x88, 0xbf], vec![0xbe]));
    }

    #[test]
    fn a_table_that_went_down_and_up_is_told_so() {
        let mut encoder = Encoder::new();
        encoder.head(&mut Vec::new());
        encoder.set_limit(0);
        encoder.set_limit(4096);
        let mut block = Vec::new();
        encoder.head(&mut block);
        assert_eq!(block[..4], [0x20, 0x3f, 0xe1, 0x1f]);
        let read = read(&mut Decoder::new(), &block);
        assert_eq!(read[1], ("content-type".into(), "application/grpc".into()));
    }

    proptest! {
        /// A client's table is never named beyond what it holds, through all changes of its size.
        #[test]
        fn every_block_reads_back(
            steps in proptest::collection::vec((0_u8..6, 0_u32..300, "\\PC{0,12}"), 0..60),
        ) {
            let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
            let mut limit = 4096;
            for (kind, number, text) in steps {
                let mut block = Vec::new();
                let failed = status(Code::NotFound, &text);
                match kind {
                    0 => {
                        limit = if number > 200 { 4096 } else { number };
                        encoder.set_limit(limit);
                    }
                    1 => encoder.head(&mut block),
                    2 => encoder.trailers(&status(Code::Ok, ""), &mut block),
                    3 => encoder.trailers(&failed, &mut block),
                    4 => encoder.outcome_only(200, &failed, &mut block),
                    _ => encoder.outcome_only(415, &status(Code::Ok, ""), &mut block),
                }
                let fields = read(&mut decoder, &block);
                prop_assert!(kind == 0 || decoder.limit() <= limit as usize);
                let has = |name: &str, value: &str| {
                    fields.iter().any(|field| field.0 == name && field.1 == value)
                };
                match kind {
                    0 => prop_assert!(fields.is_empty()),
                    1 => prop_assert!(has(":status", "200") && has("content-type", "application/grpc")),
                    2 => prop_assert!(has("grpc-status", "0") && fields.len() == 1),
                    3 => prop_assert!(has("grpc-status", "5") && fields.len() == 2),
                    4 => prop_assert!(has("grpc-status", "5") && fields.len() == 4),
                    _ => prop_assert!(has(":status", "415") && has("grpc-status", "0")),
                }
            }
        }
    }
}
