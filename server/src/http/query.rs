//! The query of a URL.
//!
//! Worked example: `exclude=a&verbose&exclude=b%20c` has `exclude` twice, as `a` and as `b c`, and
//! `verbose` with an empty value.

/// Names and values, decoded, in order.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Splits and decodes; what cannot be decoded is left out, as Go does.
    pub fn parse(text: Option<&str>) -> Query {
        let parts = text.unwrap_or("").split('&').filter(|part| !part.is_empty());
        let pairs = parts.filter(|part| !part.contains(';')).filter_map(|part| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            Some((decode(name)?, decode(value)?))
        });
        Query(pairs.collect())
    }

    /// Every value of a name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// The first value of a name.
    pub fn first(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// Whether a name is there.
    pub fn has(&self, name: &str) -> bool {
        self.first(name).is_some()
    }
}

fn decode(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => digit(bytes.next()?)? << 4 | digit(bytes.next()?)?,
            other => other,
        });
    }
    String::from_utf8(decoded).ok()
}

fn digit(byte: u8) -> Option<u8> {
    (byte as char).to_digit(16).map(|digit| digit as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_repeat_and_values_are_decoded() {
        let query = Query::parse(Some("exclude=a&verbose&exclude=b%20c+d&&x=1;y=2&%zz=1&z=%c3"));
        assert_eq!(query.all("exclude").collect::<Vec<_>>(), ["a", "b c d"]);
        assert!(query.has("verbose"));
        assert_eq!(query.first("verbose"), Some(""));
        for absent in ["x", "y", "z", "", "%zz"] {
            assert!(!query.has(absent), "{absent}");
        }
        assert_eq!(Query::parse(None), Query::default());
    }
}
