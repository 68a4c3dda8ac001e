//! The sending half. It holds the files of the checkpoint for as long as a transfer lasts.
//!
//! Law: a piece goes out only in answer to a `Have` beyond the last one, or as a repetition.
//! Worked example: chunks of 1 MiB, file 2 has 1.5: `Have 2, 1 MiB` is answered by half a MiB.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use holdfast_core::id::{MemberId, Term};
use holdfast_core::message::{SnapshotMeta, Transfer};
use holdfast_core::mutant;
use holdfast_core::rng::Rng;

use super::PIECE_BYTES_MAX;
use crate::disk::{BLOCK, DiskOp, Done};
use crate::engine::EngineEvent;
use crate::engine::files::DataFile;

/// A piece that was repeated this often without an answer ends the transfer.
const TRIES_MAX: u32 = 20;

/// File and offset of a piece.
type Place = (u32, u64);

/// All transfers to peers, by number.
#[derive(Debug)]
pub(crate) struct Sender {
    chunk_bytes: usize,
    numbers: Rng,
    shipments: BTreeMap<u64, Shipment>,
}

#[derive(Debug)]
struct Shipment {
    to: MemberId,
    files: Vec<Arc<DataFile>>,
    last: Transfer,
    /// Where the last piece starts; `None` while only the offer was sent.
    sent: Option<Place>,
    reading: Option<u64>,
    quiet: Quiet,
}

/// How long the peer has not answered.
#[derive(Debug, Default)]
struct Quiet {
    periods: u32,
    tries: u32,
}

impl Sender {
    /// No transfers. Their numbers are drawn from `numbers`, so that a run's are not another run's.
    pub(crate) fn new(chunk_bytes: usize, numbers: Rng) -> Sender {
        let chunk_bytes = (chunk_bytes / BLOCK * BLOCK).clamp(BLOCK, PIECE_BYTES_MAX);
        Sender { chunk_bytes, numbers, shipments: BTreeMap::new() }
    }

    /// Starts a transfer of `files`, the manifest first; it replaces one to the same peer.
    pub(crate) fn offer(
        &mut self,
        to: MemberId,
        (meta, term): (&SnapshotMeta, Term),
        files: Vec<Arc<DataFile>>,
        out: &mut Vec<(MemberId, Transfer)>,
    ) {
        self.shipments.retain(|_, shipment| shipment.to != to);
        let first = self.shipments.values().next().filter(|_| mutant::on(64));
        let files = first.map_or(files, |first| first.files.clone());
        let number = self.numbers.next();
        let names = files.iter().map(|file| (file.name.name().to_string(), file.len)).collect();
        let last = Transfer::Offer { number, meta: meta.clone(), term, files: names };
        out.push((to, last.clone()));
        let quiet = Quiet::default();
        self.shipments
            .insert(number, Shipment { to, files, last, sent: None, reading: None, quiet });
    }

    /// The peer has everything before `place`: the next piece to read, if that is news.
    pub(crate) fn have(
        &mut self,
        from: MemberId,
        number: u64,
        place: Place,
        events: &mut Vec<EngineEvent>,
    ) -> Option<(u64, DiskOp)> {
        let shipment = self.shipments.get_mut(&number).filter(|shipment| shipment.to == from)?;
        // Whoever answers is alive, if perhaps busy: it says the same again while it verifies.
        shipment.quiet = Quiet::default();
        if shipment.reading.is_some() || shipment.sent.is_some_and(|sent| place <= sent) {
            return None;
        }
        let (index, offset) = place;
        let Some(file) = shipment.files.get(index as usize) else {
            self.shipments.remove(&number);
            events.push(EngineEvent::Shipped { to: from, complete: true });
            return None;
        };
        if offset >= file.len || offset % BLOCK as u64 != 0 {
            return None;
        }
        shipment.sent = Some(place);
        let len = (file.len - offset).min(self.chunk_bytes as u64) as usize;
        Some((number, DiskOp::Read { file: file.name.clone(), offset, len }))
    }

    /// The piece that [`Sender::have`] wanted is being read by the order numbered `order`.
    pub(crate) fn reading(&mut self, number: u64, order: u64) {
        if let Some(shipment) = self.shipments.get_mut(&number) {
            shipment.reading = Some(order);
        }
    }

    /// An order completed; if it was a read of ours, its bytes go out.
    pub(crate) fn read(
        &mut self,
        order: u64,
        result: io::Result<Done>,
        out: &mut Vec<(MemberId, Transfer)>,
        events: &mut Vec<EngineEvent>,
    ) {
        let ours = self.shipments.iter_mut().find(|(_, s)| s.reading == Some(order));
        let Some((&number, shipment)) = ours else { return };
        shipment.reading = None;
        let Some((file, offset)) = shipment.sent else { return };
        match result {
            Ok(done) => {
                let data = Bytes::from(done.data);
                shipment.last = Transfer::Chunk { number, file, offset, data };
                shipment.quiet = Quiet::default();
                out.push((shipment.to, shipment.last.clone()));
            }
            Err(_) => {
                out.push((shipment.to, Transfer::Stop { number }));
                self.end(number, events);
            }
        }
    }

    /// The peer does not want the transfer.
    pub(crate) fn stopped(&mut self, from: MemberId, number: u64, events: &mut Vec<EngineEvent>) {
        if self.shipments.get(&number).is_some_and(|shipment| shipment.to == from) {
            self.end(number, events);
        }
    }

    /// A period has passed.
    pub(crate) fn retry(
        &mut self,
        out: &mut Vec<(MemberId, Transfer)>,
        events: &mut Vec<EngineEvent>,
    ) {
        let mut given_up = Vec::new();
        for (number, shipment) in &mut self.shipments {
            if shipment.reading.is_some() {
                continue;
            }
            shipment.quiet.periods += 1;
            if shipment.quiet.periods < 2 {
                continue;
            }
            shipment.quiet.tries += 1;
            match shipment.quiet.tries > TRIES_MAX {
                true => given_up.push(*number),
                false => out.push((shipment.to, shipment.last.clone())),
            }
        }
        given_up.into_iter().for_each(|number| self.end(number, events));
    }

    fn end(&mut self, number: u64, events: &mut Vec<EngineEvent>) {
        if let Some(shipment) = self.shipments.remove(&number) {
            events.push(EngineEvent::Shipped { to: shipment.to, complete: false });
        }
    }
}
