//! Holds `proto/*.proto` to etcd 3.7's API: every field's name, number, type and label, every enum
//! value, every rpc, against the committed table `api.txt`.
//!
//! The table has one fact a line, sorted; a message without fields has a line of its own. A line that
//! is missing on either side fails the test, so that a typing error in a .proto file cannot survive.

use std::collections::BTreeSet;
use std::path::Path;

use protox::prost_reflect::{
    DescriptorPool, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor,
};

const TABLE: &str = include_str!("api.txt");

#[test]
fn proto_files_say_what_etcd_says() {
    let expected: BTreeSet<&str> = TABLE.lines().collect();
    let facts = facts();
    let found: BTreeSet<&str> = facts.iter().map(String::as_str).collect();
    let missing: Vec<_> = expected.difference(&found).collect();
    let unknown: Vec<_> = found.difference(&expected).collect();
    assert!(
        missing.is_empty() && unknown.is_empty(),
        "proto/ and tests/api.txt differ.\nonly in api.txt: {missing:#?}\nonly in proto/: {unknown:#?}"
    );
}

#[test]
fn table_is_complete() {
    let count = |kind: &str| TABLE.lines().filter(|line| line.starts_with(kind)).count();
    assert_eq!(count("rpc "), 49 + 3, "etcd has 49 rpcs, the health service 3");
    assert!(count("field ") > 250 && count("enum ") > 30);
}

/// Everything the .proto files define, in the table's notation.
fn facts() -> Vec<String> {
    let pool = pool();
    let mut facts = Vec::new();
    for message in pool.all_messages().filter(|message| !message.is_map_entry()) {
        if message.fields().len() == 0 {
            facts.push(format!("message {}", message.full_name()));
        }
        facts.extend(message.fields().map(|field| field_fact(&message, &field)));
    }
    for kind in pool.all_enums() {
        facts.extend(enum_facts(&kind));
    }
    for service in pool.services() {
        facts.extend(service.methods().map(|method| rpc_fact(service.full_name(), &method)));
    }
    facts
}

fn pool() -> DescriptorPool {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto");
    let mut compiler = protox::Compiler::new([&directory]).expect("the directory exists");
    for entry in std::fs::read_dir(&directory).expect("the directory exists") {
        let path = entry.expect("the directory can be listed").path();
        if path.extension().is_some_and(|extension| extension == "proto") {
            compiler.open_file(&path).expect("build.rs compiled the same file");
        }
    }
    compiler.descriptor_pool()
}

fn field_fact(message: &MessageDescriptor, field: &FieldDescriptor) -> String {
    let name = field.name();
    let number = field.number();
    let label = if field.is_list() || field.is_map() { "repeated" } else { "singular" };
    let oneof = field.containing_oneof().map(|o| format!(" in {}", o.name())).unwrap_or_default();
    format!("field {}.{name} {number} {} {label}{oneof}", message.full_name(), type_name(field))
}

fn type_name(field: &FieldDescriptor) -> String {
    match field.kind() {
        Kind::Message(entry) if entry.is_map_entry() => {
            let key = entry.map_entry_key_field();
            let value = entry.map_entry_value_field();
            format!("map<{},{}>", type_name(&key), type_name(&value))
        }
        Kind::Message(message) => message.full_name().into(),
        Kind::Enum(kind) => kind.full_name().into(),
        scalar => format!("{scalar:?}").to_lowercase(),
    }
}

fn enum_facts(kind: &EnumDescriptor) -> Vec<String> {
    let name = kind.full_name();
    kind.values().map(|v| format!("enum {name}.{} {}", v.name(), v.number())).collect()
}

fn rpc_fact(service: &str, method: &MethodDescriptor) -> String {
    let stream = |is: bool| if is { "stream " } else { "" };
    format!(
        "rpc /{service}/{} {}{} -> {}{}",
        method.name(),
        stream(method.is_client_streaming()),
        method.input().full_name(),
        stream(method.is_server_streaming()),
        method.output().full_name(),
    )
}
