//! From what a call says of its caller to who it is, and to whether it may read what it wants.
//!
//! Leaves out what a right is: [`Guard`] decides, by the tables of the state that is read. What goes
//! through the log is not asked about here, but in apply.
//!
//! Laws:
//!  1. While authentication is off, tokens are not looked at.
//!  2. A simple token is judged once this member has applied the entry that assigned it.
//!
//! Worked example: the token `abc….17` comes to a member that has applied entry 15: its call waits;
//! at entry 17 it is bob's, or nobody's.

use std::collections::BTreeMap;

use bytes::Bytes;
use holdfast_core::auth::{AuthState, TokenChange};
use holdfast_core::id::Index;
use holdfast_core::machine::guard::{Act, Guard, Reader};
use holdfast_core::rejection::Rejection;
use holdfast_core::request::Identity;
use holdfast_core::store::View;
use holdfast_core::time::Instant;

use crate::auth::jwt::{Claims, Signer};
use crate::auth::tokens::{self, SimpleTokens};
use crate::auth::vault::Vault;
use crate::auth::{AuthOptions, Credential, TokenOptions};

/// Signed tokens whose signatures need not be verified again.
const BELIEVED_MAX: usize = 1024;

/// See the module.
pub(super) struct Access {
    guard: Guard,
    tokens: Tokens,
    /// Random bytes, the wall clock, and what takes long.
    pub vault: Box<dyn Vault>,
    now: Instant,
}

/// What tokens stand for.
enum Tokens {
    Simple(SimpleTokens),
    Signed { signer: Signer, believed: BTreeMap<Box<str>, Claims> },
    Nothing,
}

/// How a user whose password was right gets a token.
pub(super) enum Issue {
    /// The entry assigns it; this is its first part.
    Named(String),
    /// It is signed afterwards.
    Signed(Signer),
}

impl Access {
    /// By the tables of `view`.
    pub(super) fn new(options: &AuthOptions, view: &dyn View, vault: Box<dyn Vault>) -> Access {
        let tokens = match &options.tokens {
            TokenOptions::Simple { ttl } => {
                Tokens::Simple(SimpleTokens::new(*ttl, options.tokens_max))
            }
            TokenOptions::Jwt(signer) => {
                Tokens::Signed { signer: signer.clone(), believed: BTreeMap::new() }
            }
            TokenOptions::Nothing => Tokens::Nothing,
        };
        Access { guard: Guard::load(view), tokens, vault, now: Instant(0) }
    }

    /// Time has come to `now`.
    pub(super) fn tick(&mut self, now: Instant) {
        self.now = self.now.max(now);
    }

    /// A new state: what tokens have become, and how its tables are.
    pub(super) fn published(&mut self, view: &dyn View, changes: &[TokenChange], restored: bool) {
        self.guard.refresh(view);
        if let Tokens::Simple(simple) = &mut self.tokens {
            if restored {
                simple.clear();
            }
            simple.follow(self.now, changes);
        }
    }

    /// Whether authentication is on, and the auth revision.
    pub(super) fn state(&self) -> AuthState {
        self.guard.state()
    }

    /// The entry that must be applied before the caller can be judged (law 2).
    pub(super) fn waits_for(&self, by: &Credential) -> Option<Index> {
        match (by, &self.tokens) {
            (Credential::Token(token), Tokens::Simple(_)) if self.guard.state().enabled => {
                tokens::assigned_at(&token.0)
            }
            _ => None,
        }
    }

    /// Who calls.
    ///
    /// # Errors
    /// A token that nobody holds.
    pub(super) fn identify(&mut self, by: &Credential) -> Result<Identity, Rejection> {
        if *by == Credential::System {
            return Ok(Identity::SYSTEM);
        }
        let state = self.guard.state();
        match by {
            Credential::Token(token) if state.enabled => {
                self.holder(&token.0, state.revision).ok_or(Rejection::InvalidAuthToken)
            }
            _ => Ok(Identity::default()),
        }
    }

    /// Whether the caller may do this, by the tables of `view`, the state last published.
    ///
    /// # Errors
    /// A token that nobody holds, and the guard's refusals.
    pub(super) fn permit(
        &mut self,
        view: &dyn View,
        by: &Credential,
        act: Act<'_>,
    ) -> Result<(), Rejection> {
        let who = self.identify(by)?;
        self.guard.permit(view, &who, act)
    }

    /// Who must be asked of each key that the caller is about to be shown; `None` when it may see all.
    ///
    /// # Errors
    /// See [`Access::permit`]; the caller must at least say who it is.
    pub(super) fn reader(
        &mut self,
        view: &dyn View,
        by: &Credential,
    ) -> Result<Option<Reader>, Rejection> {
        let who = self.identify(by)?;
        self.guard.permit(view, &who, Act::Identified)?;
        Ok(self.guard.reader(view, &who))
    }

    /// How the next user that logs in gets its token.
    ///
    /// # Errors
    /// This member issues none.
    pub(super) fn issue(&mut self) -> Result<Issue, Rejection> {
        match &self.tokens {
            Tokens::Simple(_) => Ok(Issue::Named(tokens::draw(&mut *self.vault))),
            Tokens::Signed { signer, .. } if signer.can_sign() => Ok(Issue::Signed(signer.clone())),
            Tokens::Signed { .. } => Err(Rejection::VerifyOnly),
            Tokens::Nothing => Err(Rejection::AuthFailed),
        }
    }

    fn holder(&mut self, token: &str, revision: u64) -> Option<Identity> {
        match &mut self.tokens {
            Tokens::Simple(simple) => {
                let user = simple.user(self.now, token)?;
                Some(Identity { user, auth_revision: revision })
            }
            Tokens::Signed { signer, believed } => {
                let now = self.vault.unix_seconds();
                let known = believed.get(token);
                let known = known.filter(|said| said.expires == 0 || now < said.expires);
                let Claims { user, revision, .. } = match known {
                    Some(claims) => claims.clone(),
                    None => {
                        let claims = signer.verify(token, now)?;
                        if believed.len() >= BELIEVED_MAX {
                            believed.clear();
                        }
                        believed.insert(token.into(), claims.clone());
                        claims
                    }
                };
                Some(Identity { user: Bytes::copy_from_slice(&user), auth_revision: revision })
            }
            Tokens::Nothing => None,
        }
    }
}
