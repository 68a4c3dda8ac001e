//! JSON as Go's `encoding/json` writes it: fields in their order, no blanks, base64 for bytes.
//!
//! Only writing. Laws: 1. `<`, `>`, `&`, U+2028 and U+2029 are escaped, what is not UTF-8 becomes
//! U+FFFD; 2. fields keep the order they are added in (a map that sorts would not do); 3. zero values
//! are left out by [`Object::opt`], kept by [`Object::add`].
//!
//! Worked example: an object with `opt("revision", 0)` and `add("TTL", 7)` is `{"TTL":7}`.

use std::fmt::{self, Display, Formatter, Write};

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    /// No value; Go's nil.
    Null,
    /// A truth value.
    Bool(bool),
    /// A number of any sign and 64 bits.
    Number(i128),
    /// A text.
    Text(String),
    /// Values in order.
    Array(Vec<Json>),
    /// Fields in order.
    Object(Object),
}

/// Fields in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Object(Vec<(&'static str, Json)>);

impl Object {
    /// Adds a field.
    pub fn add(mut self, name: &'static str, value: impl Into<Json>) -> Object {
        self.0.push((name, value.into()));
        self
    }

    /// Adds a field unless its value is zero, empty or false.
    pub fn opt(self, name: &'static str, value: impl Into<Json>) -> Object {
        let value = value.into();
        if value.is_zero() { self } else { self.add(name, value) }
    }

    /// Adds a field that is there or not, however empty it is.
    pub fn maybe(self, name: &'static str, value: Option<Object>) -> Object {
        match value {
            Some(value) => self.add(name, value),
            None => self,
        }
    }

    /// Adds all fields of another object.
    pub fn join(mut self, other: Object) -> Object {
        self.0.extend(other.0);
        self
    }
}

impl Json {
    fn is_zero(&self) -> bool {
        match self {
            Json::Null | Json::Bool(false) | Json::Number(0) => true,
            Json::Text(text) => text.is_empty(),
            Json::Array(items) => items.is_empty(),
            Json::Bool(_) | Json::Number(_) | Json::Object(_) => false,
        }
    }

    /// Bytes, in base64.
    pub fn bytes(bytes: &[u8]) -> Json {
        Json::Text(base64(bytes))
    }

    /// What `items` become, in order.
    pub fn array<T>(items: &[T], each: impl Fn(&T) -> Json) -> Json {
        Json::Array(items.iter().map(each).collect())
    }
}

impl Display for Json {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Json::Null => out.write_str("null"),
            Json::Bool(value) => write!(out, "{value}"),
            Json::Number(value) => write!(out, "{value}"),
            Json::Text(text) => write_text(text, out),
            Json::Array(items) => {
                out.write_char('[')?;
                for (at, item) in items.iter().enumerate() {
                    write!(out, "{}{item}", if at == 0 { "" } else { "," })?;
                }
                out.write_char(']')
            }
            Json::Object(Object(fields)) => {
                out.write_char('{')?;
                for (at, (name, value)) in fields.iter().enumerate() {
                    write!(out, "{}\"{name}\":{value}", if at == 0 { "" } else { "," })?;
                }
                out.write_char('}')
            }
        }
    }
}

fn write_text(text: &str, out: &mut Formatter<'_>) -> fmt::Result {
    out.write_char('"')?;
    for letter in text.chars() {
        match letter {
            '"' => out.write_str("\\\"")?,
            '\\' => out.write_str("\\\\")?,
            '\n' => out.write_str("\\n")?,
            '\r' => out.write_str("\\r")?,
            '\t' => out.write_str("\\t")?,
            '\x08' => out.write_str("\\b")?,
            '\x0c' => out.write_str("\\f")?,
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\x1f' => {
                write!(out, "\\u{:04x}", letter as u32)?;
            }
            plain => out.write_char(plain)?,
        }
    }
    out.write_char('"')
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let mut group = [0; 3];
        group[..chunk.len()].copy_from_slice(chunk);
        let bits = u32::from_be_bytes([0, group[0], group[1], group[2]]);
        for at in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * at)) as usize & 63];
            out.push(if at <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    out
}

impl From<Object> for Json {
    fn from(object: Object) -> Json {
        Json::Object(object)
    }
}

impl From<bool> for Json {
    fn from(value: bool) -> Json {
        Json::Bool(value)
    }
}

impl From<&str> for Json {
    fn from(text: &str) -> Json {
        Json::Text(text.to_owned())
    }
}

impl From<i64> for Json {
    fn from(value: i64) -> Json {
        Json::Number(value.into())
    }
}

impl From<u64> for Json {
    fn from(value: u64) -> Json {
        Json::Number(value.into())
    }
}
