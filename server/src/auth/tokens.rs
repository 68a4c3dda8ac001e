//! Simple tokens: names that stand for users, in the memory of every member that has applied their
//! assignment.
//!
//! Leaves out how they are assigned (the log) and what a user may do.
//!
//! Laws:
//!  1. A token ends when it has not been used here for its time to live; each member counts for itself.
//!  2. There are at most so many: of more, the one that would end first is forgotten.
//!  3. Nothing outlives the process, nor a snapshot that came instead of log entries: what ended tokens
//!     may have been among those.
//!
//! Worked example: bob logs in at member 1; entry 17 assigns `abc….17` on all three. Used on member 2
//! only, it ends on 1 and 3 after five minutes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use holdfast_core::auth::TokenChange;
use holdfast_core::id::Index;
use holdfast_core::time::Instant;

use super::vault::Vault;

/// See the module.
#[derive(Debug)]
pub struct SimpleTokens {
    ttl: Duration,
    most: usize,
    users: BTreeMap<Box<str>, (Bytes, Instant)>,
    ends: BTreeSet<(Instant, Box<str>)>,
}

impl SimpleTokens {
    /// No tokens yet, and at most this many.
    pub fn new(ttl: Duration, most: usize) -> SimpleTokens {
        SimpleTokens { ttl, most: most.max(1), users: BTreeMap::new(), ends: BTreeSet::new() }
    }

    /// Follows the log.
    pub fn follow(&mut self, now: Instant, changes: &[TokenChange]) {
        for change in changes {
            match change {
                TokenChange::Assigned { user, token } => {
                    if let Ok(token) = str::from_utf8(&token.0) {
                        self.assign(now, token, Bytes::copy_from_slice(user.as_bytes()));
                    }
                }
                TokenChange::Revoked { user } => {
                    let ends = &mut self.ends;
                    self.users.retain(|token, (holder, end)| {
                        let stays = *holder != user.as_bytes();
                        if !stays {
                            ends.remove(&(*end, token.clone()));
                        }
                        stays
                    });
                }
                TokenChange::Cleared => self.clear(),
            }
        }
    }

    /// Forgets all (law 3).
    pub fn clear(&mut self) {
        self.users.clear();
        self.ends.clear();
    }

    /// Whose token it is, which counts as a use.
    pub fn user(&mut self, now: Instant, token: &str) -> Option<Bytes> {
        self.expire(now);
        let (user, end) = self.users.get_mut(token)?;
        let name: Box<str> = token.into();
        self.ends.remove(&(*end, name.clone()));
        *end = now + self.ttl;
        self.ends.insert((*end, name));
        Some(user.clone())
    }

    fn assign(&mut self, now: Instant, token: &str, user: Bytes) {
        self.expire(now);
        while self.users.len() >= self.most
            && let Some((_, first)) = self.ends.pop_first()
        {
            self.users.remove(&first);
        }
        let end = now + self.ttl;
        if let Some((_, before)) = self.users.insert(token.into(), (user, end)) {
            self.ends.remove(&(before, token.into()));
        }
        self.ends.insert((end, token.into()));
    }

    fn expire(&mut self, now: Instant) {
        while let Some((end, token)) = self.ends.pop_first() {
            if end > now {
                self.ends.insert((end, token));
                return;
            }
            self.users.remove(&token);
        }
    }
}

/// The entry that assigned a token; `None` for what is no simple token.
pub fn assigned_at(token: &str) -> Option<Index> {
    let (_, index) = token.split_once('.')?;
    let digits = !index.is_empty() && index.bytes().all(|byte| byte.is_ascii_digit());
    if digits { index.parse().ok().map(Index) } else { None }
}

/// The part of a new token that cannot be guessed: 16 letters.
pub fn draw(vault: &mut dyn Vault) -> String {
    let mut token = String::with_capacity(LETTERS);
    while token.len() < LETTERS {
        let mut byte = [0];
        vault.draw(&mut byte);
        // Values beyond the last whole alphabet would make the first letters likelier.
        if usize::from(byte[0]) < 256 / ALPHABET.len() * ALPHABET.len() {
            token.push(char::from(ALPHABET[usize::from(byte[0]) % ALPHABET.len()]));
        }
    }
    token
}

const ALPHABET: &[u8; 52] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

const LETTERS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::vault::InlineVault;

    fn assigned(user: &str, token: &str) -> TokenChange {
        TokenChange::Assigned { user: user.to_owned(), token: token.into() }
    }

    fn at(seconds: u64) -> Instant {
        Instant(seconds * 1_000_000_000)
    }

    #[test]
    fn a_use_prolongs_and_nothing_else_does() {
        let mut tokens = SimpleTokens::new(Duration::from_secs(10), 8);
        tokens.follow(at(0), &[assigned("bob", "a.1"), assigned("bob", "b.2")]);
        assert_eq!(tokens.user(at(9), "a.1"), Some("bob".into()));
        assert_eq!(tokens.user(at(10), "b.2"), None, "its time is over");
        assert_eq!(tokens.user(at(18), "a.1"), Some("bob".into()));
        assert_eq!(tokens.user(at(28), "a.1"), None);
        assert!(tokens.users.is_empty() && tokens.ends.is_empty());
    }

    #[test]
    fn the_log_takes_them_away() {
        let mut tokens = SimpleTokens::new(Duration::from_secs(10), 8);
        let all = [assigned("bob", "a.1"), assigned("ann", "b.2"), assigned("bob", "c.3")];
        tokens.follow(at(0), &all);
        tokens.follow(at(1), &[TokenChange::Revoked { user: "bob".to_owned() }]);
        assert_eq!(tokens.user(at(1), "a.1"), None);
        assert_eq!(tokens.user(at(1), "c.3"), None);
        assert_eq!(tokens.user(at(1), "b.2"), Some("ann".into()));
        tokens.follow(at(1), &[TokenChange::Cleared]);
        assert_eq!(tokens.user(at(1), "b.2"), None);
        assert!(tokens.users.is_empty() && tokens.ends.is_empty());
    }

    #[test]
    fn of_too_many_the_first_to_end_goes() {
        let mut tokens = SimpleTokens::new(Duration::from_secs(10), 2);
        tokens.follow(at(0), &[assigned("a", "a.1")]);
        tokens.follow(at(1), &[assigned("b", "b.2")]);
        assert!(tokens.user(at(2), "a.1").is_some());
        tokens.follow(at(3), &[assigned("c", "c.3")]);
        assert_eq!(tokens.user(at(3), "b.2"), None);
        assert!(tokens.user(at(3), "a.1").is_some() && tokens.user(at(3), "c.3").is_some());
        assert_eq!((tokens.users.len(), tokens.ends.len()), (2, 2));
    }

    #[test]
    fn a_token_names_its_entry() {
        for (token, index) in [
            ("abc.17", Some(17)),
            (".17", Some(17)),
            ("abc.", None),
            ("abc", None),
            ("a.b.17", None),
            ("abc.+7", None),
            ("abc.99999999999999999999", None),
        ] {
            assert_eq!(assigned_at(token), index.map(Index), "{token}");
        }
    }

    #[test]
    fn names_are_letters_and_differ() {
        let mut vault = InlineVault::new(1);
        let names: Vec<String> = (0..20).map(|_| draw(&mut vault)).collect();
        assert!(names.iter().all(|name| name.len() == 16));
        assert!(names.iter().all(|name| name.bytes().all(|byte| byte.is_ascii_alphabetic())));
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), 20);
    }
}
