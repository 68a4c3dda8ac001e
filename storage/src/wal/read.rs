//! Reading durable entries back, for followers that are behind what is kept in memory.
//!
//! Every batch is verified again when it is read. Leaves out what is not durable yet: whoever
//! appended it still has it.
//!
//! Worked example: `entries(disk, 5, 100, 0)` is entry 5 alone, the least there is.

use holdfast_core::entry::Entry;
use holdfast_core::id::Index;
use holdfast_core::store::Fault;

use super::Wal;
use super::batch::{self, HEADER, Header};
use super::segment::file_name;
use super::spans::Span;
use crate::disk::Disk;

impl Wal {
    /// Reads durable entries back, from `from` up to but without `below`, at least one and then
    /// until they exceed `bytes_max`. Empty if the log does not have `from`.
    pub fn entries(
        &self,
        disk: &dyn Disk,
        from: Index,
        below: Index,
        bytes_max: u64,
    ) -> Result<Vec<Entry>, Fault> {
        let mut entries = Vec::new();
        if self.restart.is_some_and(|restart| from <= restart) {
            return Ok(entries);
        }
        let (mut next, mut bytes) = (from, 0);
        for span in self.spans.from(from) {
            if span.first > next || next >= below {
                break;
            }
            for entry in self.read_span(disk, span)? {
                let wanted = entry.at.index == next && next < below && next <= span.last;
                if wanted && (entries.is_empty() || bytes + entry.data.len() as u64 <= bytes_max) {
                    bytes += entry.data.len() as u64;
                    next = next.next();
                    entries.push(entry);
                }
            }
            if next <= span.last {
                break;
            }
        }
        Ok(entries)
    }

    fn read_span(&self, disk: &dyn Disk, span: &Span) -> Result<Vec<Entry>, Fault> {
        let segment = self.segments.iter().find(|segment| segment.sequence == span.sequence);
        let segment = segment.expect("spans lie in segments that the log has");
        let file = file_name(span.sequence);
        let place = || format!("{file} at {}", span.offset);
        let mut bytes = vec![0; HEADER + span.body_len as usize];
        let read = disk.read(&file, span.offset, &mut bytes);
        read.map_err(|error| Fault::new("read the log", place(), error))?;
        let own = |header: &Header| header.uuid == segment.uuid && header.offset == span.offset;
        let header = Header::decode(&bytes).filter(own).filter(|header| {
            header.body_len == span.body_len && batch::body_is_whole(header, &bytes[HEADER..])
        });
        let entries = header.and_then(|header| batch::decode_records(&header, &bytes[HEADER..]));
        entries.ok_or_else(|| {
            let cause = format!("entries {} to {} are damaged on disk", span.first, span.last);
            Fault::new("read the log", place(), cause)
        })
    }
}
