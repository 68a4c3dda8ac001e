//! The key of a signing method, read from PEM, and what it does.
//!
//! A private key verifies too; a public one given beside it must belong to it.

use std::fmt;

use ring::rand::SystemRandom;
use ring::rsa::KeyPair as RsaKeyPair;
use ring::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use ring::{hmac, signature as sig};

use super::{Method, der};

/// See the module.
pub(super) struct Key {
    method: Method,
    private: Option<Private>,
    /// As `ring` wants it: PKCS#1 for RSA, the point for curves; empty for a shared secret.
    public: Vec<u8>,
}

enum Private {
    Shared(hmac::Key),
    Rsa(RsaKeyPair),
    Curve(EcdsaKeyPair),
    Edwards(Ed25519KeyPair),
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a key for {}", self.method.name())
    }
}

impl Key {
    /// From the contents of the files; empty ones were not given.
    pub(super) fn new(method: Method, public: &[u8], private: &[u8]) -> Result<Key, String> {
        if let Method::Hs(bits) = method {
            return Key::shared(method, bits, private);
        }
        let given = match public {
            [] => None,
            pem => Some(read_public(method, pem).ok_or("pub-key holds no key of this method")?),
        };
        let private = match private {
            [] => None,
            pem => Some(read_private(method, pem).ok_or("priv-key holds no key of this method")?),
        };
        let own = private.as_ref().map(public_of);
        match (own, given) {
            (None, None) => Err("auth: missing key data".to_owned()),
            (Some(own), Some(given)) if own != given => {
                Err("auth: public and private keys don't match".to_owned())
            }
            (Some(public), _) | (None, Some(public)) => Ok(Key { method, private, public }),
        }
    }

    fn shared(method: Method, bits: u16, secret: &[u8]) -> Result<Key, String> {
        if secret.is_empty() {
            return Err("auth: missing key data".to_owned());
        }
        let algorithm = match bits {
            256 => hmac::HMAC_SHA256,
            384 => hmac::HMAC_SHA384,
            _ => hmac::HMAC_SHA512,
        };
        let private = Some(Private::Shared(hmac::Key::new(algorithm, secret)));
        Ok(Key { method, private, public: Vec::new() })
    }

    pub(super) fn can_sign(&self) -> bool {
        self.private.is_some()
    }

    pub(super) fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        let random = SystemRandom::new();
        match self.private.as_ref()? {
            Private::Shared(key) => Some(hmac::sign(key, message).as_ref().to_vec()),
            Private::Rsa(pair) => {
                let encoding: &dyn signature::RsaEncoding = match self.method {
                    Method::Rs(256) => &sig::RSA_PKCS1_SHA256,
                    Method::Rs(384) => &sig::RSA_PKCS1_SHA384,
                    Method::Rs(_) => &sig::RSA_PKCS1_SHA512,
                    Method::Ps(256) => &sig::RSA_PSS_SHA256,
                    Method::Ps(384) => &sig::RSA_PSS_SHA384,
                    _ => &sig::RSA_PSS_SHA512,
                };
                let mut out = vec![0; pair.public().modulus_len()];
                pair.sign(encoding, &random, message, &mut out).ok()?;
                Some(out)
            }
            Private::Curve(pair) => Some(pair.sign(&random, message).ok()?.as_ref().to_vec()),
            Private::Edwards(pair) => Some(pair.sign(message).as_ref().to_vec()),
        }
    }

    pub(super) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        if let Some(Private::Shared(key)) = &self.private {
            // In constant time.
            return hmac::verify(key, message, signature).is_ok();
        }
        let algorithm: &'static dyn signature::VerificationAlgorithm = match self.method {
            Method::Rs(256) => &sig::RSA_PKCS1_2048_8192_SHA256,
            Method::Rs(384) => &sig::RSA_PKCS1_2048_8192_SHA384,
            Method::Rs(_) => &sig::RSA_PKCS1_2048_8192_SHA512,
            Method::Ps(256) => &sig::RSA_PSS_2048_8192_SHA256,
            Method::Ps(384) => &sig::RSA_PSS_2048_8192_SHA384,
            Method::Ps(_) => &sig::RSA_PSS_2048_8192_SHA512,
            Method::Es(256) => &sig::ECDSA_P256_SHA256_FIXED,
            Method::Es(_) => &sig::ECDSA_P384_SHA384_FIXED,
            Method::EdDsa => &sig::ED25519,
            Method::Hs(_) => return false,
        };
        UnparsedPublicKey::new(algorithm, &self.public).verify(message, signature).is_ok()
    }
}

fn public_of(private: &Private) -> Vec<u8> {
    match private {
        Private::Shared(_) => Vec::new(),
        Private::Rsa(pair) => pair.public().as_ref().to_vec(),
        Private::Curve(pair) => pair.public_key().as_ref().to_vec(),
        Private::Edwards(pair) => pair.public_key().as_ref().to_vec(),
    }
}

fn read_private(method: Method, pem: &[u8]) -> Option<Private> {
    let (label, key) = der::pem(pem)?;
    match (method, label.as_str()) {
        (Method::Rs(_) | Method::Ps(_), "RSA PRIVATE KEY") => {
            RsaKeyPair::from_der(&key).ok().map(Private::Rsa)
        }
        (Method::Rs(_) | Method::Ps(_), "PRIVATE KEY") => {
            RsaKeyPair::from_pkcs8(&key).ok().map(Private::Rsa)
        }
        (Method::Es(bits), "EC PRIVATE KEY") => curve_pair(bits, &key),
        (Method::Es(bits), "PRIVATE KEY") => curve_pair(bits, &der::pkcs8_inner(&key)?),
        (Method::EdDsa, "PRIVATE KEY") => {
            Ed25519KeyPair::from_pkcs8_maybe_unchecked(&key).ok().map(Private::Edwards)
        }
        _ => None,
    }
}

fn curve_pair(bits: u16, key: &[u8]) -> Option<Private> {
    let algorithm = match bits {
        256 => &sig::ECDSA_P256_SHA256_FIXED_SIGNING,
        _ => &sig::ECDSA_P384_SHA384_FIXED_SIGNING,
    };
    let (private, public) = der::ec_private(key)?;
    let random = SystemRandom::new();
    let pair = EcdsaKeyPair::from_private_key_and_public_key(algorithm, &private, &public, &random);
    pair.ok().map(Private::Curve)
}

fn read_public(method: Method, pem: &[u8]) -> Option<Vec<u8>> {
    let (label, key) = der::pem(pem)?;
    let bits = match label.as_str() {
        "PUBLIC KEY" => der::public_bits(&key)?,
        "CERTIFICATE" => der::certificate_bits(&key)?,
        "RSA PUBLIC KEY" if matches!(method, Method::Rs(_) | Method::Ps(_)) => key,
        _ => return None,
    };
    let fits = match method {
        Method::Es(256) => bits.len() == 65,
        Method::Es(_) => bits.len() == 97,
        Method::EdDsa => bits.len() == 32,
        Method::Rs(_) | Method::Ps(_) => bits.first() == Some(&der::SEQUENCE),
        Method::Hs(_) => false,
    };
    fits.then_some(bits)
}
