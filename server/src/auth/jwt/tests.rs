//! Tokens of the real etcd, and our own, by every method.

use super::*;

macro_rules! file {
    ($name:literal) => {
        include_bytes!(concat!("testdata/", $name))
    };
}

/// `method token`, from etcd 3.7.1 with the keys beside it, user root at auth revision 3, valid for a
/// century.
const TOKENS: &str = include_str!("testdata/tokens.txt");

fn options(method: &str) -> JwtOptions {
    JwtOptions { sign_method: method.to_owned(), ..JwtOptions::default() }
}

fn private(method: &str) -> &'static [u8] {
    match method {
        "ES256" => file!("p256.pem"),
        "ES384" => file!("p384.pem"),
        "EdDSA" => file!("ed25519.pem"),
        hs if hs.starts_with("HS") => file!("shared"),
        _ => file!("rsa.pem"),
    }
}

fn public(method: &str) -> &'static [u8] {
    match method {
        "ES256" => file!("p256.pub.pem"),
        "ES384" => file!("p384.pub.pem"),
        "EdDSA" => file!("ed25519.pub.pem"),
        hs if hs.starts_with("HS") => b"",
        _ => file!("rsa.pub.pem"),
    }
}

fn signer(method: &str) -> Signer {
    Signer::new(&options(method), public(method), private(method))
        .expect("keys that belong together")
}

const NOW: u64 = 1_800_000_000;

#[test]
fn etcds_tokens_are_believed() {
    let mut seen = 0;
    for line in TOKENS.lines() {
        let (method, token) = line.split_once(' ').expect("a method and its token");
        let claims = signer(method).verify(token, NOW).expect(method);
        assert_eq!((&claims.user[..], claims.revision), (&b"root"[..], 3), "{method}");
        assert_eq!(
            signer(method).verify(token, claims.expires),
            None,
            "{method}: its time is over"
        );
        seen += 1;
    }
    assert_eq!(seen, 8);
}

#[test]
fn every_method_signs_what_it_verifies_and_nothing_else() {
    for (method, _) in Method::NAMES {
        let signer = signer(method);
        let claims = signer.claims("bob", 7, NOW);
        assert_eq!(claims.expires, NOW + 300);
        let token = signer.sign(&claims).expect("a private key");
        let token = String::from_utf8(token.0.to_vec()).expect("base64");
        assert_eq!(signer.verify(&token, NOW), Some(claims.clone()), "{method}");
        assert_eq!(signer.verify(&token, NOW + 300), None, "{method}");
        for at in [2, token.len() / 2, token.len() - 5] {
            let mut damaged = token.clone().into_bytes();
            damaged[at] = if damaged[at] == b'A' { b'B' } else { b'A' };
            let damaged = String::from_utf8(damaged).expect("still text");
            assert_eq!(signer.verify(&damaged, NOW), None, "{method} at {at}");
        }
        for (other, _) in Method::NAMES.into_iter().filter(|(other, _)| *other != method) {
            assert_eq!(self::signer(other).verify(&token, NOW), None, "{method} as {other}");
        }
    }
}

#[test]
fn a_public_key_alone_verifies() {
    for (method, _) in Method::NAMES.into_iter().filter(|(name, _)| !name.starts_with("HS")) {
        let verifier = Signer::new(&options(method), public(method), b"").expect("a public key");
        assert!(!verifier.can_sign() && signer(method).can_sign());
        let claims = verifier.claims("bob", 7, NOW);
        assert_eq!(verifier.sign(&claims), None);
        let token = signer(method).sign(&claims).expect("a private key");
        let token = String::from_utf8(token.0.to_vec()).expect("base64");
        assert_eq!(verifier.verify(&token, NOW), Some(claims), "{method}");
    }
}

#[test]
fn keys_come_in_several_wrappings() {
    for (method, public, private) in [
        ("RS256", &b""[..], &file!("rsa.pkcs1.pem")[..]),
        ("RS256", file!("rsa.crt.pem"), file!("rsa.pem")),
        ("ES256", file!("p256.pub.pem"), file!("p256.pkcs8.pem")),
    ] {
        let signer = Signer::new(&options(method), public, private).expect(method);
        assert!(signer.can_sign());
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let refusal = |method: &str, public: &[u8], private: &[u8]| {
        Signer::new(&options(method), public, private).map(|_| ()).expect_err(method)
    };
    assert_eq!(refusal("RS256", b"", b""), "auth: missing key data");
    assert_eq!(refusal("HS256", file!("rsa.pub.pem"), b""), "auth: missing key data");
    assert_eq!(
        refusal("ES256", file!("p256.pub.pem"), file!("p384.pem")),
        "priv-key holds no key of this method"
    );
    assert_eq!(
        refusal("RS256", file!("p256.pub.pem"), file!("rsa.pem")),
        "pub-key holds no key of this method"
    );
    assert_eq!(refusal("RS256", b"", b"nonsense"), "priv-key holds no key of this method");
    let other = Signer::new(&options("EdDSA"), b"", file!("ed25519.pem")).expect("a key");
    assert!(other.verify("", NOW).is_none() && other.verify("a.b.c", NOW).is_none());
    for method in ["", "none", "RS257", "ES512"] {
        assert!(refusal(method, b"", file!("rsa.pem")).contains(method));
    }
    let missing = JwtOptions { priv_key: "/nowhere/key".to_owned(), ..options("RS256") };
    assert!(Signer::load(&missing).map(|_| ()).expect_err("no file").contains("/nowhere/key"));
}

#[test]
fn claims_of_others_are_read_carefully() {
    let sign = |body: &str| {
        let head = BASE64.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
        let signed = format!("{head}.{}", BASE64.encode(body));
        let signature = signer("HS256").key.sign(signed.as_bytes()).expect("a shared secret");
        format!("{signed}.{}", BASE64.encode(signature))
    };
    for (body, revision) in [
        (r#"{"username":"bob","revision":3}"#, Some(3)),
        (r#"{"username":"bob","revision":3,"exp":null}"#, Some(3)),
        (r#"{"username":"","revision":1e30}"#, Some(u64::MAX - 1)),
        (r#"{"username":"bob","revision":-1}"#, Some(0)),
        (r#"{"username":"bob","revision":"3"}"#, None),
        (r#"{"username":7,"revision":3}"#, None),
        (r#"{"username":"bob"}"#, None),
        (r#"{"username":"bob","revision":3,"exp":1}"#, None),
        (r#"{"username":"bob","revision":3,"exp":"never"}"#, None),
        (r#"{"username":"bob","revision":3,"nbf":9999999999}"#, None),
        (r#"["bob",3]"#, None),
        ("", None),
    ] {
        let said = signer("HS256").verify(&sign(body), NOW);
        assert_eq!(said.map(|claims| claims.revision), revision, "{body}");
    }
}

#[test]
fn hostile_pem_is_no_key() {
    let mut cut = file!("rsa.pem").to_vec();
    // The last byte is a line break that may be missing.
    for len in 0..cut.len() - 1 {
        assert!(Signer::new(&options("RS256"), b"", &cut[..len]).is_err());
    }
    for at in (30..cut.len() - 30).step_by(7) {
        let kept = cut[at];
        cut[at] = b'/';
        // Whatever it has become, it must not panic.
        drop(Signer::new(&options("RS256"), b"", &cut));
        cut[at] = kept;
    }
    let length_lies = [0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 0x02];
    assert_eq!(der::public_bits(&length_lies), None);
    assert_eq!(der::certificate_bits(&[0x30, 0x80]), None);
    assert_eq!(der::ec_private(&[]), None);
    assert_eq!(der::pkcs8_inner(&[0x30, 0x02, 0x02, 0x05]), None);
}
