//! Admitted commands that are not proposed yet, with their lengths: computed once, bounded in sum.

use std::collections::VecDeque;

use crate::codec;
use crate::command::Command;
use crate::limits::Limits;

/// First in, first out.
#[derive(Debug, Default)]
pub(super) struct Queue {
    commands: VecDeque<(Command, usize)>,
    bytes: usize,
}

impl Queue {
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    /// Bytes that wait.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a command at the end; `bytes` is its [`codec::encoded_len`].
    pub fn push(&mut self, command: Command, bytes: usize) {
        self.bytes += bytes;
        self.commands.push_back((command, bytes));
    }

    /// Takes the commands of the next entry, at least one, and says how many bytes they have. A command
    /// over the bound goes alone.
    pub fn take_entry(&mut self, limits: &Limits) -> (Vec<Command>, usize) {
        let mut bytes = 0;
        let waiting = self.commands.iter().take(limits.entry_commands_max);
        let fits = waiting.take_while(|(_, more)| {
            bytes += more;
            bytes <= limits.entry_bytes_max
        });
        let count = fits.count().max(1).min(self.commands.len());
        let taken: Vec<(Command, usize)> = self.commands.drain(..count).collect();
        let bytes = taken.iter().map(|(_, bytes)| bytes).sum();
        self.bytes -= bytes;
        (taken.into_iter().map(|(command, _)| command).collect(), bytes)
    }

    /// Puts back what could not be proposed.
    pub fn put_back(&mut self, commands: Vec<Command>) {
        for command in commands.into_iter().rev() {
            let bytes = codec::encoded_len(&command);
            self.bytes += bytes;
            self.commands.push_front((command, bytes));
        }
    }

    /// Drops the commands that `keep` refuses.
    pub fn retain(&mut self, mut keep: impl FnMut(&Command) -> bool) {
        self.commands.retain(|(command, _)| keep(command));
        self.bytes = self.commands.iter().map(|(_, bytes)| bytes).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{LeaseId, RequestId};
    use crate::request::{Identity, Op, Put};

    fn push(queue: &mut Queue, value_bytes: usize) {
        let command = put(value_bytes);
        let bytes = codec::encoded_len(&command);
        queue.push(command, bytes);
    }

    fn put(value_bytes: usize) -> Command {
        let put = Put {
            key: "k".into(),
            value: vec![0; value_bytes].into(),
            lease: LeaseId::NONE,
            prev_kv: false,
            ignore_value: false,
            ignore_lease: false,
        };
        Command { id: RequestId::default(), identity: Identity::default(), op: Op::Put(put) }
    }

    #[test]
    fn an_entry_keeps_both_bounds_and_a_large_command_goes_alone() {
        let limits = Limits { entry_bytes_max: 1000, entry_commands_max: 3, ..Limits::default() };
        let mut queue = Queue::default();
        for bytes in [10, 10, 10, 10, 5000, 600, 600] {
            push(&mut queue, bytes);
        }
        let mut counts = Vec::new();
        while !queue.is_empty() {
            counts.push(queue.take_entry(&limits).0.len());
        }
        assert_eq!(counts, [3, 1, 1, 1, 1]);
        assert_eq!(queue.bytes(), 0);
    }

    #[test]
    fn what_is_put_back_comes_first_again() {
        let mut queue = Queue::default();
        push(&mut queue, 1);
        push(&mut queue, 2);
        let before = queue.bytes();
        let (taken, _) = queue.take_entry(&Limits { entry_commands_max: 1, ..Limits::default() });
        let first = taken.clone();
        queue.put_back(taken);
        assert_eq!(queue.bytes(), before);
        assert_eq!(queue.take_entry(&Limits::default()).0[0], first[0]);
    }
}
