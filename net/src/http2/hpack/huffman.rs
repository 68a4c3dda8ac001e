//! HPACK's Huffman code (RFC 7541, appendix B): bytes to bits and back.
//!
//! The code is canonical: it follows from the lengths of its symbols alone, shorter first, symbols of
//! one length in order. So the lengths are the only table that is written down; codes and decoding
//! tables are made of them when the crate is compiled.
//!
//! Leaves out when to use it. Laws: (1) decoding refuses the end-of-string symbol, padding that is not
//! the beginning of it, and padding of a whole byte or more; (2) it gives at most 8/5 of its input.
//!
//! Worked example: `o` is `00111` and `k` is `1110101`, so `ok` is `3f 5f`: twelve bits and four ones.

use super::HpackError;

/// Code lengths of the 256 bytes and of the end of string.
const LENGTHS: [u8; SYMBOLS] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, //
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28, //
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, //
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, //
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, //
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, //
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, //
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, //
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, //
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, //
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, //
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, //
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, //
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, //
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, //
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, //
    30,
];

const SYMBOLS: usize = 257;
const LENGTH_MAX: usize = 30;

/// The end of a string, which no string may hold.
const END: u16 = 256;

/// What the lengths mean.
struct Code {
    /// By symbol, right-aligned.
    codes: [u32; SYMBOLS],
    /// Symbols in the order of their codes.
    sorted: [u16; SYMBOLS],
    /// By length: the first code, right-aligned, its place in `sorted`, and the bound of all codes of
    /// at most this length, left-aligned in 32 bits.
    first: [u32; LENGTH_MAX + 1],
    place: [u16; LENGTH_MAX + 1],
    bound: [u64; LENGTH_MAX + 1],
    /// By the next eight bits: `length << 8 | symbol` of a code of at most eight bits, else 0.
    short: [u16; 256],
}

static CODE: Code = Code::new();

impl Code {
    const fn new() -> Code {
        let mut code = Code {
            codes: [0; SYMBOLS],
            sorted: [0; SYMBOLS],
            first: [0; LENGTH_MAX + 1],
            place: [0; LENGTH_MAX + 1],
            bound: [0; LENGTH_MAX + 1],
            short: [0; 256],
        };
        let (mut next, mut placed, mut length) = (0_u32, 0, 1);
        while length <= LENGTH_MAX {
            next <<= 1;
            code.first[length] = next;
            code.place[length] = placed as u16;
            let mut symbol = 0;
            while symbol < SYMBOLS {
                if LENGTHS[symbol] as usize == length {
                    code.codes[symbol] = next;
                    code.sorted[placed] = symbol as u16;
                    code.add_short(symbol as u16, next, length);
                    next += 1;
                    placed += 1;
                }
                symbol += 1;
            }
            code.bound[length] = (next as u64) << (32 - length);
            length += 1;
        }
        code
    }

    const fn add_short(&mut self, symbol: u16, code: u32, length: usize) {
        if length > 8 {
            return;
        }
        let first = (code as usize) << (8 - length);
        let mut at = first;
        while at < first + (1 << (8 - length)) {
            self.short[at] = (length as u16) << 8 | symbol;
            at += 1;
        }
    }

    /// The symbol at the front of 32 bits, and its length.
    #[inline]
    fn look(&self, bits: u32) -> (u16, u32) {
        let short = self.short[(bits >> 24) as usize];
        if short != 0 {
            return (short & 0xff, u32::from(short >> 8));
        }
        let mut length = 9;
        while u64::from(bits) >= self.bound[length] && length < LENGTH_MAX {
            length += 1;
        }
        let nth = (bits >> (32 - length)) - self.first[length];
        (self.sorted[usize::from(self.place[length]) + nth as usize], length as u32)
    }
}

/// Appends what `coded` means to `out`.
///
/// # Errors
/// Bits that are no string.
pub(super) fn decode(coded: &[u8], out: &mut Vec<u8>) -> Result<(), HpackError> {
    let (mut bits, mut count) = (0_u64, 0_u32);
    let mut rest = coded.iter();
    loop {
        while count <= 56 {
            let Some(byte) = rest.next() else { break };
            bits |= u64::from(*byte) << (56 - count);
            count += 8;
        }
        let (symbol, length) = CODE.look((bits >> 32) as u32);
        if length > count {
            // Shorter than any code that begins so: it must be padding.
            let padding = count == 0 || bits >> (64 - count) == (1 << count) - 1;
            return if count < 8 && padding { Ok(()) } else { Err(HpackError::Huffman) };
        }
        if symbol == END {
            return Err(HpackError::Huffman);
        }
        out.push(symbol as u8);
        bits <<= length;
        count -= length;
    }
}

/// Bytes of `text` when encoded.
pub(super) fn encoded_len(text: &[u8]) -> usize {
    let bits: usize = text.iter().map(|byte| usize::from(LENGTHS[usize::from(*byte)])).sum();
    bits.div_ceil(8)
}

/// Appends the code of `text` to `out`.
pub(super) fn encode(text: &[u8], out: &mut Vec<u8>) {
    let (mut bits, mut count) = (0_u64, 0_u32);
    for byte in text {
        let symbol = usize::from(*byte);
        let length = u32::from(LENGTHS[symbol]);
        bits = bits << length | u64::from(CODE.codes[symbol]);
        count += length;
        while count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    if count > 0 {
        out.push((bits << (8 - count)) as u8 | (0xff >> count));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decoded(coded: &[u8]) -> Result<Vec<u8>, HpackError> {
        let mut out = Vec::new();
        decode(coded, &mut out).map(|()| out)
    }

    fn encoded(text: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        encode(text, &mut out);
        assert_eq!(out.len(), encoded_len(text));
        out
    }

    #[test]
    fn codes_of_the_rfc() {
        for (symbol, code) in [(0, 0x1ff8), (48, 0), (97, 3), (122, 0x7b), (255, 0x3ff_ffee)] {
            assert_eq!(CODE.codes[symbol], code, "symbol {symbol}");
        }
        assert_eq!(CODE.codes[256], 0x3fff_ffff);
    }

    #[test]
    fn strings_of_the_rfc() {
        let host = [0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff];
        assert_eq!(decoded(&host).as_deref(), Ok(&b"www.example.com"[..]));
        assert_eq!(encoded(b"www.example.com"), host);
        assert_eq!(encoded(b"no-cache"), [0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf]);
        assert_eq!(encoded(b"ok"), [0x3f, 0x5f]);
    }

    #[test]
    fn bad_padding_and_the_end_symbol_are_refused() {
        // `a` is 00011; then 111 is padding, anything else is not.
        assert_eq!(decoded(&[0b0001_1111]).as_deref(), Ok(&b"a"[..]));
        assert_eq!(decoded(&[0b0001_1110]), Err(HpackError::Huffman));
        assert_eq!(decoded(&[0b0001_1111, 0xff]), Err(HpackError::Huffman), "a byte of padding");
        assert_eq!(decoded(&[0xff; 4]), Err(HpackError::Huffman), "the end symbol");
        assert_eq!(decoded(&[]).as_deref(), Ok(&b""[..]));
    }

    /// A decoder that looks at one bit after the other.
    fn twin(coded: &[u8]) -> Option<Vec<u8>> {
        let (mut out, mut code, mut length) = (Vec::new(), 0_u32, 0_u8);
        for at in 0..coded.len() * 8 {
            code = code << 1 | u32::from(coded[at / 8] >> (7 - at % 8) & 1);
            length += 1;
            let known = (0..SYMBOLS).find(|s| LENGTHS[*s] == length && CODE.codes[*s] == code);
            if let Some(symbol) = known {
                out.push(u8::try_from(symbol).ok()?);
                (code, length) = (0, 0);
            }
        }
        (length < 8 && code == (1 << length) - 1).then_some(out)
    }

    proptest! {
        #[test]
        fn what_is_encoded_decodes(text in proptest::collection::vec(any::<u8>(), 0..64)) {
            prop_assert_eq!(decoded(&encoded(&text)), Ok(text));
        }

        #[test]
        fn any_bits_decode_as_the_twin_says(coded in proptest::collection::vec(any::<u8>(), 0..24)) {
            prop_assert_eq!(decoded(&coded).ok(), twin(&coded));
        }

        #[test]
        fn long_codes_decode_as_the_twin_says(tail in any::<[u8; 4]>(), ones in 0_usize..4) {
            let coded = [&[0xff; 4][..ones], &tail].concat();
            prop_assert_eq!(decoded(&coded).ok(), twin(&coded));
        }
    }
}
