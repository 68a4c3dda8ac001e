//! HPACK (RFC 7541): header blocks of requests to fields, and the few headers of answers to blocks.
//!
//! `table` has both tables, `decode` reads a block, `encode` writes answers, `huffman` is the code of
//! strings. A field comes with its [`Tag`], what it means to gRPC; a table entry keeps its tag, so a
//! repeated request costs one byte and one look a field, and nothing is allocated.
//!
//! Leaves out which fields make a good request ([`super::head`]).
//!
//! Worked example: `82` is `:method: GET` out of the static table; `40 03 61 62 63 01 78` is `abc: x`,
//! which enters the dynamic table and is `be` from then on.

mod decode;
mod encode;
mod huffman;
mod table;

pub(super) use decode::{Decoder, Field};
pub(super) use encode::Encoder;
#[cfg(test)]
pub(super) use table::STATIC;

use super::field::Tag;

/// Why a block cannot be read. All end the connection, and all but the last are COMPRESSION_ERROR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HpackError {
    /// It ends inside a field.
    Short,
    /// An integer of more than 28 bits.
    Integer,
    /// Index 0, or one past the tables.
    Index,
    /// Bits that are no string.
    Huffman,
    /// A table size that is not allowed, or not at the beginning of a block.
    TableSize,
    /// The list is larger than whoever reads it allows.
    TooLarge,
}

impl HpackError {
    /// For the client's logs.
    pub(super) fn text(self) -> &'static str {
        match self {
            HpackError::Short => "a header block ends inside a field",
            HpackError::Integer => "an integer in a header block is too large",
            HpackError::Index => "a header block names an entry that no table has",
            HpackError::Huffman => "a string in a header block is not Huffman coded",
            HpackError::TableSize => "a header block changes the table's size against the rules",
            HpackError::TooLarge => "a header list is far too large",
        }
    }
}
