//! Signed tokens (JSON web tokens): who, at which auth revision, until when.
//!
//! ```text
//! base64url(header) . base64url(claims) . base64url(signature)
//! header = {"alg":"RS256","typ":"JWT"}    claims = {"exp":…,"revision":…,"username":"…"}
//! ```
//!
//! Leaves out what a revision is worth: the core refuses one that is older than the tables.
//!
//! Law: a token is taken only if it is signed by the configured method with the configured key, names
//! a user and a revision, and its time is not over.
//!
//! Worked example: `--auth-token jwt,sign-method=HS256,priv-key=k,ttl=1m` signs with the bytes of file
//! `k` tokens that end a minute later; `pub-key` alone makes a member that can verify and not sign.

mod der;
mod key;

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use holdfast_core::auth::Secret;
use serde_json::{Value, json};

use self::key::Key;

/// Go's `RawURLEncoding`: no padding, and the bits after the last byte do not matter.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone),
);

/// How long a token holds where `ttl` is not given (etcd's default).
const TTL: Duration = Duration::from_secs(300);

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// Who.
    pub user: Bytes,
    /// At which auth revision.
    pub revision: u64,
    /// Until when, in seconds since 1970; 0 in what another program signed without an end.
    pub expires: u64,
}

/// A method with its key.
#[derive(Clone, Debug)]
pub struct Signer {
    method: Method,
    key: Arc<Key>,
    ttl: Duration,
}

/// A way to sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    /// A shared secret, with the bits of its hash.
    Hs(u16),
    /// RSA, PKCS#1 1.5.
    Rs(u16),
    /// RSA, PSS.
    Ps(u16),
    /// ECDSA on the curve of as many bits.
    Es(u16),
    /// Ed25519.
    EdDsa,
}

impl Method {
    const NAMES: [(&'static str, Method); 12] = [
        ("HS256", Method::Hs(256)),
        ("HS384", Method::Hs(384)),
        ("HS512", Method::Hs(512)),
        ("RS256", Method::Rs(256)),
        ("RS384", Method::Rs(384)),
        ("RS512", Method::Rs(512)),
        ("PS256", Method::Ps(256)),
        ("PS384", Method::Ps(384)),
        ("PS512", Method::Ps(512)),
        ("ES256", Method::Es(256)),
        ("ES384", Method::Es(384)),
        ("EdDSA", Method::EdDsa),
    ];

    fn of(name: &str) -> Option<Method> {
        Method::NAMES.iter().find(|(known, _)| *known == name).map(|(_, method)| *method)
    }

    fn name(self) -> &'static str {
        let row = Method::NAMES.iter().find(|(_, method)| *method == self);
        row.expect("every method has a name").0
    }
}

/// The options after `jwt,`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JwtOptions {
    /// `sign-method`
    pub sign_method: String,
    /// `pub-key`: a file; empty when not given.
    pub pub_key: String,
    /// `priv-key`: a file; empty when not given.
    pub priv_key: String,
    /// `ttl`
    pub ttl: Option<Duration>,
}

impl Signer {
    /// Reads the keys that the options name.
    ///
    /// # Errors
    /// A sentence for the operator: an unknown method, a file that cannot be read, a key that is none,
    /// is missing, or does not belong to the other one.
    pub fn load(options: &JwtOptions) -> Result<Signer, String> {
        let read = |file: &str| match file {
            "" => Ok(Vec::new()),
            file => fs::read(file).map_err(|error| format!("{file}: {error}")),
        };
        let (public, private) = (read(&options.pub_key)?, read(&options.priv_key)?);
        Signer::new(options, &public, &private)
    }

    fn new(options: &JwtOptions, public: &[u8], private: &[u8]) -> Result<Signer, String> {
        let name = &options.sign_method;
        let method = Method::of(name).ok_or_else(|| match name.as_str() {
            "ES512" => "sign-method ES512 is not served: use ES384 or ES256".to_owned(),
            _ => format!("auth: invalid auth signature method {name:?}"),
        })?;
        let key = Arc::new(Key::new(method, public, private)?);
        Ok(Signer { method, key, ttl: options.ttl.unwrap_or(TTL) })
    }

    /// Whether it can sign, not only verify.
    pub fn can_sign(&self) -> bool {
        self.key.can_sign()
    }

    /// The claims of a new token.
    pub fn claims(&self, user: &str, revision: u64, now: u64) -> Claims {
        let user = Bytes::copy_from_slice(user.as_bytes());
        Claims { user, revision, expires: now + self.ttl.as_secs() }
    }

    /// The token; `None` when this key cannot sign. Takes long.
    pub fn sign(&self, claims: &Claims) -> Option<Secret> {
        let header = json!({ "alg": self.method.name(), "typ": "JWT" });
        let user = String::from_utf8_lossy(&claims.user);
        let body = json!({
            "exp": claims.expires,
            "revision": claims.revision,
            "username": user,
        });
        let part = |value: &Value| BASE64.encode(value.to_string());
        let mut token = format!("{}.{}", part(&header), part(&body));
        let signature = self.key.sign(token.as_bytes())?;
        token.push('.');
        BASE64.encode_string(signature, &mut token);
        Some(Secret(token.into()))
    }

    /// What a token says, if it is to be believed at `now` (seconds since 1970).
    pub fn verify(&self, token: &str, now: u64) -> Option<Claims> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, body) = signed.split_once('.')?;
        let part = |text: &str| BASE64.decode(text).ok();
        let header: Value = serde_json::from_slice(&part(header)?).ok()?;
        if header.get("alg")?.as_str()? != self.method.name()
            || !self.key.verify(signed.as_bytes(), &part(signature)?)
        {
            return None;
        }
        let claims = claims(&serde_json::from_slice(&part(body)?).ok()?)?;
        claims.holds(now).then_some(claims.said)
    }
}

/// Claims with what only matters when they are looked at.
struct Read {
    said: Claims,
    not_before: f64,
    expires: Option<f64>,
}

impl Read {
    fn holds(&self, now: u64) -> bool {
        self.expires.is_none_or(|end| (now as f64) < end) && now as f64 >= self.not_before
    }
}

fn claims(body: &Value) -> Option<Read> {
    let time = |name: &str| match body.get(name) {
        None | Some(Value::Null) => Some(None),
        Some(value) => value.as_f64().map(Some),
    };
    let expires = time("exp")?;
    let said = Claims {
        user: Bytes::copy_from_slice(body.get("username")?.as_str()?.as_bytes()),
        // What is negative or too large is brought to the ends; the cluster's own revision is no
        // client's.
        revision: (body.get("revision")?.as_f64()? as u64).min(u64::MAX - 1),
        expires: expires.unwrap_or(0.0) as u64,
    };
    Some(Read { said, not_before: time("nbf")?.unwrap_or(0.0), expires })
}

#[cfg(test)]
mod tests;
