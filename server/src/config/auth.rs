//! `--auth-token`, `--auth-token-ttl` and `--bcrypt-cost`.
//!
//! Leaves out reading the keys: that is for the start, not for parsing.
//!
//! Worked example: `jwt,sign-method=RS256,pub-key=a,priv-key=b,ttl=10m` signs with RSA; `simple` and the
//! empty word have no options.

use std::time::Duration;

use super::{ConfigError, scan::Values, value};
use crate::auth::jwt::{JwtOptions, Signer};
use crate::auth::{AuthOptions, BCRYPT_COST, SIMPLE_TTL, TokenOptions};

/// What the flags say of authentication, with keys as file names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthFlags {
    /// `--auth-token`
    pub token: TokenFlag,
    /// `--auth-token-ttl`, for simple tokens.
    pub token_ttl: Duration,
    /// `--bcrypt-cost`, one that bcrypt has.
    pub bcrypt_cost: u32,
}

/// The kinds of `--auth-token`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenFlag {
    /// `simple`
    Simple,
    /// `jwt,…`
    Jwt(JwtOptions),
    /// The empty word.
    Nothing,
}

impl AuthFlags {
    /// Reads the keys.
    ///
    /// # Errors
    /// See [`Signer::load`].
    pub fn options(&self) -> Result<AuthOptions, String> {
        let tokens = match &self.token {
            TokenFlag::Simple => TokenOptions::Simple { ttl: self.token_ttl },
            TokenFlag::Jwt(options) => TokenOptions::Jwt(Signer::load(options)?),
            TokenFlag::Nothing => TokenOptions::Nothing,
        };
        Ok(AuthOptions { bcrypt_cost: self.bcrypt_cost, tokens, ..AuthOptions::default() })
    }
}

pub(super) fn read(values: &Values, warnings: &mut Vec<String>) -> Result<AuthFlags, ConfigError> {
    let given = values.count("bcrypt-cost");
    let bcrypt_cost = match u32::try_from(given).ok().filter(|cost| COSTS.contains(cost)) {
        Some(cost) => cost,
        None => {
            warnings.push(format!(
                "use default bcrypt cost instead of the invalid given cost: --bcrypt-cost {given} \
                 is not between {} and {}, and {BCRYPT_COST} is taken",
                COSTS.start(),
                COSTS.end()
            ));
            BCRYPT_COST
        }
    };
    let token_ttl = match values.count("auth-token-ttl") {
        0 => SIMPLE_TTL,
        seconds => Duration::from_secs(seconds),
    };
    let token = token(values.text("auth-token"), warnings).map_err(ConfigError::unfit)?;
    Ok(AuthFlags { token, token_ttl, bcrypt_cost })
}

/// What bcrypt can be asked for.
const COSTS: std::ops::RangeInclusive<u32> = 4..=31;

fn token(text: &str, warnings: &mut Vec<String>) -> Result<TokenFlag, String> {
    let refused = |why: String| format!("auth: invalid auth options: --auth-token {text:?}: {why}");
    let mut parts = text.split(',');
    let kind = parts.next().unwrap_or_default();
    let mut options: Vec<(&str, &str)> = Vec::new();
    for part in parts {
        let pair = part.split_once('=').filter(|(_, value)| !value.contains('='));
        let (name, value) = pair.ok_or_else(|| refused(format!("{part:?} is not name=value")))?;
        if options.iter().any(|(known, _)| *known == name) {
            return Err(refused(format!("{name} is given twice")));
        }
        options.push((name, value));
    }
    match kind {
        "simple" => Ok(TokenFlag::Simple),
        "" => Ok(TokenFlag::Nothing),
        "jwt" => jwt(&options, warnings).map(TokenFlag::Jwt).map_err(refused),
        other => Err(refused(format!("{other:?} is neither simple nor jwt"))),
    }
}

fn jwt(options: &[(&str, &str)], warnings: &mut Vec<String>) -> Result<JwtOptions, String> {
    let mut jwt = JwtOptions::default();
    for (name, value) in options {
        match *name {
            "sign-method" => jwt.sign_method = (*value).to_owned(),
            "pub-key" => jwt.pub_key = (*value).to_owned(),
            "priv-key" => jwt.priv_key = (*value).to_owned(),
            "ttl" if value.is_empty() => {}
            "ttl" => {
                let ns = value::duration_ns(value).map_err(|why| format!("ttl: {why}"))?;
                // One that is over before it began is etcd's to give as well.
                jwt.ttl = Some(Duration::from_nanos(u64::try_from(ns).unwrap_or(0)));
            }
            name => warnings.push(format!("unknown JWT options: {name}")),
        }
    }
    if jwt.sign_method.is_empty() {
        return Err("sign-method is missing".to_owned());
    }
    Ok(jwt)
}
