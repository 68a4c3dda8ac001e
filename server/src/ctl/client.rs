//! A connection to one of the endpoints, and what the global flags say about calls over it.
//!
//! Leaves out what is called. Laws: 1. endpoints are tried in order, again and again, until one
//! answers or the command's time is up; 2. every call carries etcd's metadata; 3. an error's text is
//! the server's where it is one of etcd's, else gRPC's notation of it.
//!
//! Worked example: `--endpoints 10.0.0.1:2379,10.0.0.2:2379` with the first one down connects to the
//! second after at most `--dial-timeout`.

use std::future::Future;
use std::time::Duration;

use holdfast_core::auth::Secret;
use holdfast_net::proto::etcdserverpb as pb;
use holdfast_net::proto::v3electionpb::election_client::ElectionClient;
use holdfast_net::proto::v3lockpb::lock_client::LockClient;
use pb::auth_client::AuthClient;
use pb::cluster_client::ClusterClient;
use pb::kv_client::KvClient;
use pb::lease_client::LeaseClient;
use pb::maintenance_client::MaintenanceClient;
use pb::watch_client::WatchClient;
use tokio::time::Instant;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use super::auth::ask_password;
use super::flags::Flags;
use super::json::Json;
use super::print::Pairs;
use super::{Exit, Session, env};

/// How answers are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Lines.
    Simple,
    /// One JSON value a line.
    Json,
}

/// What the global flags say.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where to connect to.
    pub endpoints: Vec<String>,
    /// How answers are printed.
    pub format: Format,
    /// How keys and values are printed.
    pub pairs: Pairs,
    /// When the command must have ended.
    pub deadline: Instant,
    dial_timeout: Duration,
    keepalive: (Duration, Duration),
    send_max: usize,
    receive_max: usize,
    caller: Caller,
}

/// Who calls.
#[derive(Clone, Debug)]
enum Caller {
    Nobody,
    /// Has this password.
    User(String, Secret),
    /// Has this token.
    Token(Secret),
}

impl Caller {
    fn of(flags: &Flags) -> Result<Caller, Exit> {
        let (user, password) = (flags.text("user"), flags.text("password"));
        let token = flags.text("auth-jwt-token");
        let secret = |text: &str| Secret::from(text);
        Ok(if !token.is_empty() {
            Caller::Token(secret(token))
        } else if user.is_empty() {
            Caller::Nobody
        } else if !password.is_empty() {
            Caller::User(user.to_owned(), secret(password))
        } else if let Some((name, password)) = user.split_once(':') {
            Caller::User(name.to_owned(), secret(password))
        } else {
            let asked = ask_password("Password: ").map_err(|why| Exit::new(Exit::ERROR, why))?;
            Caller::User(user.to_owned(), secret(&asked))
        })
    }
}

impl Settings {
    /// Reads the environment and the global flags of a session.
    pub fn of(session: &mut Session) -> Result<Settings, Exit> {
        let warnings = env::apply(&mut session.invocation, &session.env)?;
        warnings.iter().for_each(|variable| eprint!("{}", super::unrecognized(variable)));
        let flags = &session.invocation.flags;
        if flags.switch("debug") {
            let mut texts: Vec<_> = flags.texts().collect();
            texts.sort_unstable();
            texts.iter().for_each(|(name, text)| eprintln!("{}={text}", env::variable(name)));
        }
        refuse_later(flags)?;
        let format = match flags.text("write-out") {
            "simple" => Format::Simple,
            "json" => Format::Json,
            other @ ("fields" | "protobuf" | "table") => {
                let text = format!("{other} not supported as output format");
                return Err(Exit::new(Exit::BAD_FEATURE, text));
            }
            _ => return Err(Exit::new(Exit::BAD_FEATURE, "unsupported output format")),
        };
        Ok(Settings {
            endpoints: flags.list("endpoints").iter().map(|of| of.trim().to_owned()).collect(),
            format,
            pairs: Pairs { hex: flags.switch("hex"), value_only: false },
            deadline: Instant::now() + flags.span("command-timeout").min(LONGEST),
            dial_timeout: flags.span("dial-timeout").min(LONGEST),
            keepalive: (flags.span("keepalive-time"), flags.span("keepalive-timeout")),
            send_max: bytes(flags, "max-request-bytes", SEND_MAX),
            receive_max: bytes(flags, "max-recv-bytes", RECEIVE_MAX),
            caller: Caller::of(flags)?,
        })
    }

    /// The same settings for one endpoint alone.
    pub fn with_endpoint(&self, endpoint: &str) -> Settings {
        Settings { endpoints: vec![endpoint.to_owned()], ..self.clone() }
    }

    /// The same settings with the command's time beginning now.
    pub fn from_now(&self, session: &Session) -> Settings {
        let span = session.invocation.flags.span("command-timeout").min(LONGEST);
        Settings { deadline: Instant::now() + span, ..self.clone() }
    }

    /// Connects to one of the endpoints.
    pub async fn connect(&self) -> Result<Client, Exit> {
        let endpoints = self.endpoints.iter().map(|endpoint| self.endpoint(endpoint));
        let endpoints: Vec<Endpoint> = endpoints.collect::<Result<_, Exit>>()?;
        if endpoints.is_empty() {
            return Err(Exit::new(Exit::BAD_CONNECTION, "etcdclient: no available endpoints"));
        }
        loop {
            for endpoint in &endpoints {
                if let Ok(channel) = endpoint.connect().await {
                    let client = Client { channel, token: None, settings: self.clone() };
                    return client.identified().await;
                }
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    fn endpoint(&self, endpoint: &str) -> Result<Endpoint, Exit> {
        let address = match endpoint.split_once("://") {
            None | Some(("http", _)) => endpoint.trim_start_matches("http://"),
            Some((scheme, _)) => {
                let text = format!("endpoint {endpoint}: {scheme} is not supported, use http");
                return Err(Exit::new(Exit::BAD_ARGS, text));
            }
        };
        let parsed = Endpoint::from_shared(format!("http://{address}")).map_err(|cause| {
            Exit::new(Exit::BAD_ARGS, format!("endpoint {endpoint} is no address: {cause}"))
        })?;
        let (time, timeout) = self.keepalive;
        let ping = time.max(KEEPALIVE_MIN);
        Ok(parsed
            .connect_timeout(self.dial_timeout)
            .http2_keep_alive_interval(ping)
            .keep_alive_timeout(timeout)
            .tcp_nodelay(true))
    }

    /// Waits for `work` until the command's time is up.
    pub async fn bounded<T>(&self, work: impl Future<Output = Result<T, Exit>>) -> Result<T, Exit> {
        match tokio::time::timeout_at(self.deadline, work).await {
            Ok(result) => result,
            Err(_) => Err(Exit::new(Exit::ERROR, DEADLINE)),
        }
    }
}

/// Flags that are known but have nothing behind them yet.
fn refuse_later(flags: &Flags) -> Result<(), Exit> {
    let texts = ["cert", "key", "cacert", "discovery-srv"];
    let text = texts.iter().find(|name| !flags.text(name).is_empty());
    let secure = flags.changed("insecure-transport") && !flags.switch("insecure-transport");
    let found = text.copied().or(secure.then_some("insecure-transport"));
    match found {
        Some(name) => {
            let text = format!("--{name} is not supported: connect without TLS");
            Err(Exit::new(Exit::BAD_ARGS, text))
        }
        None => Ok(()),
    }
}

fn bytes(flags: &Flags, name: &str, default: usize) -> usize {
    match usize::try_from(flags.number(name)) {
        Ok(0) | Err(_) => default,
        Ok(bytes) => bytes,
    }
}

/// A connection.
#[derive(Clone, Debug)]
pub struct Client {
    channel: Channel,
    token: Option<MetadataValue<Ascii>>,
    /// What the flags say.
    pub settings: Settings,
}

/// A connection that carries etcd's metadata.
pub type Wire = InterceptedService<Channel, Metadata>;

/// Adds etcd's metadata to each call.
#[derive(Clone, Debug)]
pub struct Metadata {
    require_leader: bool,
    token: Option<MetadataValue<Ascii>>,
}

impl Interceptor for Metadata {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let metadata = request.metadata_mut();
        metadata.insert("client-api-version", MetadataValue::from_static(super::VERSION));
        if self.require_leader {
            metadata.insert("hasleader", MetadataValue::from_static("true"));
        }
        if let Some(token) = &self.token {
            metadata.insert("token", token.clone());
        }
        Ok(request)
    }
}

macro_rules! stub {
    ($(#[$doc:meta])* $name:ident, $stub:ident, $require_leader:literal) => {
        $(#[$doc])*
        pub fn $name(&self) -> $stub<Wire> {
            let token = self.token.clone();
            let metadata = Metadata { require_leader: $require_leader, token };
            $stub::with_interceptor(self.channel.clone(), metadata)
                .max_encoding_message_size(self.settings.send_max)
                .max_decoding_message_size(self.settings.receive_max)
        }
    };
}

impl Client {
    stub!(
        /// The KV service.
        kv,
        KvClient,
        false
    );
    stub!(
        /// The Watch service; the server ends the stream when its member has no leader.
        watch,
        WatchClient,
        true
    );
    stub!(
        /// The Lease service.
        lease,
        LeaseClient,
        false
    );
    stub!(
        /// The Cluster service.
        cluster,
        ClusterClient,
        false
    );
    stub!(
        /// The Maintenance service.
        maintenance,
        MaintenanceClient,
        false
    );
    stub!(
        /// The Lock service.
        lock,
        LockClient,
        false
    );
    stub!(
        /// The Election service.
        election,
        ElectionClient,
        false
    );
    stub!(
        /// The Auth service.
        auth,
        AuthClient,
        false
    );

    /// The same connection with the caller's token. Where authentication is off there is none, and a
    /// password is not looked at.
    async fn identified(self) -> Result<Client, Exit> {
        let token = match &self.settings.caller {
            Caller::Nobody => return Ok(self),
            Caller::Token(token) => token.clone(),
            Caller::User(name, password) => {
                let password = String::from_utf8_lossy(&password.0).into_owned();
                let request = pb::AuthenticateRequest { name: name.clone(), password };
                match self.auth().authenticate(request).await {
                    Ok(answer) => Secret::from(answer.into_inner().token.as_str()),
                    Err(status) if status.message() == NOT_ENABLED => return Ok(self),
                    Err(status) => {
                        return Err(Exit::new(Exit::BAD_CONNECTION, error_text(&status)));
                    }
                }
            }
        };
        let text = String::from_utf8_lossy(&token.0).into_owned();
        let value = text.parse::<MetadataValue<Ascii>>();
        let mut value = value
            .map_err(|_| Exit::new(Exit::BAD_ARGS, "the token has characters that no token has"))?;
        value.set_sensitive(true);
        Ok(Client { token: Some(value), ..self })
    }

    /// Prints an answer in the format asked for.
    pub fn show(&self, simple: impl FnOnce() -> Vec<u8>, json: Json) -> Result<(), Exit> {
        match self.settings.format {
            Format::Simple => super::say(&simple()),
            Format::Json => super::say(format!("{json}\n").as_bytes()),
        }
    }
}

/// A failed call's text: etcd's sentences stand alone, others with gRPC's code.
pub fn error_text(status: &Status) -> String {
    let text = status.message();
    match status.code() {
        _ if text.starts_with("etcdserver: ") => text.to_owned(),
        Code::DeadlineExceeded => DEADLINE.to_owned(),
        Code::Cancelled => "context canceled".to_owned(),
        code => format!("rpc error: code = {code:?} desc = {text}"),
    }
}

/// A failed call's exit.
pub fn failed(status: Status) -> Exit {
    Exit::new(Exit::ERROR, error_text(&status))
}

/// etcd's answer to a login while there is nothing to log in to.
const NOT_ENABLED: &str = "etcdserver: authentication is not enabled";

/// What Go says when a context's time is up.
pub const DEADLINE: &str = "context deadline exceeded";

const SEND_MAX: usize = 2 * 1024 * 1024;
const RECEIVE_MAX: usize = i32::MAX as usize;
/// Between two rounds over all endpoints.
const RETRY: Duration = Duration::from_millis(100);
/// gRPC's client library pings no faster.
const KEEPALIVE_MIN: Duration = Duration::from_secs(10);
/// A year: longer than anybody waits, short enough to be added to a clock.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);
