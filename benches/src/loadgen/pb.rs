//! Just enough protobuf to write a request and to look into an answer.

/// Appends a varint.
pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 128 {
        out.push(value as u8 | 128);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a varint field.
pub(super) fn put_number(out: &mut Vec<u8>, field: u32, value: u64) {
    put_varint(out, u64::from(field << 3));
    put_varint(out, value);
}

/// Appends the head of a field of `length` bytes, which follow.
pub(super) fn put_head(out: &mut Vec<u8>, field: u32, length: usize) {
    put_varint(out, u64::from(field << 3 | 2));
    put_varint(out, length as u64);
}

/// Appends a field of bytes.
pub(super) fn put_bytes(out: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    put_head(out, field, bytes.len());
    out.extend_from_slice(bytes);
}

/// Appends a field that holds the message which `fill` writes.
pub(super) fn put_message(out: &mut Vec<u8>, field: u32, fill: impl FnOnce(&mut Vec<u8>)) {
    put_varint(out, u64::from(field << 3 | 2));
    let head = out.len();
    out.extend_from_slice(&[0; LENGTH]);
    fill(out);
    let length = out.len() - head - LENGTH;
    if length < 1 << (7 * LENGTH) {
        // Both bytes even where one would do, which is a varint all the same and moves nothing.
        out[head] = length as u8 | 128;
        out[head + 1] = (length >> 7) as u8;
    } else {
        let mut long = Vec::new();
        put_varint(&mut long, length as u64);
        out.splice(head..head + LENGTH, long);
    }
}

/// Bytes left for a message's length: enough below 16 KiB.
const LENGTH: usize = 2;

/// A field's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    /// The number; zero for bytes.
    pub fn number(self) -> u64 {
        if let Value::Number(number) = self { number } else { 0 }
    }

    /// The bytes; none for a number.
    pub fn bytes(self) -> &'a [u8] {
        if let Value::Bytes(bytes) = self { bytes } else { &[] }
    }
}

/// The last number of a field; zero when it is absent.
pub(super) fn number_of(message: &[u8], wanted: u32) -> u64 {
    let field = fields(message).filter(|(field, _)| *field == wanted).last();
    field.map_or(0, |(_, value)| value.number())
}

/// The last bytes of a field; none when it is absent.
pub(super) fn bytes_of(message: &[u8], wanted: u32) -> &[u8] {
    let field = fields(message).filter(|(field, _)| *field == wanted).last();
    field.map_or(&[], |(_, value)| value.bytes())
}

/// The fields of a message, in order.
pub(super) struct Fields<'a> {
    rest: &'a [u8],
    /// Whether it ended in the middle of a field.
    pub malformed: bool,
}

pub(super) fn fields(message: &[u8]) -> Fields<'_> {
    Fields { rest: message, malformed: false }
}

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for (nth, byte) in self.rest.iter().enumerate().take(10) {
            value |= u64::from(byte & 127) << (7 * nth);
            if byte & 128 == 0 {
                self.rest = &self.rest[nth + 1..];
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, length: u64) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(usize::try_from(length).ok()?)?;
        self.rest = rest;
        Some(taken)
    }

    fn field(&mut self) -> Option<(u32, Value<'a>)> {
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Value::Number(self.varint()?),
            1 => Value::Bytes(self.take(8)?),
            2 => {
                let length = self.varint()?;
                Value::Bytes(self.take(length)?)
            }
            5 => Value::Bytes(self.take(4)?),
            _ => return None,
        };
        Some((u32::try_from(key >> 3).ok()?, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (u32, Value<'a>);

    fn next(&mut self) -> Option<(u32, Value<'a>)> {
        if self.rest.is_empty() || self.malformed {
            return None;
        }
        let field = self.field();
        self.malformed = field.is_none();
        field
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_inside_reads_back_at_every_length() {
        for length in [0, 1, 127, 128, 300, (1 << 14) - 1, 1 << 14, 70_000] {
            let mut out = Vec::new();
            put_message(&mut out, 2, |out| out.resize(out.len() + length, 7));
            put_number(&mut out, 3, 5);
            assert_eq!(bytes_of(&out, 2).len(), length);
            assert_eq!(number_of(&out, 3), 5);
        }
    }

    #[test]
    fn fields_come_back_and_a_cut_message_is_malformed() {
        let mut message = Vec::new();
        put_bytes(&mut message, 1, &[7; 300]);
        put_number(&mut message, 3, 1 << 40);
        let all: Vec<_> = fields(&message).collect();
        assert_eq!(all, [(1, Value::Bytes(&[7; 300])), (3, Value::Number(1 << 40))]);
        let mut cut = fields(&message[..100]);
        assert_eq!(cut.next(), None);
        assert!(cut.malformed);
    }
}
