//! Keys and values: what is written, and the proof that what is read was written so.
//!
//! A value of at least 24 bytes is: 8 hexadecimal digits that say from where in the pattern the rest is
//! cut, 16 that say when it was sent (nanoseconds of the monotonic clock), and that rest. The pattern is
//! the same in every process, so that one can check what another wrote. A shorter value is all pattern
//! and is not checked.

use super::Config;
use super::pb;

/// Bytes of a value that say whence and when.
const HEAD: usize = 24;
const WHENCE: usize = 8;

/// Where in the pattern a value may begin.
const PATTERN: usize = 1 << 20;

/// Bytes behind that, so that a value of another process fits too.
const BEHIND: usize = 4 << 20;

/// Namespaces that pods lie in.
const NAMESPACES: u64 = 100;

/// SplitMix64: small, seeded, good enough to choose keys.
#[derive(Clone, Debug)]
pub(super) struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`, which is not zero.
    pub fn below(&mut self, limit: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(limit)) >> 64) as u64
    }
}

/// What values are cut from.
pub(super) struct Pattern(Vec<u8>);

impl Pattern {
    pub fn new(value_size_max: usize) -> Pattern {
        let mut random = Random(42);
        let length = PATTERN + value_size_max.max(BEHIND);
        Pattern((0..length).map(|_| b'A' + (random.next() >> 59) as u8 % 26).collect())
    }

    /// Appends a field with a value of `size` bytes, sent at `now`, chosen by `random`.
    pub fn put(&self, out: &mut Vec<u8>, (field, size): (u32, usize), random: u64, now: u64) {
        let from = (random % PATTERN as u64) as usize;
        pb::put_head(out, field, size);
        if let Some(rest) = size.checked_sub(HEAD) {
            put_hexadecimal(out, from as u64, WHENCE);
            put_hexadecimal(out, now, HEAD - WHENCE);
            out.extend_from_slice(&self.0[from..from + rest]);
        } else {
            out.extend_from_slice(&self.0[from..from + size]);
        }
    }

    /// When a value was sent; zero if it is too short to tell; None if nobody wrote it.
    pub fn check(&self, value: &[u8]) -> Option<u64> {
        let Some((head, rest)) = value.split_at_checked(HEAD) else { return Some(0) };
        let (whence, when) = head.split_at(WHENCE);
        let from = usize::try_from(hexadecimal(whence)?).ok()?;
        let wanted = self.0.get(from..from + rest.len())?;
        if wanted == rest { hexadecimal(when) } else { None }
    }
}

/// Writes the key with this number into `key`.
pub(super) fn name_key(key: &mut Vec<u8>, config: &Config, number: u64) {
    key.clear();
    key.extend_from_slice(config.prefix.as_bytes());
    if config.pods {
        key.extend_from_slice(b"ns-");
        put_decimal(key, number % NAMESPACES, 3);
        key.extend_from_slice(b"/pod-");
        put_decimal(key, number, 7);
    } else {
        let digits = config.key_size.saturating_sub(config.prefix.len());
        put_decimal(key, number, digits.clamp(8, 1000));
    }
}

/// The number at the end of a key.
pub(super) fn number_at_end(key: &[u8]) -> Option<usize> {
    let digits = key.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&key[key.len() - digits..]).ok()?.parse().ok()
}

/// The first key behind all keys with this prefix.
pub(super) fn prefix_end(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    // Text never holds the byte 255, so that the last one can grow.
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

fn put_decimal(out: &mut Vec<u8>, mut number: u64, digits: usize) {
    let from = out.len();
    out.resize(from + digits, b'0');
    for digit in out[from..].iter_mut().rev() {
        if number == 0 {
            break;
        }
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

fn put_hexadecimal(out: &mut Vec<u8>, number: u64, digits: usize) {
    let digit = |nth: usize| b"0123456789abcdef"[(number >> (4 * nth) & 15) as usize];
    out.extend((0..digits).rev().map(digit));
}

fn hexadecimal(digits: &[u8]) -> Option<u64> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(u64::from);
    digits.iter().try_fold(0, |number, byte| Some(number << 4 | digit(*byte)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[test]
    fn a_value_tells_when_it_was_sent_and_a_changed_one_is_nobodys() {
        let pattern = Pattern::new(256);
        for size in [24, 25, 256, 1 << 20] {
            let mut out = Vec::new();
            pattern.put(&mut out, (2, size), 987_654_321, 1_234_567);
            let value = pb::bytes_of(&out, 2).to_vec();
            assert_eq!((value.len(), pattern.check(&value)), (size, Some(1_234_567)));
            for at in [0, 7, size - 1] {
                let mut changed = value.clone();
                changed[at] ^= 0x40;
                // The last byte of the smallest value is a digit of the time.
                assert_ne!(pattern.check(&changed), Some(1_234_567), "byte {at} of {size}");
            }
        }
        assert_eq!(pattern.check(b"short"), Some(0));
    }

    #[test]
    fn keys_have_their_size_and_their_number() {
        let config = Config::parse_from(["loadgen", "--key-size", "20", "--prefix", "/a/"]);
        let mut key = Vec::new();
        name_key(&mut key, &config, 1234);
        assert_eq!(key, b"/a/00000000000001234");
        assert_eq!(number_at_end(&key), Some(1234));
        assert_eq!(prefix_end("/a/"), b"/a0");
    }
}
