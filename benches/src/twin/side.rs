//! One of the two: its members' connections, the calls that go on, what its names stand for; steps in, lines out.
//!
//! A line is `ok MESSAGE`, or a code and a text as `NotFound "etcdserver: requested lease not found"`; what came
//! on calls that go on has the call's name in front, and how it ended: `w1: MESSAGE`, `w1: end ok`.
//!
//! Laws:
//!  1. Lines have names for what the server has chosen, and what the rules ([`super::rules`]) leave of the rest.
//!  2. Calls that go on are looked at in the order of their names, and each one's messages in the order in which they
//!     came, but for what [`super::rules::order`] says.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use prost_reflect::DynamicMessage;
use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use super::names::Names;
use super::rules::{self, Asked};
use super::schema::{self, Method, Schema};
use super::step::{Act, Caller, Step};
use super::wire::{self, Item, Ongoing, Ticket};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(12);

/// When nothing has come for so long, nothing more is expected.
#[derive(Clone, Copy, Debug)]
pub struct Quiet {
    /// While fewer lines have come than are expected.
    pub missing: Duration,
    /// Afterwards.
    pub done: Duration,
}

struct Going {
    method: Method,
    member: usize,
    call: Ongoing,
    ended: bool,
}

/// See the module.
pub struct Side {
    /// How reports call it.
    pub name: String,
    schema: Schema,
    channels: Vec<Channel>,
    names: Names,
    cluster: u64,
    members: Vec<u64>,
    going: BTreeMap<String, Going>,
}

impl Side {
    /// Connects to a cluster's members, the leader's address first, once it can say who they all are. Must be called
    /// where tokio runs.
    ///
    /// # Errors
    /// They do not answer in time.
    pub async fn connect(name: &str, members: &[SocketAddr]) -> Result<Side, String> {
        let channels = members.iter().map(|address| {
            let endpoint = Endpoint::from_shared(format!("http://{address}"));
            endpoint
                .map(|endpoint| endpoint.connect_lazy())
                .map_err(|cause| format!("{address}: {cause}"))
        });
        let mut side = Side {
            name: name.to_owned(),
            schema: Schema::new(),
            channels: channels.collect::<Result<_, String>>()?,
            names: Names::default(),
            cluster: 0,
            members: Vec::new(),
            going: BTreeMap::new(),
        };
        side.meet(members).await?;
        Ok(side)
    }

    /// Waits until the members have told their names and a cluster version is known, and names them.
    async fn meet(&mut self, addresses: &[SocketAddr]) -> Result<(), String> {
        let begun = Instant::now();
        loop {
            let met = self.list_members(addresses.len()).await;
            match met {
                Ok(list) => return self.name_members(&list, addresses),
                Err(cause) if begun.elapsed() > Duration::from_secs(60) => return Err(cause),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    async fn list_members(&self, count: usize) -> Result<DynamicMessage, String> {
        let list = self.ask("Cluster.MemberList", "linearizable:true").await?;
        let text = schema::print(&list);
        if text.matches("clientURLs:").count() != count {
            return Err(format!("{}: members are missing: {text}", self.name));
        }
        self.ask("Maintenance.Downgrade", "version:\"3.6\"").await?;
        Ok(list)
    }

    fn name_members(
        &mut self,
        list: &DynamicMessage,
        addresses: &[SocketAddr],
    ) -> Result<(), String> {
        self.members = vec![0; addresses.len()];
        self.cluster = rules::number_at(list, "header.cluster_id");
        self.names.bind("$cluster", &self.cluster.to_string());
        // Until somebody is added it is nobody's.
        self.names.alias("$added", "405");
        for member in rules::messages_at(list, "members") {
            let client = rules::texts_at(&member, "clientURLs").join(",");
            let at = addresses.iter().position(|address| client == format!("http://{address}"));
            let at = at.ok_or_else(|| format!("{}: nobody listens on {client}", self.name))?;
            self.members[at] = rules::number_at(&member, "ID");
            let nth = at + 1;
            self.names.bind(&format!("$m{nth}"), &self.members[at].to_string());
            let name = rules::texts_at(&member, "name").join("");
            self.names.bind(&format!("name:\"$n{nth}\""), &format!("name:\"{name}\""));
            self.names.bind(&format!("$client{nth}"), &client);
            let peer = rules::texts_at(&member, "peerURLs").join(",");
            self.names.bind(&format!("$peer{nth}"), &peer);
        }
        Ok(())
    }

    async fn ask(&self, method: &str, message: &str) -> Result<DynamicMessage, String> {
        let method = self.schema.method(method)?;
        let message = schema::encode(message, &method.input)?;
        let ticket = Ticket::default();
        let answer = wire::call(&self.channels[0], &method, &ticket, message);
        let answer = tokio::time::timeout(PATIENCE, answer).await;
        let answer = answer.map_err(|_| format!("{}: no answer", method.name))?;
        let answer = answer.map_err(|status| format!("{}: {status}", method.name))?;
        schema::decode(&answer, &method.output)
    }

    /// Does a step. `expected` is how many lines the other side had, where that is known.
    ///
    /// # Errors
    /// A step that cannot be done on any side.
    pub async fn run(
        &mut self,
        step: &Step,
        quiet: Quiet,
        expected: Option<usize>,
    ) -> Result<Vec<String>, String> {
        match &step.act {
            Act::Call { method, message } => self.call(&step.caller, (method, message)).await,
            Act::Open { name, method, message } => {
                self.open(&step.caller, name, (method, message))?;
                Ok(Vec::new())
            }
            Act::Send { name, message } => self.send(name, message).map(|()| Vec::new()),
            Act::Close(name) => {
                if let Some(going) = self.going.get_mut(name) {
                    going.call.sender = None;
                }
                Ok(Vec::new())
            }
            Act::Cancel(name) => {
                self.going.remove(name);
                Ok(Vec::new())
            }
            Act::Gather => Ok(self.gather(quiet, expected).await),
            Act::Wait(ms) => {
                tokio::time::sleep(Duration::from_millis(*ms)).await;
                Ok(Vec::new())
            }
        }
    }

    async fn call(
        &mut self,
        caller: &Caller,
        (method, message): (&str, &str),
    ) -> Result<Vec<String>, String> {
        let method = self.schema.method(method)?;
        let bytes = schema::encode(&self.names.resolve(message), &method.input)?;
        let ticket = self.ticket(caller);
        if method.streams {
            return self.call_stream(caller, &method, bytes).await;
        }
        let answer = wire::call(self.channel(caller)?, &method, &ticket, bytes);
        let answer = tokio::time::timeout(PATIENCE, answer).await;
        let Ok(answer) = answer else { return Ok(vec!["no answer".to_owned()]) };
        Ok(vec![match answer {
            Ok(bytes) => {
                let text = self.text((&method, caller.member), Some(message), &bytes);
                format!("ok {text}").trim_end().to_owned()
            }
            Err(status) => self.status_text(&status),
        }])
    }

    /// A stream that ends by itself, as if it were one answer of several lines.
    async fn call_stream(
        &mut self,
        caller: &Caller,
        method: &Method,
        bytes: Bytes,
    ) -> Result<Vec<String>, String> {
        let channel = self.channel(caller)?.clone();
        let mut call = Ongoing::start(channel, method.clone(), self.ticket(caller), bytes);
        let mut lines = Vec::new();
        let deadline = Instant::now() + PATIENCE;
        loop {
            match tokio::time::timeout_at(deadline, call.received.recv()).await {
                Ok(Some(Item::Message(bytes))) => {
                    lines.push(self.text((method, caller.member), None, &bytes));
                }
                Ok(Some(Item::End(None))) => lines.push("end ok".to_owned()),
                Ok(Some(Item::End(Some(status)))) => {
                    lines.push(format!("end {}", self.status_text(&status)));
                }
                Ok(None) => return Ok(rules::stream(method, lines)),
                Err(_) => {
                    lines.push("no end".to_owned());
                    return Ok(lines);
                }
            }
        }
    }

    fn open(
        &mut self,
        caller: &Caller,
        name: &str,
        (method, message): (&str, &str),
    ) -> Result<(), String> {
        let method = self.schema.method(method)?;
        let bytes = schema::encode(&self.names.resolve(message), &method.input)?;
        let channel = self.channel(caller)?.clone();
        let call = Ongoing::start(channel, method.clone(), self.ticket(caller), bytes);
        let going = Going { method, member: caller.member, call, ended: false };
        self.going.insert(name.to_owned(), going);
        Ok(())
    }

    fn send(&mut self, name: &str, message: &str) -> Result<(), String> {
        let Some(going) = self.going.get(name) else { return Ok(()) };
        let bytes = schema::encode(&self.names.resolve(message), &going.method.input)?;
        if let Some(sender) = &going.call.sender {
            // Whether the call has ended meanwhile is seen in what it has received.
            drop(sender.send(bytes));
        }
        Ok(())
    }

    async fn gather(&mut self, quiet: Quiet, expected: Option<usize>) -> Vec<String> {
        let mut lines: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut count = 0;
        let mut last = Instant::now();
        loop {
            let came = self.take_all(&mut lines);
            if came > 0 {
                (count, last) = (count + came, Instant::now());
            }
            let patience = match expected {
                Some(expected) if count >= expected => quiet.done,
                _ => quiet.missing,
            };
            if last.elapsed() >= patience {
                break;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        self.going.retain(|_, going| !going.ended);
        let named = |(name, lines): (String, Vec<String>)| {
            let lines = rules::order(lines).into_iter();
            lines.map(move |line| format!("{name}: {line}")).collect::<Vec<_>>()
        };
        lines.into_iter().flat_map(named).collect()
    }

    fn take_all(&mut self, lines: &mut BTreeMap<String, Vec<String>>) -> usize {
        let mut items = Vec::new();
        for (name, going) in &mut self.going {
            while let Ok(item) = going.call.received.try_recv() {
                going.ended |= matches!(item, Item::End(_));
                items.push((name.clone(), going.method.clone(), going.member, item));
            }
        }
        let count = items.len();
        for (name, method, member, item) in items {
            let line = match item {
                Item::Message(bytes) => self.text((&method, member), None, &bytes),
                Item::End(None) => "end ok".to_owned(),
                Item::End(Some(status)) => format!("end {}", self.status_text(&status)),
            };
            lines.entry(name).or_default().push(line);
        }
        count
    }

    fn ticket(&self, caller: &Caller) -> Ticket {
        let token = caller.token.as_ref().map(|token| self.names.resolve(token));
        Ticket { token, require_leader: caller.require_leader }
    }

    fn channel(&self, caller: &Caller) -> Result<&Channel, String> {
        self.channels.get(caller.member).ok_or_else(|| format!("no member @{}", caller.member + 1))
    }

    fn text(
        &mut self,
        (method, member): (&Method, usize),
        request: Option<&str>,
        bytes: &Bytes,
    ) -> String {
        let mut answer = match schema::decode(bytes, &method.output) {
            Ok(answer) => answer,
            Err(what) => return format!("unreadable {what}"),
        };
        if let Some(request) = request {
            rules::bind(&method.name, request, &answer, &mut self.names);
        }
        self.names.meet_leases(&schema::print(&answer));
        let member = self.members.get(member).copied().unwrap_or_default();
        let asked =
            Asked { method: &method.name, cluster: self.cluster, member, names: &self.names };
        rules::normalise(&asked, &mut answer);
        self.names.hide(&schema::print(&answer))
    }

    fn status_text(&self, status: &Status) -> String {
        let text = self.names.hide(&rules::status_text(status.message()));
        format!("{} {text:?}", code_name(status.code()))
    }
}

fn code_name(code: Code) -> String {
    match code {
        // tonic spells it as HTTP does.
        Code::Cancelled => "Canceled".to_owned(),
        code => format!("{code:?}"),
    }
}
