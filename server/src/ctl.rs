//! `holdfast ctl`: etcdctl's commands, flags, output and exit codes, over gRPC.
//!
//! Here: the entry, the exit codes, and which function runs which command. Left out: TLS and mirrors;
//! their flags are refused with a sentence, their commands are unknown. Output formats are simple and json.
//!
//! Laws: 1. what a script reads (standard output, exit codes, the text after `Error: `) is etcdctl's,
//! byte for byte; 2. a mistake in the operands is reported before anything is sent; 3. nothing here
//! is trusted by the server: it checks again.
//!
//! Worked example: `holdfast ctl put a 1 -w json` connects to 127.0.0.1:2379, sends one put, prints
//! one JSON line and returns 0; with nobody listening it prints
//! `Error: context deadline exceeded` after five seconds and returns 1.

pub mod auth;
pub mod check;
pub mod client;
pub mod cluster;
pub mod command;
pub mod compare;
pub mod env;
pub mod flags;
pub mod go;
pub mod json;
pub mod kv;
pub mod lease;
pub mod lock;
pub mod maintenance;
pub mod member;
pub mod print;
pub mod print_json;
pub mod txn;
pub mod watch;

use std::fmt::{self, Display, Formatter};
use std::io::Write;

use command::{Action, Invocation, Parsed};

/// The version that etcd's tools are told: what this program behaves as.
const VERSION: &str = "3.7.1";
const API_VERSION: &str = "3.7";

/// The command line that is meant for this client, if one is: after `ctl`, or under etcdctl's name.
pub fn requested(program: &str, args: &[String]) -> Option<Vec<String>> {
    if std::path::Path::new(program).file_stem().is_some_and(|name| name == command::NAME) {
        return Some(args.to_vec());
    }
    match args {
        [first, rest @ ..] if first == "ctl" => Some(rest.to_vec()),
        _ => None,
    }
}

/// Runs a command line, without the program's name; answers the exit code.
pub fn main(args: Vec<String>, env: Vec<(String, String)>) -> i32 {
    match run(args, env) {
        Ok(()) => 0,
        Err(exit) => {
            eprint!("{exit}");
            exit.code
        }
    }
}

fn run(args: Vec<String>, env: Vec<(String, String)>) -> Result<(), Exit> {
    let args: Vec<Vec<u8>> = args.into_iter().map(String::into_bytes).collect();
    match command::parse(&args)? {
        Parsed::Help(page) => say(page.as_bytes()),
        Parsed::Run(invocation) => perform(Session { invocation, env }),
    }
}

/// A command on its way, before anybody is connected to.
#[derive(Debug)]
pub struct Session {
    /// The command line.
    pub invocation: Invocation,
    /// The environment.
    pub env: Vec<(String, String)>,
}

impl Session {
    /// The operands.
    pub fn operands(&self) -> &[Vec<u8>] {
        &self.invocation.operands.all
    }
}

fn perform(session: Session) -> Result<(), Exit> {
    match session.invocation.action {
        Action::Version => {
            return say(
                format!("etcdctl version: {VERSION}\nAPI version: {API_VERSION}\n").as_bytes()
            );
        }
        Action::Options => return say(command::options().as_bytes()),
        _ => {}
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime
        .map_err(|cause| Exit::new(Exit::ERROR, format!("starting the event loop: {cause}")))?;
    let result = runtime.block_on(perform_async(session));
    // A thread that waits for the standard input must not hold up the exit.
    runtime.shutdown_background();
    result
}

async fn perform_async(session: Session) -> Result<(), Exit> {
    match session.invocation.action {
        Action::Get => kv::get(session).await,
        Action::Put => kv::put(session).await,
        Action::Del => kv::del(session).await,
        Action::Compaction => kv::compaction(session).await,
        Action::Txn => txn::run(session).await,
        Action::Watch => watch::run(session).await,
        Action::LeaseGrant => lease::grant(session).await,
        Action::LeaseRevoke => lease::revoke(session).await,
        Action::LeaseTimeToLive => lease::time_to_live(session).await,
        Action::LeaseList => lease::list(session).await,
        Action::LeaseKeepAlive => lease::keep_alive(session).await,
        Action::EndpointHealth => cluster::health(session).await,
        Action::EndpointStatus => cluster::status(session).await,
        Action::EndpointHashKv => maintenance::hash_kv(session).await,
        Action::AlarmList => maintenance::alarm_list(session).await,
        Action::AlarmDisarm => maintenance::alarm_disarm(session).await,
        Action::Defrag => maintenance::defrag(session).await,
        Action::MoveLeader => maintenance::move_leader(session).await,
        Action::SnapshotSave => maintenance::snapshot_save(session).await,
        Action::CheckPerf => check::perf(session).await,
        Action::CheckDatascale => check::datascale(session).await,
        Action::Lock => lock::lock(session).await,
        Action::Elect => lock::elect(session).await,
        Action::MemberList => cluster::members(session).await,
        Action::Auth(verb) => auth::run(session, verb).await,
        Action::MemberAdd => member::add(session).await,
        Action::MemberRemove => member::remove(session).await,
        Action::MemberUpdate => member::update(session).await,
        Action::MemberPromote => member::promote(session).await,
        Action::Version | Action::Options => Ok(()),
    }
}

/// Writes to the standard output, at once: a script may be reading line by line.
pub fn say(bytes: &[u8]) -> Result<(), Exit> {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(bytes).and_then(|()| out.flush());
    written.map_err(|cause| Exit::new(Exit::IO, format!("writing the answer: {cause}")))
}

/// The end of a run that did not go well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// The exit code.
    pub code: i32,
    /// What goes to the standard error, as it stands.
    text: String,
}

impl Exit {
    /// The request failed.
    pub const ERROR: i32 = 1;
    /// No connection, or the server refused a lease.
    pub const BAD_CONNECTION: i32 = 2;
    /// A line of the standard input is not understood.
    pub const INVALID_INPUT: i32 = 3;
    /// A value that a flag does not have.
    pub const BAD_FEATURE: i32 = 4;
    /// The server ended what was going on.
    pub const INTERRUPTED: i32 = 5;
    /// The answer could not be written.
    pub const IO: i32 = 6;
    /// The operands do not fit the command.
    pub const BAD_ARGS: i32 = 128;

    /// An exit with a sentence.
    pub fn new(code: i32, sentence: impl Display) -> Exit {
        Exit { code, text: format!("Error: {sentence}\n") }
    }

    /// An exit whose reasons were told already.
    pub fn silent(code: i32) -> Exit {
        Exit { code, text: String::new() }
    }

    /// Its sentence alone, to be told as part of another.
    pub fn sentence(&self) -> &str {
        let text = self.text.strip_prefix("Error: ").unwrap_or(&self.text);
        text.trim_end()
    }

    /// Flags or words that are not understood.
    pub fn with_usage(sentence: String, usage: String) -> Exit {
        Exit { code: Exit::ERROR, text: format!("Error: {sentence}\n{usage}\n") }
    }

    /// A flag and its variable together.
    pub fn conflict(variable: &str) -> Exit {
        let sentence = "conflicting environment variable is shadowed by corresponding command-line \
                        flag (either unset environment variable or disable flag))";
        Exit { code: Exit::ERROR, text: log_line("fatal", sentence, variable) }
    }
}

impl Display for Exit {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text)
    }
}

/// A line as etcd logs it. Without a time stamp: this is a conversation, not a log.
fn log_line(level: &str, sentence: &str, variable: &str) -> String {
    let line = json::Object::default()
        .add("level", level)
        .add("msg", sentence)
        .add("environment-variable", variable);
    format!("{}\n", json::Json::from(line))
}

/// The warning about a variable that no flag has.
pub fn unrecognized(variable: &str) -> String {
    log_line("warn", "unrecognized environment variable", variable)
}
