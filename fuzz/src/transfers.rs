//! A snapshot on its way between two engines, over a link that loses, repeats, delays and damages.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use holdfast_core::id::{MemberId, Term};
use holdfast_core::message::Transfer;
use holdfast_core::store::View;
use holdfast_storage::disk::{Disk, DiskOp, MemoryDisk, Token};
use holdfast_storage::engine::{Engine, EngineEvent, EngineIdentity, EngineOptions};

use crate::disk::read_all;
use crate::seeds;

/// Messages after which a run ends, however many bytes are left.
const STEPS_MAX: usize = 300;

const SENDER: MemberId = MemberId(1);
const RECEIVER: MemberId = MemberId(2);

/// Each byte of the input decides the fate of one message; when they are used up the rest arrives as
/// it was sent. A snapshot that the receiver stages and installs must be the sender's state.
pub fn transfer(data: &[u8]) {
    let (base, fates) = data.split_first().unwrap_or((&0, &[]));
    let mut sender = End::new(seeds::checkpoint(*base), SENDER);
    let mut receiver = End::new(seeds::empty().clone(), RECEIVER);
    let meta = sender.engine.checkpoint().0;
    let mut sent = Vec::new();
    assert!(sender.engine.ship(RECEIVER, &meta, Term(3), &mut sent), "its own checkpoint");
    let mut link: VecDeque<(MemberId, Transfer)> = sent.into();
    let mut fates = fates.iter();
    for _ in 0..STEPS_MAX {
        let Some((to, message)) = link.pop_front() else { break };
        let fate = fates.next().copied().unwrap_or(0);
        for message in fated(message, fate) {
            let (from, end) =
                if to == SENDER { (RECEIVER, &mut sender) } else { (SENDER, &mut receiver) };
            link.extend(end.take(from, message));
        }
        if fate % 16 == 7 {
            // Too late for its place: it goes to the end.
            link.rotate_left(usize::from(fate / 16) % link.len().max(1));
        }
    }
    if receiver.installed {
        assert_eq!(receiver.engine.mark(), sender.engine.mark(), "the sender's state");
    }
    read_all(&receiver.engine);
}

/// What arrives of a message.
fn fated(message: Transfer, fate: u8) -> Vec<Transfer> {
    match fate % 16 {
        1 => Vec::new(),
        2 => vec![message.clone(), message],
        3 => vec![damaged(message, fate / 16)],
        4 => vec![damaged(message.clone(), fate / 16), message],
        5 => vec![Transfer::Stop { number: u64::from(fate / 16) }, message],
        6 => vec![message, Transfer::Have { number: 1, file: u32::from(fate / 16), offset: 0 }],
        _ => vec![message],
    }
}

fn damaged(message: Transfer, how: u8) -> Transfer {
    let how = u64::from(how);
    match message {
        Transfer::Offer { number, meta, term, mut files } => {
            match how % 4 {
                0 => files.truncate(how as usize / 4),
                1 => files.iter_mut().for_each(|(_, length)| *length = u64::MAX - how),
                2 => files.iter_mut().for_each(|(name, _)| name.push_str("/../x")),
                _ => files = vec![files.first().cloned().unwrap_or_default(); 300],
            }
            Transfer::Offer { number, meta, term, files }
        }
        Transfer::Chunk { number, file, offset, data } => {
            let mut bytes = data.to_vec();
            let at = bytes.len() * how as usize / 16;
            match how % 4 {
                0 => bytes.truncate(at),
                1 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 0x10),
                _ => {}
            }
            let offset = if how % 4 == 2 { offset + 4096 * how } else { offset };
            let file = if how % 4 == 3 { file + how as u32 } else { file };
            Transfer::Chunk { number, file, offset, data: Bytes::from(bytes) }
        }
        Transfer::Have { number, file, offset } => {
            Transfer::Have { number, file: file ^ how as u32, offset: offset ^ (how << 8) }
        }
        Transfer::Stop { number } => Transfer::Stop { number: number ^ how },
    }
}

/// One engine and its disk.
struct End {
    engine: Engine,
    disk: Arc<MemoryDisk>,
    installed: bool,
}

impl End {
    fn new(image: holdfast_storage::disk::Image, member: MemberId) -> End {
        let disk = Arc::new(MemoryDisk::from_image(image));
        let identity = EngineIdentity { member, ..seeds::IDENTITY };
        let options = EngineOptions { cache_bytes: 64 << 10, chunk_bytes: 8192, seed: member.0 };
        let engine = Engine::open(disk.clone(), identity, options).expect("a good checkpoint");
        End { engine, disk, installed: false }
    }

    /// Takes a message, does what the engine orders, and returns what it says.
    fn take(&mut self, from: MemberId, message: Transfer) -> Vec<(MemberId, Transfer)> {
        let (mut ops, mut out) = (Vec::new(), Vec::new());
        let mut events = self.engine.transfer(from, message, &mut ops, &mut out);
        let mut orders: VecDeque<(Token, DiskOp)> = ops.into();
        loop {
            for event in std::mem::take(&mut events) {
                let mut ops = Vec::new();
                match event {
                    EngineEvent::Staged { meta, .. } => self.engine.install(&meta, &mut ops),
                    EngineEvent::Installed { .. } => self.installed = true,
                    EngineEvent::Poisoned(fault) => panic!("poisoned by a peer: {fault}"),
                    EngineEvent::Flushed { .. }
                    | EngineEvent::CheckpointFailed { .. }
                    | EngineEvent::Shipped { .. } => {}
                }
                orders.extend(ops);
            }
            let Some((token, op)) = orders.pop_front() else { break };
            let mut ops = Vec::new();
            events = self.engine.completed(token.number, self.disk.perform(op), &mut ops);
            orders.extend(ops);
        }
        self.engine.outgoing(&mut out);
        out
    }
}
