//! Just enough PEM and DER to find a key in what tools write.
//!
//! Law: any bytes in, an answer or `None` out: no panic, and nothing beyond the input is read.
//!
//! Worked example: `-----BEGIN PUBLIC KEY-----` holds a SubjectPublicKeyInfo; [`public_bits`] of it is
//! what its BIT STRING holds.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The label and the bytes of the first PEM block.
pub(super) fn pem(text: &[u8]) -> Option<(String, Vec<u8>)> {
    let text = str::from_utf8(text).ok()?;
    let (_, rest) = text.split_once("-----BEGIN ")?;
    let (label, rest) = rest.split_once("-----")?;
    let (body, _) = rest.split_once(&format!("-----END {label}-----"))?;
    let body: String = body.split_ascii_whitespace().collect();
    Some((label.to_owned(), STANDARD.decode(body).ok()?))
}

pub(super) const SEQUENCE: u8 = 0x30;
const OCTETS: u8 = 0x04;
const BITS: u8 = 0x03;
const INTEGER: u8 = 0x02;
const TAGGED_0: u8 = 0xa0;
const TAGGED_1: u8 = 0xa1;

/// Takes one element off the front: its tag and its content.
fn element<'a>(data: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let (&tag, rest) = data.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (len, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (bytes.iter().fold(0usize, |len, byte| len << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(len)?;
    *data = rest;
    Some((tag, content))
}

/// Takes the content of an element that must have this tag.
fn expect<'a>(data: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    let (found, content) = element(data)?;
    (found == tag).then_some(content)
}

/// The key bits of a SubjectPublicKeyInfo.
pub(super) fn public_bits(mut spki: &[u8]) -> Option<Vec<u8>> {
    let mut inside = expect(&mut spki, SEQUENCE)?;
    expect(&mut inside, SEQUENCE)?;
    bits(&mut inside)
}

/// The key bits of a certificate.
pub(super) fn certificate_bits(mut certificate: &[u8]) -> Option<Vec<u8>> {
    let mut outer = expect(&mut certificate, SEQUENCE)?;
    let mut signed = expect(&mut outer, SEQUENCE)?;
    if signed.first() == Some(&TAGGED_0) {
        element(&mut signed)?;
    }
    // Serial number, algorithm, issuer, validity, subject.
    for _ in 0..5 {
        element(&mut signed)?;
    }
    let mut spki = expect(&mut signed, SEQUENCE)?;
    expect(&mut spki, SEQUENCE)?;
    bits(&mut spki)
}

/// The private and the public number of an ECPrivateKey (RFC 5915).
pub(super) fn ec_private(mut key: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut inside = expect(&mut key, SEQUENCE)?;
    expect(&mut inside, INTEGER)?;
    let private = expect(&mut inside, OCTETS)?.to_vec();
    let mut public = None;
    while let Some((tag, mut content)) = element(&mut inside) {
        if tag == TAGGED_1 {
            public = bits(&mut content);
        }
    }
    Some((private, public?))
}

/// The inner key of a PKCS#8 PrivateKeyInfo.
pub(super) fn pkcs8_inner(mut key: &[u8]) -> Option<Vec<u8>> {
    let mut inside = expect(&mut key, SEQUENCE)?;
    expect(&mut inside, INTEGER)?;
    expect(&mut inside, SEQUENCE)?;
    Some(expect(&mut inside, OCTETS)?.to_vec())
}

fn bits(data: &mut &[u8]) -> Option<Vec<u8>> {
    match expect(data, BITS)?.split_first()? {
        (0, bits) => Some(bits.to_vec()),
        _ => None,
    }
}
