//! Who a client is: passwords, and the tokens that stand for them.
//!
//! What a user may do is decided in the core ([`holdfast_core::machine::guard`]); here a token becomes
//! a user's name, and a password a token. Three parts: the [`vault`] does what takes long or must not
//! be guessed, [`tokens`] keeps simple tokens, [`jwt`] signs and verifies the others.

pub mod jwt;
pub mod tokens;
pub mod vault;

use std::fmt;
use std::rc::Rc;
use std::time::Duration;

/// What a call says of its caller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Credential {
    /// Nothing.
    #[default]
    None,
    /// A token, as given.
    Token(Token),
    /// It comes from within the process.
    System,
}

impl Credential {
    /// From a call's metadata.
    pub fn of(token: Option<String>) -> Credential {
        token.map_or(Credential::None, |token| Credential::Token(Token(token.into())))
    }
}

/// A token; not to be printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(pub Rc<str>);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// What the flags say of authentication.
#[derive(Clone, Debug)]
pub struct AuthOptions {
    /// `--bcrypt-cost`: each step doubles the work of a hash.
    pub bcrypt_cost: u32,
    /// `--auth-token`, with its keys read.
    pub tokens: TokenOptions,
    /// Passwords that are being hashed or compared; more are refused.
    pub hashes_max: usize,
    /// Simple tokens kept; of more, those that would end first are forgotten.
    pub tokens_max: usize,
    /// Calls that wait for the entry of their token, each with what it asks; others are judged at once.
    pub waiting_max: usize,
}

/// Which tokens a member issues and takes.
#[derive(Clone, Debug)]
pub enum TokenOptions {
    /// Random names, known to the members that applied their assignment.
    Simple {
        /// `--auth-token-ttl`, counted from the last use.
        ttl: Duration,
    },
    /// Signed ones.
    Jwt(jwt::Signer),
    /// None: nobody can authenticate.
    Nothing,
}

impl Default for AuthOptions {
    fn default() -> AuthOptions {
        AuthOptions {
            bcrypt_cost: BCRYPT_COST,
            tokens: TokenOptions::Simple { ttl: SIMPLE_TTL },
            hashes_max: 256,
            tokens_max: 100_000,
            waiting_max: 256,
        }
    }
}

/// etcd's default `--bcrypt-cost`.
pub const BCRYPT_COST: u32 = 10;

/// etcd's default `--auth-token-ttl`.
pub const SIMPLE_TTL: Duration = Duration::from_secs(300);

/// bcrypt looks at no more than this of a password, and etcd hashes none that is longer.
pub const PASSWORD_BYTES_MAX: usize = 72;
