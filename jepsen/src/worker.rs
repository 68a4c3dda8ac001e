//! One client connection: writes, removes, swaps and reads, one call at a time, for as long as the test
//! runs.
//!
//! Leaves out the choice of what to break. After an error on a standing connection it connects anew,
//! always to the same member: that each member answers as well as the others is part of the test.
//!
//! Worked example: connection 4 of a three-member cluster belongs to member 2. While that member is
//! down its attempts to connect fail, with nothing sent and nothing to doubt.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use tonic::Status;

use crate::client::Client;
use crate::dice::Dice;
use crate::history::{History, Outcome, register_key, single_key, single_value, swap_value};

/// Between two attempts to connect.
const RECONNECT: Duration = Duration::from_millis(30);

/// What the connections and the test share.
pub struct Shared {
    /// What was done.
    pub history: RefCell<History>,
    /// Acknowledged writes at which connections only read: so the test is bounded in writes, too.
    pub writes_max: Cell<u64>,
    /// The connections should end.
    pub stop: Cell<bool>,
}

/// A connection.
pub struct Worker {
    shared: Rc<Shared>,
    connection: usize,
    url: String,
    dice: Dice,
}

impl Worker {
    /// Connection number `connection`, to the member at `url`.
    pub fn new(shared: Rc<Shared>, connection: usize, url: String, dice: Dice) -> Worker {
        Worker { shared, connection, url, dice }
    }

    /// Works until told to stop.
    pub async fn run(mut self) {
        while !self.shared.stop.get() {
            match Client::connect(&self.url).await {
                Ok(mut client) => {
                    if let Err(status) = self.use_up(&mut client).await {
                        let text = format!("{:?}: {}", status.code(), status.message());
                        self.shared.history.borrow_mut().error(&text);
                    }
                }
                Err(_) => tokio::time::sleep(RECONNECT).await,
            }
        }
    }

    /// Uses a connection until it fails.
    async fn use_up(&mut self, client: &mut Client) -> Result<(), Status> {
        const THINK: Duration = Duration::from_millis(8);
        while !self.shared.stop.get() {
            let ahead = self.shared.history.borrow().totals.acked() >= self.shared.writes_max.get();
            match self.dice.below(20) {
                0..=1 => self.read_single(client).await?,
                2 => self.read_register(client).await.map(drop)?,
                _ if ahead => tokio::time::sleep(THINK).await,
                3..=6 => self.swap(client).await?,
                7 => self.delete(client).await?,
                _ => self.put(client).await?,
            }
            tokio::time::sleep(self.dice.within(THINK)).await;
        }
        Ok(())
    }

    fn floor(&self) -> i64 {
        self.shared.history.borrow().floor
    }

    async fn put(&self, client: &mut Client) -> Result<(), Status> {
        let number = self.shared.history.borrow_mut().begin_put(self.connection);
        let floor = self.floor();
        let key = single_key(self.connection, number);
        let revision = client.put(key, single_value(self.connection, number)).await?;
        self.shared.history.borrow_mut().acked_put((self.connection, number), revision, floor);
        Ok(())
    }

    async fn delete(&mut self, client: &mut Client) -> Result<(), Status> {
        let Some(number) = self.choose_single() else { return Ok(()) };
        let single = (self.connection, number);
        self.shared.history.borrow_mut().begin_delete(single);
        let floor = self.floor();
        let answer = client.delete(single_key(self.connection, number)).await?;
        self.shared.history.borrow_mut().acked_delete(single, answer, floor);
        Ok(())
    }

    async fn swap(&mut self, client: &mut Client) -> Result<(), Status> {
        let (register, before, parent) = self.read_register(client).await?;
        if before > 0 && parent.is_none() {
            return Ok(());
        }
        let swap = self.shared.history.borrow_mut().begin_swap(register, before, parent);
        let floor = self.floor();
        let (revision, swapped) =
            client.swap(register_key(register), before, swap_value(swap)).await?;
        let mut history = self.shared.history.borrow_mut();
        match swapped {
            true => history.acked_swap(swap, revision, floor),
            false => history.missed_swap(swap, revision, floor),
        }
        Ok(())
    }

    async fn read_single(&mut self, client: &mut Client) -> Result<(), Status> {
        let Some(number) = self.choose_single() else { return Ok(()) };
        let floor = self.floor();
        let found = client.get(single_key(self.connection, number)).await?;
        let found = (found.revision, found.pair.as_ref());
        self.shared.history.borrow_mut().saw_single((self.connection, number), found, floor);
        Ok(())
    }

    /// Gives the register, the revision it was written at, and the swap that wrote it.
    async fn read_register(
        &mut self,
        client: &mut Client,
    ) -> Result<(usize, i64, Option<u64>), Status> {
        let registers = self.shared.history.borrow().registers as u64;
        let register = self.dice.below(registers) as usize;
        let floor = self.floor();
        let found = client.get(register_key(register)).await?;
        let before = found.pair.as_ref().map_or(0, |pair| pair.mod_revision);
        let seen = (found.revision, found.pair.as_ref());
        let parent = self.shared.history.borrow_mut().saw_register(register, seen, floor);
        Ok((register, before, parent))
    }

    /// An own single that was acknowledged and not touched since: mostly one of the last.
    fn choose_single(&mut self) -> Option<usize> {
        let history = self.shared.history.borrow();
        let singles = &history.singles[self.connection];
        let recent = if self.dice.once_in(4) { singles.len() } else { singles.len().min(50) };
        if recent == 0 {
            return None;
        }
        let number = singles.len() - 1 - self.dice.below(recent as u64) as usize;
        let single = singles[number];
        let untouched = single.delete.is_none() && matches!(single.put, Outcome::Acked { .. });
        untouched.then_some(number)
    }
}
