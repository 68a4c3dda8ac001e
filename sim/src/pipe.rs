//! One direction of a connection: bytes that a writer gave, that are on their way, and that a reader
//! has not taken. Two of them are the socket of a served connection ([`Socket`]).
//!
//! Faults it makes, and why each must be survived:
//!  - *Pieces*: a stream has no frames, and a read ends anywhere.
//!  - *Backpressure*: what the other side does not read fills the pipe, and a write takes a part or
//!    nothing.
//!  - *An end at any byte*: what was written before a process dies or a cable breaks may arrive or not.
//!
//! Wakers are kept as strictly as a kernel does: a reader or a writer is woken only if it was told
//! `Pending`, and once; whoever forgets to ask again sleeps for ever.
//!
//! Leaves out when pieces arrive, which is the world's business. Laws: (1) bytes arrive in order, once;
//! (2) at most `room` bytes are in the pipe.
//!
//! Worked example: with room for 10, a write of 16 takes 10; a piece of 4 departs and arrives; the
//! reader takes it, and the writer, who was told to wait, is woken.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use holdfast_core::rng::Rng;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What goes on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Some bytes.
    Bytes(Bytes),
    /// The writer writes no more.
    End,
}

/// What a reader finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// So many bytes.
    Bytes(usize),
    /// Nothing now.
    Nothing,
    /// There will be no more.
    End,
    /// The connection broke.
    Broken,
}

/// See the module.
#[derive(Debug)]
pub struct Pipe {
    room: usize,
    piece_max: usize,
    written: VecDeque<u8>,
    on_way: usize,
    arrived: VecDeque<u8>,
    ending: bool,
    end_departed: bool,
    ended: bool,
    broken: bool,
    /// Nobody reads any more: what comes is dropped.
    deaf: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Pipe {
    /// A pipe for at most `room` bytes, which travel in pieces of at most `piece_max`.
    pub fn new(room: usize, piece_max: usize) -> Pipe {
        Pipe {
            room,
            piece_max,
            written: VecDeque::new(),
            on_way: 0,
            arrived: VecDeque::new(),
            ending: false,
            end_departed: false,
            ended: false,
            broken: false,
            deaf: false,
            reader: None,
            writer: None,
        }
    }

    /// How much a writer can give now.
    pub fn room(&self) -> usize {
        if self.broken || self.ending || self.deaf {
            return 0;
        }
        self.room.saturating_sub(self.written.len() + self.on_way + self.arrived.len())
    }

    /// Takes as much as there is room for.
    pub fn write(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.room());
        self.written.extend(&bytes[..count]);
        count
    }

    /// The writer writes no more.
    pub fn end(&mut self) {
        self.ending = true;
    }

    /// What goes on its way next: a piece as long as the dice say.
    pub fn depart(&mut self, rng: &mut Rng) -> Option<Piece> {
        if self.broken {
            return None;
        }
        if !self.written.is_empty() {
            let most = self.written.len().min(self.piece_max) as u64;
            let count = if rng.chance(60) { most } else { rng.between(1, most) };
            self.on_way += count as usize;
            return Some(Piece::Bytes(self.written.drain(..count as usize).collect()));
        }
        let ends = self.ending && !std::mem::replace(&mut self.end_departed, true);
        ends.then_some(Piece::End)
    }

    /// A piece has come.
    pub fn arrive(&mut self, piece: &Piece) {
        match piece {
            Piece::Bytes(bytes) => {
                self.on_way -= bytes.len();
                if !self.deaf {
                    self.arrived.extend(bytes);
                }
            }
            Piece::End => self.ended = true,
        }
        wake(&mut self.reader);
    }

    /// The connection breaks: what has arrived can still be read.
    pub fn break_off(&mut self) {
        self.broken = true;
        wake(&mut self.reader);
        wake(&mut self.writer);
    }

    /// Nobody reads any more.
    pub fn stop_reading(&mut self) {
        self.deaf = true;
        self.arrived.clear();
    }

    /// Whether everything that was written has been read, and there will be no more.
    pub fn is_over(&self) -> bool {
        self.broken || self.ended && self.arrived.is_empty()
    }

    /// Takes all that has come.
    pub fn read_all(&mut self) -> Vec<u8> {
        if !self.arrived.is_empty() {
            wake(&mut self.writer);
        }
        std::mem::take(&mut self.arrived).into()
    }

    /// Takes what has come, as much as fits.
    pub fn read(&mut self, into: &mut [u8]) -> Found {
        let count = into.len().min(self.arrived.len());
        if count > 0 {
            let (front, back) = self.arrived.as_slices();
            let of_front = count.min(front.len());
            into[..of_front].copy_from_slice(&front[..of_front]);
            into[of_front..count].copy_from_slice(&back[..count - of_front]);
            self.arrived.drain(..count);
            wake(&mut self.writer);
            return Found::Bytes(count);
        }
        match (self.ended, self.broken) {
            (true, _) => Found::End,
            (false, true) => Found::Broken,
            (false, false) => Found::Nothing,
        }
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

/// A pipe that both its ends hold.
pub type Shared = Rc<RefCell<Pipe>>;

/// The server's end of a connection.
#[derive(Debug)]
pub struct Socket {
    /// From the client.
    pub up: Shared,
    /// To the client.
    pub down: Shared,
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut up = self.up.borrow_mut();
        match up.read(buffer.initialize_unfilled()) {
            Found::Bytes(count) => buffer.advance(count),
            Found::End => {}
            Found::Broken => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            Found::Nothing => {
                up.reader = Some(cx.waker().clone());
                return Poll::Pending;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut down = self.down.borrow_mut();
        if down.broken {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let count = down.write(bytes);
        if count == 0 && !bytes.is_empty() {
            down.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.down.borrow_mut().end();
        Poll::Ready(Ok(()))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.down.borrow_mut().end();
        self.up.borrow_mut().stop_reading();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_arrive_in_order_and_never_more_than_there_is_room_for() {
        let mut rng = Rng::new(1);
        let (mut pipe, mut written, mut read) = (Pipe::new(100, 30), 0_u8, Vec::new());
        let mut on_way = VecDeque::new();
        for _ in 0..5_000 {
            match rng.below(4) {
                0 => {
                    let bytes: Vec<u8> = (0..rng.below(60)).map(|n| written + n as u8).collect();
                    let room = pipe.room();
                    let taken = pipe.write(&bytes);
                    assert_eq!(taken, bytes.len().min(room));
                    written = (written + taken as u8) % 128;
                }
                1 => on_way.extend(pipe.depart(&mut rng)),
                2 => {
                    if let Some(piece) = on_way.pop_front() {
                        pipe.arrive(&piece);
                    }
                }
                _ => {
                    let mut into = [0; 40];
                    if let Found::Bytes(count) = pipe.read(&mut into) {
                        read.extend(into[..count].iter().map(|byte| byte % 128));
                    }
                }
            }
            assert!(pipe.written.len() + pipe.on_way + pipe.arrived.len() <= 100);
        }
        assert!(read.len() > 5_000);
        for (place, byte) in read.iter().enumerate() {
            assert_eq!(usize::from(*byte), place % 128);
        }
    }

    #[test]
    fn an_end_comes_after_what_was_written_and_a_break_does_not_wait() {
        let mut rng = Rng::new(1);
        let mut pipe = Pipe::new(10, 10);
        assert_eq!(pipe.write(b"abc"), 3);
        pipe.end();
        let mut into = [0; 10];
        while let Some(piece) = pipe.depart(&mut rng) {
            pipe.arrive(&piece);
        }
        let mut count = 0;
        while let Found::Bytes(more) = pipe.read(&mut into) {
            count += more;
        }
        assert_eq!((count, pipe.read(&mut into), pipe.is_over()), (3, Found::End, true));
        let mut pipe = Pipe::new(10, 10);
        pipe.write(b"abc");
        pipe.break_off();
        assert_eq!((pipe.depart(&mut rng), pipe.read(&mut into)), (None, Found::Broken));
    }
}
