//! The services' methods by their short names, and messages as text and as bytes.
//!
//! Messages are read by the descriptors of `net/proto`, so every field is seen, and a field that those
//! files do not have is printed by its number. Text is protobuf's text format on one line.
//!
//! Worked example: `KV.Put` with `key:"a",value:"1"` is the path `/etcdserverpb.KV/Put` and the bytes
//! `0a 01 61 12 01 31`.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;
use prost_reflect::text_format::FormatOptions;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, MethodDescriptor};

/// A method that can be called.
#[derive(Clone, Debug)]
pub struct Method {
    /// `KV.Put`
    pub name: String,
    /// `/etcdserverpb.KV/Put`
    pub path: String,
    /// The request's type.
    pub input: MessageDescriptor,
    /// The answer's type.
    pub output: MessageDescriptor,
    /// Whether the server may answer with any number of messages.
    pub streams: bool,
    /// Whether the client may send any number of messages.
    pub takes_stream: bool,
}

impl Method {
    fn of(method: &MethodDescriptor) -> Method {
        let service = method.parent_service();
        Method {
            name: format!("{}.{}", service.name(), method.name()),
            path: format!("/{}/{}", service.full_name(), method.name()),
            input: method.input(),
            output: method.output(),
            streams: method.is_server_streaming(),
            takes_stream: method.is_client_streaming(),
        }
    }
}

/// All methods.
#[derive(Clone, Debug)]
pub struct Schema {
    methods: BTreeMap<String, Method>,
}

impl Schema {
    /// Those of `net/proto`.
    pub fn new() -> Schema {
        let pool = DescriptorPool::decode(holdfast_net::proto::DESCRIPTORS);
        let pool = pool.expect("the build wrote descriptors");
        let methods = pool.services().flat_map(|service| service.methods().collect::<Vec<_>>());
        let methods = methods.map(|method| Method::of(&method));
        Schema { methods: methods.map(|method| (method.name.clone(), method)).collect() }
    }

    /// The method of this short name; of a path, one that nobody may know, with messages like Range's.
    ///
    /// # Errors
    /// There is none.
    pub fn method(&self, name: &str) -> Result<Method, String> {
        let known = |name: &str| {
            self.methods.get(name).cloned().ok_or_else(|| format!("no method is called {name}"))
        };
        match name.strip_prefix('/') {
            None => known(name),
            Some(_) => {
                Ok(Method { name: name.to_owned(), path: name.to_owned(), ..known("KV.Range")? })
            }
        }
    }

    /// All short names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.methods.keys().map(String::as_str)
    }
}

impl Default for Schema {
    fn default() -> Schema {
        Schema::new()
    }
}

/// Text to bytes; behind `raw` the text is not a message but bytes, `\\377` being one by its octal number.
///
/// # Errors
/// Text that is no such message.
pub fn encode(text: &str, message: &MessageDescriptor) -> Result<Bytes, String> {
    if let Some(raw) = text.strip_prefix("raw ") {
        return unescape(raw).ok_or_else(|| format!("no bytes: {raw}"));
    }
    let read = DynamicMessage::parse_text_format(message.clone(), text);
    let read = read.map_err(|cause| format!("{}: {cause}: {text}", message.name()))?;
    Ok(read.encode_to_vec().into())
}

fn unescape(text: &str) -> Option<Bytes> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if c == '\\' {
            bytes.push(u8::from_str_radix(rest.get(1..4)?, 8).ok()?);
            rest = &rest[4..];
        } else {
            bytes.extend_from_slice(&rest.as_bytes()[..c.len_utf8()]);
            rest = &rest[c.len_utf8()..];
        }
    }
    Some(bytes.into())
}

/// Bytes to a message.
///
/// # Errors
/// Bytes that are no such message.
pub fn decode(bytes: &Bytes, message: &MessageDescriptor) -> Result<DynamicMessage, String> {
    DynamicMessage::decode(message.clone(), bytes.clone())
        .map_err(|cause| format!("{}: {cause}: {bytes:?}", message.name()))
}

/// A message as text.
pub fn print(message: &DynamicMessage) -> String {
    let options =
        FormatOptions::new().skip_unknown_fields(false).print_message_fields_in_index_order(false);
    message.to_text_format_with_options(&options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_what_the_bytes_say() {
        let schema = Schema::new();
        let put = schema.method("KV.Put").expect("a method");
        assert_eq!(put.path, "/etcdserverpb.KV/Put");
        let bytes = encode(r#"key:"a",value:"1\000""#, &put.input).expect("text");
        assert_eq!(&bytes[..], b"\x0a\x01a\x12\x021\0");
        let message = decode(&bytes, &put.input).expect("bytes");
        assert_eq!(print(&message), r#"key:"a",value:"1\000""#);
        let unknown = decode(&Bytes::from_static(b"\xf8\x01\x07"), &put.input).expect("bytes");
        assert_eq!(print(&unknown), "31:7");
        assert_eq!(encode("raw \\377a\\000", &put.input), Ok(Bytes::from_static(b"\xffa\0")));
        assert!(encode("raw \\9", &put.input).is_err());
    }

    #[test]
    fn every_service_is_known() {
        let schema = Schema::new();
        assert!(schema.names().count() >= 52, "{:?}", schema.names().collect::<Vec<_>>());
        assert!(schema.method("Watch.Watch").expect("a method").takes_stream);
        assert!(schema.method("Health.Watch").expect("a method").streams);
        assert!(schema.method("KV.Nothing").is_err());
    }
}
