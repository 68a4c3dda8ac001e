//! The engine's dumb twin: maps of everything, and a source of random batches for both.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;
use holdfast_core::id::{LeaseId, Position, RevSub, Revision};
use holdfast_core::request::{KeyRange, RangeEnd};
use holdfast_core::rng::Rng;
use holdfast_core::store::{Batch, Change, Mark, Record, Row, Table, View};

#[derive(Clone, Debug)]
pub struct Twin {
    pub mark: Mark,
    pub rows: BTreeMap<Vec<u8>, Row>,
    pub records: BTreeMap<RevSub, Record>,
    pub tables: BTreeMap<(Table, Vec<u8>), Bytes>,
}

impl Twin {
    pub fn new() -> Twin {
        Twin {
            mark: Mark::EMPTY,
            rows: BTreeMap::new(),
            records: BTreeMap::new(),
            tables: BTreeMap::new(),
        }
    }

    /// The next random batch, already taken by the twin.
    pub fn batch(&mut self, rng: &mut Rng) -> Batch {
        let applied = Position::new(self.mark.applied.index.0 + rng.between(1, 3), 7);
        let mut batch = Batch::new(Mark { applied, ..self.mark });
        for _ in 0..rng.below(6) {
            self.mark.revision = self.mark.revision.next();
            for sub in 0..rng.between(1, 4) as u32 {
                let at = RevSub { main: self.mark.revision, sub };
                batch.push(self.write(key(rng), at, rng));
            }
        }
        for _ in 0..rng.below(4) {
            batch.push(self.table_change(rng));
        }
        if rng.chance(10) {
            let dead: Vec<_> = self
                .rows
                .iter()
                .filter(|(_, row)| row.is_tombstone())
                .map(|(key, _)| key.clone())
                .collect();
            for key in dead {
                self.rows.remove(&key);
                batch.push(Change::Forget { key: key.into() });
            }
        }
        self.mark = Mark { applied, ..self.mark };
        batch.set_mark(self.mark);
        batch
    }

    /// One put or deletion of `key`, already taken by the twin.
    pub fn write(&mut self, key: Vec<u8>, at: RevSub, rng: &mut Rng) -> Change {
        let old = self.rows.get(&key).copied();
        let live = old.filter(|row| !row.is_tombstone());
        let tombstone = live.is_some() && rng.chance(30);
        let value_len = if rng.chance(3) { 20_000 + rng.below(40_000) } else { rng.below(300) };
        let row = match tombstone {
            true => Row {
                modified: at,
                created: Revision(0),
                version: 0,
                lease: LeaseId::NONE,
                value_len: 0,
            },
            false => Row {
                modified: at,
                created: live.map_or(at.main, |row| row.created),
                version: live.map_or(0, |row| row.version) + 1,
                lease: LeaseId(rng.next() as i64 * i64::from(rng.chance(20))),
                value_len: value_len as u32,
            },
        };
        let mut kv = key.clone();
        kv.resize(key.len() + row.value_len as usize, at.main.0 as u8);
        let record =
            Record { at, prev: old.map(|row| row.modified), tombstone, kv: Bytes::from(kv) };
        self.rows.insert(key.clone(), row);
        self.records.insert(at, record.clone());
        Change::Write { key: key.into(), row, record }
    }

    fn table_change(&mut self, rng: &mut Rng) -> Change {
        let table = Table::ALL[rng.below(6) as usize];
        let key = vec![rng.below(8) as u8; rng.below(3) as usize];
        match rng.chance(70) {
            true => {
                let value = Bytes::from(vec![rng.next() as u8; rng.below(20) as usize]);
                self.tables.insert((table, key.clone()), value.clone());
                Change::Set { table, key: key.into(), value }
            }
            false => {
                self.tables.remove(&(table, key.clone()));
                Change::Clear { table, key: key.into() }
            }
        }
    }

    /// Asserts that `view` shows just this state, by every function it has.
    pub fn assert_equal(&self, view: &dyn View) {
        assert_eq!(view.mark(), self.mark);
        for (key, row) in &self.rows {
            assert_eq!(view.row(key), Some(*row), "row of {:?}", key.len());
        }
        assert_eq!(view.row(b"absent"), None);
        let keys: Vec<&[u8]> = self.rows.keys().rev().map(|key| &key[..]).collect();
        let (mut expected, mut together) = (self.rows.values().rev(), Vec::new());
        view.rows(&[&keys[..], &[b"absent"]].concat(), &mut |row| together.push(row));
        assert_eq!(together.pop(), Some(None), "a key that is not there");
        assert!(together.iter().all(|row| row.as_ref() == expected.next()), "looked up together");
        assert_eq!(expected.next(), None, "all of them");
        for range in ranges() {
            let expected: Vec<(Vec<u8>, Row)> = (self.rows.iter())
                .filter(|(key, _)| range.contains(key))
                .map(|(key, row)| (key.clone(), *row))
                .collect();
            let live = expected.iter().filter(|(_, row)| !row.is_tombstone()).count();
            assert_eq!(scan(view, &range), expected, "{range:?}");
            assert_eq!(view.count(&range), live as u64, "{range:?}");
        }
        for (at, record) in &self.records {
            assert_eq!(view.record(*at).as_ref(), Ok(record));
        }
        let from = self.records.keys().nth(self.records.len() / 3).copied().unwrap_or_default();
        for from in [RevSub::default(), from, RevSub::new(from.main.0, from.sub + 1)] {
            let expected: Vec<Record> =
                self.records.range(from..).map(|(_, r)| r.clone()).collect();
            assert!(records(view, from) == expected, "records from {from}");
        }
        for table in Table::ALL {
            self.assert_table_equal(table, view);
        }
    }

    fn assert_table_equal(&self, table: Table, view: &dyn View) {
        let mut found = Vec::new();
        view.table_scan(table, b"", &mut |key, value| {
            found.push(((table, key.to_vec()), Bytes::copy_from_slice(value)));
            ControlFlow::Continue(())
        });
        let expected: Vec<_> = (self.tables.iter())
            .filter(|((of, _), _)| *of == table)
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        assert_eq!(found, expected);
        for ((table, key), value) in expected {
            assert_eq!(view.table(table, &key), Some(value));
        }
    }
}

pub fn scan(view: &dyn View, range: &KeyRange) -> Vec<(Vec<u8>, Row)> {
    let mut found = Vec::new();
    view.scan(range, &mut |key, row| {
        found.push((key.to_vec(), *row));
        ControlFlow::Continue(())
    });
    found
}

pub fn records(view: &dyn View, from: RevSub) -> Vec<Record> {
    let mut found = Vec::new();
    let result = view.records(from, &mut |record| {
        found.push(record.clone());
        ControlFlow::Continue(())
    });
    result.expect("every record can be read");
    found
}

fn ranges() -> Vec<KeyRange> {
    let range = |start: &[u8], end| KeyRange { start: Bytes::copy_from_slice(start), end };
    vec![
        range(b"\0", RangeEnd::Open),
        range(b"k1", RangeEnd::Open),
        range(b"k1", RangeEnd::Single),
        range(b"k1", RangeEnd::Before(Bytes::from_static(b"k3"))),
        range(b"k3", RangeEnd::Before(Bytes::from_static(b"k1"))),
        range(b"\xff", RangeEnd::Open),
    ]
}

/// One of some two hundred keys: short, long, and long with a common head.
fn key(rng: &mut Rng) -> Vec<u8> {
    let number = rng.below(100);
    match rng.below(20) {
        0 => [vec![b'k'; 700], number.to_string().into_bytes()].concat(),
        1 => vec![0xff; 1 + number as usize % 5],
        _ => format!("k{number}").into_bytes(),
    }
}
