//! The URLs that members and clients are reached by, and listened for on.
//!
//! Only `http://host:port` is served yet; a member id is derived from this text, so it is kept as
//! given (the scheme alone is put into lower case).
//!
//! Worked example: ` http://[::1]:2380 ` has the host `::1`, the port 2380, and the address
//! `[::1]:2380` to listen on.

use std::fmt;
use std::net::IpAddr;

/// A checked `http://host:port`. Ordered as text, which is etcd's order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HttpUrl {
    text: String,
    port: u16,
}

impl HttpUrl {
    /// Checks one URL.
    ///
    /// # Errors
    /// What is wrong with it, with the URL.
    pub fn parse(text: &str) -> Result<HttpUrl, String> {
        let text = text.trim();
        let (scheme, rest) = text.split_once("://").ok_or_else(|| bad_scheme(text))?;
        match scheme.to_ascii_lowercase().as_str() {
            "http" => {}
            "https" => {
                return Err(format!(
                    "https is not served yet: use http, or end TLS before it: {text}"
                ));
            }
            "unix" | "unixs" => {
                return Err(format!(
                    "unix sockets are not served yet: use http://host:port: {text}"
                ));
            }
            _ => return Err(bad_scheme(text)),
        }
        let (address, path) = match rest.find(['/', '?', '#']) {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let port = port(address)
            .ok_or_else(|| format!("URL address does not have the form \"host:port\": {text}"))?;
        if !path.is_empty() {
            return Err(format!("URL must not contain a path: {text}"));
        }
        Ok(HttpUrl { text: format!("http://{address}"), port })
    }

    /// The URL as text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// `host:port`, to listen on or connect to.
    pub fn address(&self) -> &str {
        &self.text["http://".len()..]
    }

    /// The host, without an IPv6 literal's brackets; empty for `http://:2379`.
    pub fn host(&self) -> &str {
        let address = self.address();
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether a listener may be opened here: an IP literal, or `localhost`.
    pub fn is_bindable(&self) -> bool {
        self.host() == "localhost" || self.host().parse::<IpAddr>().is_ok()
    }

    /// Whether both lead to the same place, as far as text tells.
    pub fn is_same_place(&self, other: &HttpUrl) -> bool {
        fn place(url: &HttpUrl) -> &str {
            if url.host() == "localhost" { "127.0.0.1" } else { url.host() }
        }
        self.port == other.port && place(self) == place(other)
    }
}

impl fmt::Display for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A comma-separated list, sorted, without duplicates. Empty text is an empty list.
pub fn list(text: &str) -> Result<Vec<HttpUrl>, String> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let mut urls = text.split(',').map(HttpUrl::parse).collect::<Result<Vec<_>, _>>()?;
    urls.sort();
    urls.dedup();
    Ok(urls)
}

fn bad_scheme(text: &str) -> String {
    format!("URL scheme must be http, https, unix, or unixs: {text}")
}

fn port(address: &str) -> Option<u16> {
    let (host, port) = address.rsplit_once(':')?;
    let literal = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let fits = match literal {
        Some(literal) => literal.parse::<std::net::Ipv6Addr>().is_ok(),
        None => host.chars().all(plain),
    };
    (fits && port.bytes().all(|byte| byte.is_ascii_digit())).then(|| port.parse().ok())?
}
