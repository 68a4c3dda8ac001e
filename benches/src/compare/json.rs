//! Just enough JSON to write results down.

use std::fmt;

/// A value.
#[derive(Clone, Debug)]
pub enum Json {
    /// Nothing, and what is not finite.
    Null,
    /// A number.
    Number(f64),
    /// A text.
    Text(String),
    /// A list.
    List(Vec<Json>),
    /// An object, in the order given.
    Object(Vec<(&'static str, Json)>),
}

impl Json {
    /// A text.
    pub fn text(text: impl Into<String>) -> Json {
        Json::Text(text.into())
    }

    /// A number, or null.
    pub fn number(number: Option<f64>) -> Json {
        number.map_or(Json::Null, Json::Number)
    }

    /// A list.
    pub fn list(values: impl IntoIterator<Item = Json>) -> Json {
        Json::List(values.into_iter().collect())
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Json::Number(number) if number.is_finite() => write!(f, "{number}"),
            Json::Null | Json::Number(_) => write!(f, "null"),
            Json::Text(text) => write_text(f, text),
            Json::List(values) => {
                for (nth, value) in values.iter().enumerate() {
                    write!(f, "{}{value}", if nth == 0 { "[" } else { ",\n " })?;
                }
                write!(f, "{}", if values.is_empty() { "[]" } else { "]" })
            }
            Json::Object(fields) => {
                for (nth, (name, value)) in fields.iter().enumerate() {
                    write!(f, "{}\"{name}\":{value}", if nth == 0 { "{" } else { "," })?;
                }
                write!(f, "{}", if fields.is_empty() { "{}" } else { "}" })
            }
        }
    }
}

fn write_text(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    write!(f, "\"")?;
    for letter in text.chars() {
        match letter {
            '"' | '\\' => write!(f, "\\{letter}")?,
            letter if u32::from(letter) < 32 => write!(f, "\\u{:04x}", u32::from(letter))?,
            letter => write!(f, "{letter}")?,
        }
    }
    write!(f, "\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_escaped_and_what_is_not_finite_is_null() {
        let json = Json::Object(vec![
            ("a", Json::list([Json::Number(1.5), Json::Number(f64::NAN)])),
            ("b", Json::text("x\"\\\n")),
            ("c", Json::list([])),
        ]);
        assert_eq!(json.to_string(), "{\"a\":[1.5,\n null],\"b\":\"x\\\"\\\\\\u000a\",\"c\":[]}");
    }
}
