//! What may happen to connections, in seeds that have them.

use std::time::Duration;

use super::{Happening, World};
use crate::clock::Moment;
use crate::pipe::Piece;

/// Something that will happen.
#[derive(Debug)]
pub(crate) enum Doing {
    /// A client's first packet comes to a member.
    Knock { line: u64 },
    /// A piece arrives, at the member or at the client.
    Carry { line: u64, up: bool, piece: Piece },
    /// A client learns that its connection is gone.
    Severed { line: u64 },
    /// A slow client reads again.
    Sip { line: u64 },
    /// Clients ask whether their servers are there.
    KeepAlive,
    /// A hostile client comes.
    Provoke,
    /// It does something.
    Prank { line: u64, first: bool },
    /// A member that was told to stop has had its time.
    Left { member: usize, life: u64, asked: Moment, lasts: Duration },
    /// The connections come to their end, step by step.
    Farewell { stage: u8 },
}

impl From<Doing> for Happening {
    fn from(doing: Doing) -> Happening {
        Happening::Line(doing)
    }
}

impl Doing {
    /// What of it goes into the trace.
    pub(super) fn key(&self) -> (u64, u64, u64) {
        match self {
            Doing::Knock { line } => (22, *line, 0),
            Doing::Carry { line, up, piece } => {
                let digest = match piece {
                    Piece::Bytes(bytes) => u64::from(crc32fast::hash(bytes)),
                    Piece::End => 1 << 32,
                };
                (23, *line << 1 | u64::from(*up), digest)
            }
            Doing::Severed { line } => (24, *line, 0),
            Doing::Sip { line } => (25, *line, 0),
            Doing::KeepAlive => (26, 0, 0),
            Doing::Provoke => (27, 0, 0),
            Doing::Prank { line, first } => (28, *line, u64::from(*first)),
            Doing::Left { member, life, .. } => (29, *member as u64, *life),
            Doing::Farewell { stage } => (30, u64::from(*stage), 0),
        }
    }

    /// In a line, for people.
    pub(super) fn line(&self) -> String {
        match self {
            Doing::Carry { line, up, piece: Piece::Bytes(bytes) } => {
                format!("line {line} {} {} bytes", if *up { "up" } else { "down" }, bytes.len())
            }
            other => format!("{other:?}"),
        }
    }
}

impl World {
    pub(super) fn do_on_line(&mut self, doing: Doing) {
        match doing {
            Doing::Knock { line } => self.knock(line),
            Doing::Carry { line, up, piece } => self.carry(line, up, &piece),
            Doing::Severed { line } => self.severed(line),
            Doing::Sip { line } => self.sip(line),
            Doing::KeepAlive => self.keep_alive(),
            Doing::Provoke => self.provoke(),
            Doing::Prank { line, first } => self.prank(line, first),
            Doing::Left { member, life, asked, lasts } => self.left(member, life, asked, lasts),
            Doing::Farewell { stage } => self.farewell(stage),
        }
    }
}
