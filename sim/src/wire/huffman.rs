//! HPACK's Huffman code (RFC 7541, appendix B), decoding only, a bit at a time, printable ASCII only:
//! gRPC's statuses and texts have nothing else.
//!
//! The code is canonical: shorter codes first, symbols of one length in order, so that the symbols of
//! each length say all. Leaves out speed, and every symbol that a header of gRPC cannot hold.
//!
//! Worked example: `3f 5f` is `ok`: `00111`, `1110101` and four ones.

use super::Breach;

/// The printable symbols of each length, in order. Those of 13 bits begin with byte 0, those of 19
/// bits go on with two bytes above ASCII.
const SYMBOLS: [(u32, &[u8]); 11] = [
    (5, b"012aceiost"),
    (6, b" %-./3456789=A_bdfghlmnpru"),
    (7, b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz"),
    (8, b"&*,;XZ"),
    (10, b"!\"()?"),
    (11, b"'+|"),
    (12, b"#>"),
    (13, b"\0$@[]~"),
    (14, b"^}"),
    (15, b"<`{"),
    (19, b"\\"),
];

/// Decodes a string.
///
/// # Errors
/// A symbol that is not printable, or padding that is not less than a byte of ones.
pub(super) fn decode(coded: &[u8]) -> Result<Vec<u8>, Breach> {
    let mut out = Vec::with_capacity(coded.len() * 8 / 5);
    let (mut code, mut length) = (0_u32, 0);
    for place in 0..coded.len() * 8 {
        code = code << 1 | u32::from(coded[place / 8] >> (7 - place % 8) & 1);
        length += 1;
        if let Some(symbol) = symbol(code, length) {
            out.push(symbol);
            (code, length) = (0, 0);
        } else if length > 19 {
            return Err("a Huffman code that is not of printable ASCII".into());
        }
    }
    if length < 8 && code == (1 << length) - 1 { Ok(out) } else { Err("Huffman padding".into()) }
}

/// The symbol whose code this is.
fn symbol(code: u32, length: u32) -> Option<u8> {
    let (mut first, mut at) = (0, 0);
    for (bits, symbols) in SYMBOLS {
        first <<= bits - at;
        at = bits;
        if bits == length {
            let symbol = symbols.get(code.checked_sub(first)? as usize)?;
            return Some(*symbol).filter(|symbol| *symbol != 0);
        }
        first += symbols.len() as u32;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_rfc_are_read() {
        let coded = [0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff];
        assert_eq!(decode(&coded).expect("C.4.1"), b"www.example.com");
        let coded = [0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xa9, 0x7d, 0x7f];
        assert_eq!(decode(&coded).expect("C.4.3"), b"custom-key");
        let coded = 0x00d0_7abe_9410_54d4_44a8_2005_9504_0b81_u128.to_be_bytes();
        let mut coded = coded[1..].to_vec();
        coded.extend([0x66, 0xe0, 0x82, 0xa6, 0x2d, 0x1b, 0xff]);
        assert_eq!(decode(&coded).expect("C.6.1"), b"Mon, 21 Oct 2013 20:13:21 GMT");
        assert!(decode(&[0x3f, 0x5e]).is_err(), "padding with a zero");
        assert!(decode(&[0x3f, 0x5f, 0xff]).is_err(), "a byte of padding");
    }
}
