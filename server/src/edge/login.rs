//! Calls with passwords: hashed or compared in the vault, then proposed without them.
//!
//! ```text
//! Authenticate        read index → compare → propose → (sign) → answer
//! UserAdd, passwd     hash → propose → answer
//! ```
//!
//! Laws:
//!  1. No password leaves this file but into the vault.
//!  2. The entry says at which auth revision the password was compared; if the tables have changed when
//!     it is applied, the password is compared again with what is there then, until the call's time is
//!     over (etcd repeats likewise).
//!  3. What is under way is bounded; more is refused.
//!
//! Worked example: bob's password is right at auth revision 7; a role changes; the entry is refused as
//! old; bob's hash is still the same, so it is proposed again for revision 8 without another comparison.

use std::collections::BTreeMap;

use holdfast_core::auth::{AuthOp, AuthQuery, AuthReply, Secret};
use holdfast_core::machine;
use holdfast_core::query::{Answer, AnswerBody, Header};
use holdfast_core::rejection::Rejection;
use holdfast_core::request::{Ask, Identity, Op};
use holdfast_core::response::{Body, Response};
use holdfast_core::time::Instant;
use holdfast_net::call::StreamId;

use super::access::Issue;
use super::reads::{Asking, Read};
use super::{Edge, Waiting};
use crate::auth::jwt::Signer;
use crate::auth::vault::{Done, Work};
use crate::auth::{Credential, PASSWORD_BYTES_MAX};
use crate::host::Event;

/// A user who wants a token.
#[derive(Clone, Debug)]
pub(super) struct Login {
    call: StreamId,
    name: String,
    password: Secret,
    deadline: Instant,
}

/// One whose password was compared.
#[derive(Clone, Debug)]
pub(super) struct Checked {
    login: Login,
    /// With this hash, in the tables of this auth revision.
    hash: Secret,
    revision: u64,
    signer: Option<Signer>,
}

impl Checked {
    /// Whose it is.
    pub(super) fn call(&self) -> StreamId {
        self.login.call
    }
}

/// What is done with what comes out of the vault.
#[derive(Debug)]
enum Job {
    /// Propose a user with this password.
    NewUser(StreamId, Credential, String),
    /// Propose this password.
    NewPassword(StreamId, Credential, String),
    /// Propose the login if the password was right.
    Login(Box<Checked>),
    /// Answer with the token.
    Token(StreamId, Header, u64),
}

/// What is in the vault.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    under_way: BTreeMap<u64, Job>,
    last: u64,
}

impl Job {
    fn call(&self) -> StreamId {
        match self {
            Job::NewUser(call, ..) | Job::NewPassword(call, ..) | Job::Token(call, ..) => *call,
            Job::Login(checked) => checked.login.call,
        }
    }
}

impl Edge {
    /// Takes a call of the Auth service.
    pub(super) fn ask_auth(
        &mut self,
        now: Instant,
        (call, by): (StreamId, Credential),
        query: AuthQuery,
        inbox: &mut Vec<Event>,
    ) {
        match query {
            AuthQuery::Op(op) => self.write(now, (call, by), Op::Auth(op), inbox),
            AuthQuery::Authenticate { name, password } => {
                let deadline = now + self.config.limits.request_timeout;
                let read = Read::Login(Login { call, name, password, deadline });
                // Whoever logs in need not say who it is, and may have a token that has ended.
                self.take_read(Asking { call, by: Credential::None, read }, false);
            }
            AuthQuery::UserAdd { name, password } => {
                self.hash(now, password, Job::NewUser(call, by, name));
            }
            AuthQuery::UserChangePassword { name, password } => {
                self.hash(now, password, Job::NewPassword(call, by, name));
            }
        }
    }

    /// Compares a password with the tables as they are published now.
    pub(super) fn check_password(&mut self, now: Instant, login: Login) {
        match self.stored_hash(&login.name) {
            Ok((hash, revision)) => {
                let work = Work::Verify { password: login.password.clone(), hash: hash.clone() };
                let checked = Checked { login, hash, revision, signer: None };
                self.submit(now, work, Job::Login(Box::new(checked)));
            }
            Err(rejection) => self.reads.answers.push((login.call, Err(rejection))),
        }
    }

    /// Goes on with what the vault has done.
    pub(super) fn reap(&mut self, now: Instant, inbox: &mut Vec<Event>) {
        let mut done = Vec::new();
        self.access.vault.reap(now, &mut done);
        for (number, done) in done {
            let Some(job) = self.jobs.under_way.remove(&number) else { continue };
            match (job, done) {
                (Job::NewUser(call, by, name), Done::Hashed(password)) => {
                    let op = AuthOp::UserAdd { name, password, no_password: false };
                    self.write(now, (call, by), Op::Auth(op), inbox);
                }
                (Job::NewPassword(call, by, name), Done::Hashed(password)) => {
                    let op = AuthOp::UserChangePassword { name, password: Some(password) };
                    self.write(now, (call, by), Op::Auth(op), inbox);
                }
                (Job::Login(checked), Done::Verified(true)) => {
                    self.log_in(now, *checked, inbox);
                }
                (Job::Login(checked), Done::Verified(false)) => {
                    self.refuse_call(checked.login.call, Rejection::AuthFailed);
                }
                (Job::Token(call, header, revision), Done::Signed(Some(token))) => {
                    let reply = AuthReply::Authenticated { token, revision };
                    let answer = Answer { header, body: AnswerBody::Auth(reply) };
                    self.reads.answers.push((call, Ok(answer)));
                }
                (Job::Token(call, ..), Done::Signed(None)) => {
                    self.refuse_call(call, Rejection::VerifyOnly);
                }
                (job, done) => unreachable!("{job:?} cannot end in {done:?}"),
            }
        }
    }

    /// The log has answered a login.
    pub(super) fn logged_in(&mut self, checked: Checked, result: Result<Response, Rejection>) {
        let call = checked.login.call;
        match result {
            Ok(response) => match (&checked.signer, response.body) {
                (Some(signer), Body::Auth(AuthReply::Authenticated { revision, .. })) => {
                    let header = Header { revision: response.revision, term: response.term };
                    let now = self.access.vault.unix_seconds();
                    let claims = signer.claims(&checked.login.name, revision, now);
                    let work = Work::Sign { claims, signer: signer.clone() };
                    self.submit(self.now, work, Job::Token(call, header, revision));
                }
                (_, body) => self.answer_write(call, Response { body, ..response }),
            },
            Err(Rejection::AuthOldRevision) => self.check_again(checked),
            Err(rejection) => self.refuse_call(call, rejection),
        }
    }

    /// Law 2.
    fn check_again(&mut self, checked: Checked) {
        let now = self.now;
        if checked.login.deadline <= now {
            return self.refuse_call(checked.login.call, Rejection::Timeout);
        }
        match self.stored_hash(&checked.login.name) {
            Ok((hash, revision)) if hash == checked.hash => {
                let mut outgoing = std::mem::take(&mut self.outgoing);
                self.log_in(now, Checked { revision, ..checked }, &mut outgoing);
                self.outgoing = outgoing;
            }
            _ => self.check_password(now, checked.login),
        }
    }

    fn log_in(&mut self, now: Instant, checked: Checked, inbox: &mut Vec<Event>) {
        let (token, signer) = match self.access.issue() {
            Ok(Issue::Named(name)) => (Secret::from(name.as_str()), None),
            Ok(Issue::Signed(signer)) => (Secret::default(), Some(signer)),
            Err(rejection) => return self.refuse_call(checked.login.call, rejection),
        };
        let user = checked.login.name.clone();
        let op = AuthOp::Authenticate { user, token, checked: checked.revision };
        let waiting = Waiting::Login(Box::new(Checked { signer, ..checked }));
        let ask = Ask::Propose(Op::Auth(op));
        self.send(now, waiting, (Identity::default(), ask), inbox);
    }

    /// The hash of a user who may log in, and the auth revision it belongs to.
    fn stored_hash(&self, name: &str) -> Result<(Secret, u64), Rejection> {
        let state = self.access.state();
        if !state.enabled {
            return Err(Rejection::AuthNotEnabled);
        }
        let user = machine::user(&self.source.snapshot, name.as_bytes());
        let user = user.ok_or(Rejection::AuthFailed)?;
        if user.no_password {
            return Err(Rejection::NoPasswordUser);
        }
        Ok((user.password, state.revision))
    }

    fn hash(&mut self, now: Instant, password: Secret, job: Job) {
        if password.0.len() > PASSWORD_BYTES_MAX {
            return self.refuse_call(job.call(), Rejection::PasswordTooLong);
        }
        let mut salt = [0; 16];
        self.access.vault.draw(&mut salt);
        let cost = self.config.auth.bcrypt_cost;
        self.submit(now, Work::Hash { password, cost, salt }, job);
    }

    fn submit(&mut self, now: Instant, work: Work, job: Job) {
        if self.jobs.under_way.len() >= self.config.auth.hashes_max {
            return self.refuse_call(job.call(), Rejection::TooManyRequests);
        }
        self.jobs.last += 1;
        self.jobs.under_way.insert(self.jobs.last, job);
        self.access.vault.submit(now, self.jobs.last, work);
    }

    fn refuse_call(&mut self, call: StreamId, rejection: Rejection) {
        self.reads.answers.push((call, Err(rejection)));
    }
}
