//! HPACK (RFC 7541): a complete decoder that keeps only what we must know (HTTP status, grpc-status,
//! grpc-message; for the null server, the path), and a small encoder for the few headers of a request.
//!
//! A request's headers enter the server's table at their first use and are one byte each from then on,
//! as with real clients.

use std::collections::VecDeque;

use super::frame::Call;

/// Bytes of a dynamic table.
const TABLE_MAX: usize = 4096;

const SHORT: &str = "hpack: the block ends early";

/// What a header block said.
#[derive(Debug, Default)]
pub(super) struct Head {
    pub http: Option<u32>,
    pub grpc: Option<u32>,
    pub message: Option<String>,
    pub call: Option<Call>,
}

impl Head {
    fn take(&mut self, tag: &Tag) {
        match tag {
            Tag::Other => {}
            Tag::Status(status) => self.http = Some(*status),
            Tag::GrpcStatus(status) => self.grpc = Some(*status),
            Tag::GrpcMessage(message) => self.message = Some(message.clone()),
            Tag::Path(call) => self.call = Some(*call),
        }
    }
}

/// What a header means to us.
#[derive(Clone, Debug)]
enum Tag {
    Other,
    Status(u32),
    GrpcStatus(u32),
    GrpcMessage(String),
    Path(Call),
}

impl Tag {
    fn of(name: &[u8], value: &[u8]) -> Tag {
        let number = || std::str::from_utf8(value).ok().and_then(|value| value.parse().ok());
        match name {
            b":status" => Tag::Status(number().unwrap_or(0)),
            b"grpc-status" => Tag::GrpcStatus(number().unwrap_or(u32::MAX)),
            b"grpc-message" => Tag::GrpcMessage(String::from_utf8_lossy(value).into_owned()),
            b":path" => Call::of(value).map_or(Tag::Other, Tag::Path),
            _ => Tag::Other,
        }
    }
}

struct Entry {
    name: Vec<u8>,
    size: usize,
    tag: Tag,
}

/// Reads the header blocks of one connection.
pub(super) struct Decoder {
    table: VecDeque<Entry>,
    size: usize,
    max: usize,
    huffman: Huffman,
}

impl Decoder {
    pub fn new() -> Decoder {
        Decoder { table: VecDeque::new(), size: 0, max: TABLE_MAX, huffman: Huffman::new() }
    }

    pub fn decode(&mut self, block: &[u8]) -> Result<Head, String> {
        let mut head = Head::default();
        let mut rest = block;
        while let Some(first) = rest.first().copied() {
            if first & 0x80 != 0 {
                let index = integer(&mut rest, 7)?;
                self.indexed(index, &mut head)?;
            } else if first & 0xe0 == 0x20 {
                self.max = integer(&mut rest, 5)?.min(TABLE_MAX);
                self.evict();
            } else {
                self.literal(&mut rest, first & 0x40 != 0, &mut head)?;
            }
        }
        Ok(head)
    }

    fn indexed(&self, index: usize, head: &mut Head) -> Result<(), String> {
        match index {
            0 => return Err("hpack: index 0".to_owned()),
            8..=14 => head.http = Some(STATIC_STATUS[index - 8]),
            1..=61 => {}
            _ => head.take(&self.entry(index)?.tag),
        }
        Ok(())
    }

    fn literal(&mut self, rest: &mut &[u8], keep: bool, head: &mut Head) -> Result<(), String> {
        let name = match integer(rest, if keep { 6 } else { 4 })? {
            0 => self.string(rest)?,
            index @ 1..=61 => STATIC_NAMES[index - 1].as_bytes().to_vec(),
            index => self.entry(index)?.name.clone(),
        };
        let value = self.string(rest)?;
        let tag = Tag::of(&name, &value);
        head.take(&tag);
        if keep {
            let size = name.len() + value.len() + 32;
            self.size += size;
            self.table.push_front(Entry { name, size, tag });
            self.evict();
        }
        Ok(())
    }

    fn entry(&self, index: usize) -> Result<&Entry, String> {
        self.table.get(index - 62).ok_or_else(|| "hpack: an index past the table".to_owned())
    }

    fn string(&self, rest: &mut &[u8]) -> Result<Vec<u8>, String> {
        let coded = rest.first().ok_or(SHORT)? & 0x80 != 0;
        let length = integer(rest, 7)?;
        let (string, after) = rest.split_at_checked(length).ok_or(SHORT)?;
        *rest = after;
        if coded { self.huffman.decode(string) } else { Ok(string.to_vec()) }
    }

    fn evict(&mut self) {
        while self.size > self.max
            && let Some(oldest) = self.table.pop_back()
        {
            self.size -= oldest.size;
        }
    }
}

fn integer(rest: &mut &[u8], bits: u32) -> Result<usize, String> {
    let mask = (1_usize << bits) - 1;
    let mut byte = || {
        let (first, after) = rest.split_first().ok_or(SHORT)?;
        *rest = after;
        Ok::<usize, String>(usize::from(*first))
    };
    let mut value = byte()? & mask;
    if value < mask {
        return Ok(value);
    }
    for shift in (0..28).step_by(7) {
        let next = byte()?;
        value += (next & 0x7f) << shift;
        if next & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err("hpack: an integer that is too large".to_owned())
}

/// Writes the headers of requests on one connection.
pub(super) struct Encoder {
    /// Headers that the server's table holds, in the order in which they entered it.
    sent: Vec<&'static str>,
    /// Whether the server has a table of the usual size.
    pub indexing: bool,
}

impl Encoder {
    pub fn new() -> Encoder {
        Encoder { sent: Vec::new(), indexing: true }
    }

    /// A gRPC request of `path`.
    pub fn request(&mut self, out: &mut Vec<u8>, authority: &str, path: &'static str) {
        out.extend_from_slice(&[0x83, 0x86]); // :method POST, :scheme http
        self.field(out, path, Name::Static(4), path);
        self.field(out, ":authority", Name::Static(1), authority);
        self.field(out, "content-type", Name::Static(31), "application/grpc");
        self.field(out, "user-agent", Name::Static(58), "holdfast-loadgen");
        self.field(out, "te", Name::New("te"), "trailers");
    }

    fn field(&mut self, out: &mut Vec<u8>, header: &'static str, name: Name, value: &str) {
        if let Some(nth) = self.sent.iter().position(|sent| *sent == header) {
            out.push(0x80 | (62 + self.sent.len() - 1 - nth) as u8);
            return;
        }
        let (flag, limit) = if self.indexing { (0x40, 63) } else { (0, 15) };
        match name {
            Name::Static(index) if index < limit => out.push(flag | index),
            Name::Static(index) => out.extend_from_slice(&[flag | limit, index - limit]),
            Name::New(name) => {
                out.push(flag);
                literal(out, name);
            }
        }
        literal(out, value);
        if self.indexing {
            self.sent.push(header);
        }
    }
}

/// A header's name: an index of the static table, or written out.
#[derive(Clone, Copy)]
enum Name {
    Static(u8),
    New(&'static str),
}

fn literal(out: &mut Vec<u8>, string: &str) {
    assert!(string.len() < 127, "paths and addresses are short");
    out.push(string.len() as u8);
    out.extend_from_slice(string.as_bytes());
}

/// The canonical Huffman code of RFC 7541, appendix B, by its code lengths.
struct Huffman {
    first: [u32; 32],
    count: [u32; 32],
    base: [u32; 32],
    symbols: Vec<u16>,
}

impl Huffman {
    fn new() -> Huffman {
        let mut symbols: Vec<u16> = (0..257).collect();
        symbols.sort_by_key(|symbol| (LENGTHS[usize::from(*symbol)], *symbol));
        let mut huffman = Huffman { first: [0; 32], count: [0; 32], base: [0; 32], symbols };
        for length in LENGTHS {
            huffman.count[usize::from(length)] += 1;
        }
        let (mut code, mut base) = (0, 0);
        for length in 1..32 {
            code <<= 1;
            huffman.first[length] = code;
            huffman.base[length] = base;
            code += huffman.count[length];
            base += huffman.count[length];
        }
        huffman
    }

    fn decode(&self, coded: &[u8]) -> Result<Vec<u8>, String> {
        let mut out = Vec::with_capacity(coded.len() * 8 / 5);
        let (mut code, mut length) = (0_u32, 0_usize);
        for bit in coded.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)) {
            code = code << 1 | u32::from(bit);
            length += 1;
            if length > 30 {
                return Err("hpack: no such Huffman code".to_owned());
            }
            let place = code.wrapping_sub(self.first[length]);
            if place < self.count[length] {
                let symbol = self.symbols[(self.base[length] + place) as usize];
                let byte = u8::try_from(symbol);
                out.push(byte.map_err(|_| "hpack: the end inside a string".to_owned())?);
                (code, length) = (0, 0);
            }
        }
        match length <= 7 && code == (1 << length) - 1 {
            true => Ok(out),
            false => Err("hpack: bad Huffman padding".to_owned()),
        }
    }
}

/// The statuses of the static table, from index 8 on.
const STATIC_STATUS: [u32; 7] = [200, 204, 206, 304, 400, 404, 500];

/// Names of the static table, from index 1 on.
#[rustfmt::skip]
const STATIC_NAMES: [&str; 61] = [
    ":authority", ":method", ":method", ":path", ":path", ":scheme", ":scheme", ":status",
    ":status", ":status", ":status", ":status", ":status", ":status", "accept-charset",
    "accept-encoding", "accept-language", "accept-ranges", "accept",
    "access-control-allow-origin", "age", "allow", "authorization", "cache-control",
    "content-disposition", "content-encoding", "content-language", "content-length",
    "content-location", "content-range", "content-type", "cookie", "date", "etag", "expect",
    "expires", "from", "host", "if-match", "if-modified-since", "if-none-match", "if-range",
    "if-unmodified-since", "last-modified", "link", "location", "max-forwards",
    "proxy-authenticate", "proxy-authorization", "range", "referer", "refresh", "retry-after",
    "server", "set-cookie", "strict-transport-security", "transfer-encoding", "user-agent",
    "vary", "via", "www-authenticate",
];

/// Lengths of the codes of all symbols, the last being the end of a string.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28,
    28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11,
    10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8,
    15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5,
    6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7,
    7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23,
    23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21,
    23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25,
    26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26,
    28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_is_complete() {
        let sum: u64 = LENGTHS.iter().map(|length| 1_u64 << (30 - length)).sum();
        assert_eq!(sum, 1 << 30);
    }

    /// RFC 7541, C.4.1.
    #[test]
    fn a_huffman_string_is_read() {
        let coded = [0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff];
        assert_eq!(Huffman::new().decode(&coded).expect("an example"), b"www.example.com");
    }

    #[test]
    fn a_second_request_is_seven_bytes_and_reads_like_the_first() {
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
        let (mut first, mut second) = (Vec::new(), Vec::new());
        encoder.request(&mut first, "a", "/x/y");
        encoder.request(&mut second, "a", "/x/y");
        assert_eq!(second, [0x83, 0x86, 0xc2, 0xc1, 0xc0, 0xbf, 0xbe]);
        decoder.decode(&first).expect("our own");
        decoder.decode(&second).expect("our own");
        assert_eq!(decoder.table.len(), 5);
    }

    #[test]
    fn a_status_comes_from_the_table_too() {
        let mut decoder = Decoder::new();
        let mut block = vec![0x88, 0x40, 11];
        block.extend_from_slice(b"grpc-status\x015");
        assert_eq!(decoder.decode(&block).expect("a block").grpc, Some(5));
        let head = decoder.decode(&[0x88, 0xbe]).expect("a block");
        assert_eq!((head.http, head.grpc), (Some(200), Some(5)));
        assert!(decoder.decode(&[0xff]).is_err(), "it ends early");
    }
}
