//! watch: prints changes as they come, runs a command for each, or follows commands of the standard
//! input (`watch`, `progress`).
//!
//! Leaves out how a change looks (print.rs, print_json.rs). Laws: 1. a watch whose connection breaks
//! goes on at the revision after the last one it showed, so nothing is lost or shown twice; 2. one that
//! the server cancels ends, with exit code 5; 3. all watches of an interactive run share one stream.
//!
//! Worked example: `watch --prefix /a --rev 5 -- sh -c 'echo $ETCD_WATCH_KEY'` prints each change
//! under `/a` since revision 5 and runs the shell for it.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::time::Duration;

use holdfast_net::proto::etcdserverpb as pb;
use holdfast_net::proto::mvccpb::Event;
use holdfast_net::proto::mvccpb::event::EventType;
use pb::watch_request::RequestUnion;
use tokio::sync::mpsc;
use tonic::{Code, Status, Streaming};

use super::client::{Client, Settings, error_text};
use super::flags::{FlagError, Flags, Operands};
use super::lease::Queue;
use super::{Exit, Session, command, go, kv, print_json};

/// Runs `watch`.
pub async fn run(mut session: Session) -> Result<(), Exit> {
    let preset = Preset::of(&session.env)?;
    if session.invocation.flags.switch("interactive") {
        let settings = Settings::of(&mut session)?;
        let client = settings.connect().await?;
        return interact(client, preset).await;
    }
    let plan = Plan::of(&session.invocation.flags, &session.invocation.operands, &preset)?;
    let settings = Settings::of(&mut session)?;
    let client = settings.connect().await?;
    let mut follower = Follower::new(client);
    follower.add(plan);
    follower.run(None).await
}

/// The key and range end that the environment gives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preset(Vec<Vec<u8>>);

impl Preset {
    /// Reads `ETCDCTL_WATCH_KEY` and `ETCDCTL_WATCH_RANGE_END`.
    pub fn of(env: &[(String, String)]) -> Result<Preset, Exit> {
        let of = |wanted: &str| {
            let found = env.iter().find(|(name, _)| name == wanted);
            found.map(|(_, value)| value.as_str()).unwrap_or_default()
        };
        let (key, end) = (of("ETCDCTL_WATCH_KEY"), of("ETCDCTL_WATCH_RANGE_END"));
        if key.is_empty() && !end.is_empty() {
            let end = go::quote(end);
            let text = format!("ETCDCTL_WATCH_KEY is empty but got ETCDCTL_WATCH_RANGE_END={end}");
            return Err(Exit::new(Exit::BAD_ARGS, text));
        }
        let given = [key, end].into_iter().filter(|text| !text.is_empty());
        Ok(Preset(given.map(|text| text.as_bytes().to_vec()).collect()))
    }
}

/// What to watch, and what to run for each change.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The request.
    pub create: pb::WatchCreateRequest,
    /// A program and its arguments.
    pub exec: Vec<Vec<u8>>,
}

impl Plan {
    /// Understands the operands: key, range end, and a command after `--`.
    pub fn of(flags: &Flags, operands: &Operands, preset: &Preset) -> Result<Plan, Exit> {
        let bad = |text: &str| Err(Exit::new(Exit::BAD_ARGS, text));
        let split = operands.before_dashes.unwrap_or(operands.all.len());
        let (keys, exec) = operands.all.split_at(split);
        if operands.before_dashes.is_some() && exec.is_empty() {
            return bad("bad number of arguments (found separator --, but no commands)");
        }
        if !preset.0.is_empty() && !keys.is_empty() {
            return bad("bad number of arguments (found conflicting environment key)");
        }
        let keys = if preset.0.is_empty() { keys } else { &preset.0 };
        let Some(key) = keys.first() else { return bad("bad number of arguments") };
        let prefix = flags.switch("prefix");
        let end = match keys {
            [_, _] if prefix => return bad("`range_end` and `--prefix` are mutually exclusive"),
            [_, end] => end.clone(),
            _ if prefix && key.is_empty() => vec![0],
            _ if prefix => kv::prefix_end(key),
            _ => Vec::new(),
        };
        let key = if prefix && key.is_empty() { vec![0] } else { key.clone() };
        let create = pb::WatchCreateRequest {
            key: key.into(),
            range_end: end.into(),
            start_revision: flags.number("rev"),
            progress_notify: flags.switch("progress-notify"),
            prev_kv: flags.switch("prev-kv"),
            ..pb::WatchCreateRequest::default()
        };
        Ok(Plan { create, exec: exec.to_vec() })
    }
}

/// Watches of one run, on one stream at a time.
struct Follower {
    client: Client,
    /// By watch id, which is ours: the same after a reconnect.
    plans: BTreeMap<i64, Plan>,
    next_id: i64,
    stream: Option<Open>,
}

struct Open {
    asks: mpsc::Sender<pb::WatchRequest>,
    answers: Streaming<pb::WatchResponse>,
}

impl Follower {
    fn new(client: Client) -> Follower {
        Follower { client, plans: BTreeMap::new(), next_id: 1, stream: None }
    }

    /// Takes a watch up; says which, to be sent to the server.
    fn add(&mut self, mut plan: Plan) -> i64 {
        let id = self.next_id;
        self.next_id += 1;
        plan.create.watch_id = id;
        self.plans.insert(id, plan);
        id
    }

    /// Follows until the last watch was cancelled, or the lines of an interactive run end.
    async fn run(&mut self, mut lines: Option<mpsc::Receiver<Line>>) -> Result<(), Exit> {
        loop {
            if self.stream.is_none() && !self.plans.is_empty() {
                match self.open().await {
                    Ok(()) => {}
                    Err(status) if is_halt(&status) => self.halt(&status)?,
                    Err(_) => tokio::time::sleep(RETRY).await,
                }
            }
            if self.plans.is_empty() && lines.is_none() {
                let text = "watch is canceled by the server";
                return Err(Exit::new(Exit::INTERRUPTED, text));
            }
            tokio::select! {
                biased;
                line = next_line(&mut lines) => self.obey(line).await?,
                answer = next_answer(&mut self.stream) => match answer {
                    Ok(answer) => self.show(answer)?,
                    Err(status) if is_halt(&status) => self.halt(&status)?,
                    Err(_) => self.stream = None,
                },
            }
        }
    }

    /// Opens a stream with all watches in it.
    async fn open(&mut self) -> Result<(), Status> {
        let (asks, asked) = mpsc::channel(self.plans.len().max(1));
        for plan in self.plans.values() {
            drop(asks.try_send(create(plan)));
        }
        let answers = self.client.watch().watch(Queue(asked)).await?.into_inner();
        self.stream = Some(Open { asks, answers });
        Ok(())
    }

    async fn ask(&mut self, request: pb::WatchRequest) {
        let sent = match &self.stream {
            Some(open) => open.asks.send(request).await.is_ok(),
            None => return,
        };
        if !sent {
            self.stream = None;
        }
    }

    async fn obey(&mut self, line: Line) -> Result<(), Exit> {
        match line {
            Line::Watch(plan) => {
                let id = self.add(*plan);
                let request = create(&self.plans[&id]);
                self.ask(request).await;
            }
            Line::Progress => {
                let progress = RequestUnion::ProgressRequest(pb::WatchProgressRequest {});
                self.ask(pb::WatchRequest { request_union: Some(progress) }).await;
            }
            Line::Complaint(text) => eprintln!("{text}"),
            Line::End(exit) => return Err(exit),
        }
        Ok(())
    }

    fn show(&mut self, answer: pb::WatchResponse) -> Result<(), Exit> {
        let revision = answer.header.as_ref().map_or(0, |header| header.revision);
        let canceled = answer.canceled || answer.compact_revision != 0;
        if let Some(plan) = self.plans.get_mut(&answer.watch_id) {
            // Where to go on after a reconnect.
            let seen = answer.events.iter().filter_map(|event| event.kv.as_ref());
            let seen = seen.map(|kv| kv.mod_revision).max();
            let start = &mut plan.create.start_revision;
            match seen {
                Some(seen) => *start = (*start).max(seen + 1),
                None if answer.created && *start == 0 => *start = revision + 1,
                None => {}
            }
        }
        if answer.created && !canceled {
            return Ok(());
        }
        let plan = match canceled {
            true => self.plans.remove(&answer.watch_id),
            false => self.plans.get(&answer.watch_id).cloned(),
        };
        if canceled {
            eprintln!("watch was canceled ({})", cancel_text(&answer));
        } else if answer.events.is_empty() && revision != 0 {
            super::say(format!("progress notify: {revision}\n").as_bytes())?;
        }
        self.print(&answer)?;
        let exec = plan.map(|plan| plan.exec).filter(|exec| !exec.is_empty());
        exec.map_or(Ok(()), |exec| {
            answer.events.iter().try_for_each(|event| execute(&exec, event, revision))
        })
    }

    fn print(&self, answer: &pb::WatchResponse) -> Result<(), Exit> {
        let simple = || {
            let mut out = Vec::new();
            self.client.settings.pairs.watch(answer, &mut out);
            out
        };
        self.client.show(simple, print_json::watch(answer).into())
    }

    /// The stream ended in a way that a new one would end too.
    fn halt(&mut self, status: &Status) -> Result<(), Exit> {
        self.stream = None;
        for _ in std::mem::take(&mut self.plans) {
            eprintln!("watch was canceled ({})", error_text(status));
            let ended = pb::WatchResponse { canceled: true, ..pb::WatchResponse::default() };
            self.print(&ended)?;
        }
        Ok(())
    }
}

fn create(plan: &Plan) -> pb::WatchRequest {
    pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(plan.create.clone())) }
}

/// Whether trying again is of no use: the server means it, or has no leader.
fn is_halt(status: &Status) -> bool {
    let passing = matches!(status.code(), Code::Unavailable | Code::Internal | Code::Unknown);
    !passing || status.message() == NO_LEADER
}

const NO_LEADER: &str = "etcdserver: no leader";

/// Why the server cancelled a watch.
pub fn cancel_text(answer: &pb::WatchResponse) -> String {
    match answer.cancel_reason.as_str() {
        _ if answer.compact_revision != 0 => {
            "etcdserver: mvcc: required revision has been compacted".to_owned()
        }
        "" => "etcdserver: mvcc: required revision is a future revision".to_owned(),
        reason => error_text(&Status::failed_precondition(reason)),
    }
}

async fn next_answer(stream: &mut Option<Open>) -> Result<pb::WatchResponse, Status> {
    match stream {
        Some(open) => {
            let answer = open.answers.message().await?;
            answer.ok_or_else(|| Status::unavailable("the stream has ended"))
        }
        None => std::future::pending().await,
    }
}

async fn next_line(lines: &mut Option<mpsc::Receiver<Line>>) -> Line {
    match lines {
        Some(lines) => lines.recv().await.unwrap_or_else(|| Line::End(end_of_input("EOF"))),
        None => std::future::pending().await,
    }
}

/// Runs a program for a change, and waits for it.
fn execute(exec: &[Vec<u8>], event: &Event, revision: i64) -> Result<(), Exit> {
    let words: Vec<String> =
        exec.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect();
    let kind = EventType::try_from(event.r#type).unwrap_or_default().as_str_name();
    let kv = event.kv.clone().unwrap_or_default();
    let status = std::process::Command::new(&words[0])
        .args(&words[1..])
        .env("ETCD_WATCH_REVISION", revision.to_string())
        .env("ETCD_WATCH_EVENT_TYPE", go::quote(kind))
        .env("ETCD_WATCH_KEY", go::quote_bytes(&kv.key))
        .env("ETCD_WATCH_VALUE", go::quote_bytes(&kv.value))
        .status();
    let why = match status {
        Ok(status) if status.success() => return Ok(()),
        Ok(status) => match status.code() {
            Some(code) => format!("exit status {code}"),
            None => status.to_string(),
        },
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {
            format!("fork/exec {}: no such file or directory", words[0])
        }
        Err(cause) => format!("fork/exec {}: {cause}", words[0]),
    };
    let shown: Vec<String> = words.iter().map(|word| go::quote(word)).collect();
    eprintln!("command [{}] error ({why})", shown.join(" "));
    Err(Exit::silent(Exit::ERROR))
}

/// A line of an interactive run, understood.
enum Line {
    Watch(Box<Plan>),
    Progress,
    Complaint(String),
    End(Exit),
}

async fn interact(client: Client, preset: Preset) -> Result<(), Exit> {
    let (send, lines) = mpsc::channel(1);
    // Reading a terminal blocks: it has a thread, which ends with the process.
    std::thread::spawn(move || {
        let mut input = std::io::stdin().lock();
        loop {
            let line = read_line(&mut input, &preset);
            let last = matches!(line, Line::End(_));
            if send.blocking_send(line).is_err() || last {
                return;
            }
        }
    });
    Follower::new(client).run(Some(lines)).await
}

fn read_line(input: &mut impl BufRead, preset: &Preset) -> Line {
    let mut line = Vec::new();
    if let Err(cause) = input.read_until(b'\n', &mut line) {
        return Line::End(end_of_input(&cause.to_string()));
    }
    match line.strip_suffix(b"\n") {
        Some(line) => understand(line, preset),
        None => Line::End(end_of_input("EOF")),
    }
}

fn end_of_input(why: &str) -> Exit {
    Exit::new(Exit::INVALID_INPUT, format!("error reading watch request line: {why}"))
}

fn understand(line: &[u8], preset: &Preset) -> Line {
    let shown = String::from_utf8_lossy(line).into_owned();
    let words = match go::words(line) {
        Ok(words) => words,
        Err(reason) => return Line::End(Exit::new(Exit::INVALID_INPUT, reason)),
    };
    match words.first().map(Vec::as_slice) {
        None => Line::Complaint(format!("Invalid command: {shown} (watch and progress supported)")),
        Some(b"progress") => Line::Progress,
        Some(b"watch") if words.len() < 2 && preset.0.is_empty() => Line::Complaint(format!(
            "Invalid command {shown} (command type or key is not provided)"
        )),
        Some(b"watch") => {
            let mut flags = command::watch_flags();
            let plan = flags.parse(&words[1..]).map_err(|error| match error {
                FlagError::Help => Exit::new(Exit::BAD_ARGS, "pflag: help requested"),
                FlagError::Bad(text) => Exit::new(Exit::BAD_ARGS, text),
            });
            match plan.and_then(|operands| Plan::of(&flags, &operands, preset)) {
                Ok(plan) => Line::Watch(Box::new(plan)),
                Err(exit) => Line::End(exit),
            }
        }
        Some(_) => Line::Complaint(format!("Invalid command {shown} (only support watch)")),
    }
}

const RETRY: Duration = Duration::from_millis(100);
