//! Protobuf's wire format, as much of it as etcd's messages use: varints and length-delimited fields.
//!
//! Law: zero numbers and empty bytes are not written, except where a member of a `oneof` is wanted;
//! what is read must be so too, since a server that writes them wastes bytes in every answer.
//!
//! Worked example: field 3 with the number 300 is `18 ac 02`.

use super::Breach;

/// Appends fields to a message.
#[derive(Clone, Debug, Default)]
pub struct Writer(pub Vec<u8>);

impl Writer {
    /// A number; nothing when it is zero.
    pub fn int(&mut self, field: u32, value: i64) -> &mut Writer {
        if value != 0 {
            self.present_int(field, value);
        }
        self
    }

    /// A number, also when it is zero.
    pub fn present_int(&mut self, field: u32, value: i64) -> &mut Writer {
        self.varint(u64::from(field) << 3);
        self.varint(value as u64);
        self
    }

    /// A switch; nothing when it is off.
    pub fn flag(&mut self, field: u32, value: bool) -> &mut Writer {
        self.int(field, value.into())
    }

    /// Bytes; nothing when there are none.
    pub fn bytes(&mut self, field: u32, value: &[u8]) -> &mut Writer {
        if !value.is_empty() {
            self.present_bytes(field, value);
        }
        self
    }

    /// Bytes, or a message, also when it is empty.
    pub fn present_bytes(&mut self, field: u32, value: &[u8]) -> &mut Writer {
        self.varint(u64::from(field) << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    fn varint(&mut self, mut value: u64) {
        while value > 0x7f {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

/// The value of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// A varint.
    Int(u64),
    /// A length-delimited one.
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    /// As a number.
    ///
    /// # Errors
    /// It is none.
    pub fn int(self) -> Result<i64, Breach> {
        match self {
            Value::Int(number) => Ok(number as i64),
            Value::Bytes(_) => Err("bytes where a number belongs".into()),
        }
    }

    /// As bytes.
    ///
    /// # Errors
    /// It is a number.
    pub fn bytes(self) -> Result<&'a [u8], Breach> {
        match self {
            Value::Bytes(bytes) => Ok(bytes),
            Value::Int(_) => Err("a number where bytes belong".into()),
        }
    }

    /// As text.
    ///
    /// # Errors
    /// It is none.
    pub fn text(self) -> Result<String, Breach> {
        let text = std::str::from_utf8(self.bytes()?);
        text.map(str::to_string).map_err(|_| "text that is not UTF-8".into())
    }
}

/// Visits the fields of a message in order.
///
/// # Errors
/// The message is cut short, or `visit` refuses a field.
pub fn fields<'a>(
    mut message: &'a [u8],
    mut visit: impl FnMut(u32, Value<'a>) -> Result<(), Breach>,
) -> Result<(), Breach> {
    while !message.is_empty() {
        let (tag, rest) = varint(message)?;
        let (value, rest) = match tag & 7 {
            0 => {
                let (number, rest) = varint(rest)?;
                (Value::Int(number), rest)
            }
            2 => {
                let (length, rest) = varint(rest)?;
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                let split = rest.split_at_checked(length);
                let (bytes, rest) = split.ok_or("a field is longer than its message")?;
                (Value::Bytes(bytes), rest)
            }
            other => return Err(format!("wire type {other}")),
        };
        visit((tag >> 3) as u32, value)?;
        message = rest;
    }
    Ok(())
}

fn varint(bytes: &[u8]) -> Result<(u64, &[u8]), Breach> {
    let mut number = 0;
    for (place, byte) in bytes.iter().enumerate().take(10) {
        number |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Ok((number, &bytes[place + 1..]));
        }
    }
    Err("a varint has no end".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_as_they_were_written() {
        let mut writer = Writer::default();
        writer.int(1, -1).int(2, 0).present_int(3, 300).bytes(4, b"").present_bytes(5, b"ab");
        let mut seen = Vec::new();
        fields(&writer.0, |field, value| {
            seen.push((field, value));
            Ok(())
        })
        .expect("it is well formed");
        let wanted =
            [(1, Value::Int(u64::MAX)), (3, Value::Int(300)), (5, Value::Bytes(&b"ab"[..]))];
        assert_eq!(seen, wanted);
        assert!(fields(&writer.0[..writer.0.len() - 1], |_, _| Ok(())).is_err());
    }
}
