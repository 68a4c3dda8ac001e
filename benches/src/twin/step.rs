//! One step of a script: what is asked, of whom, and by whom.
//!
//! ```text
//! [@N] [as TOKEN] [hasleader] METHOD MESSAGE     a call; its answer is awaited
//! [@N] [as TOKEN] [hasleader] NAME = METHOD MESSAGE
//!                                                a call that goes on: a stream, or an answer that may wait
//! NAME + MESSAGE                                 one more message of a stream that goes on
//! NAME .                                         the client has said all it has to say
//! NAME !                                         the client gives the call up
//! gather                                         everything that has come on calls that go on
//! wait MILLISECONDS                              for what only time brings
//! ```
//!
//! `@2` is the second member (the first one leads when a script begins; it is asked where none is told).
//! In messages `$NAME` stands for what a server has chosen ([`super::names`]), and `$fill(N)` for N times x.
//!
//! Law: what is printed reads back as the same step.

use std::fmt;

/// Who asks whom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// Which member is asked, from 0.
    pub member: usize,
    /// The token that comes along, which may be a name.
    pub token: Option<String>,
    /// `hasleader: true`
    pub require_leader: bool,
}

/// What is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// A call whose answer is awaited.
    Call {
        /// Its short name.
        method: String,
        /// The message as text.
        message: String,
    },
    /// A call that goes on.
    Open {
        /// How later steps call it.
        name: String,
        /// Its method's short name.
        method: String,
        /// The first message as text.
        message: String,
    },
    /// One more message.
    Send {
        /// Of which call.
        name: String,
        /// The message as text.
        message: String,
    },
    /// No more messages.
    Close(String),
    /// The call is given up.
    Cancel(String),
    /// See the module.
    Gather,
    /// So many milliseconds.
    Wait(u64),
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Who asks whom.
    pub caller: Caller,
    /// What is done.
    pub act: Act,
}

impl Step {
    /// A call of the first member by nobody in particular.
    pub fn call(method: &str, message: impl Into<String>) -> Step {
        Act::Call { method: method.to_owned(), message: message.into() }.into()
    }

    /// The same of a call that goes on.
    pub fn open(name: &str, method: &str, message: impl Into<String>) -> Step {
        let (name, method) = (name.to_owned(), method.to_owned());
        Act::Open { name, method, message: message.into() }.into()
    }

    /// One more message of a call that goes on.
    pub fn send(name: &str, message: impl Into<String>) -> Step {
        Act::Send { name: name.to_owned(), message: message.into() }.into()
    }

    /// The same step with a token.
    pub fn with_token(mut self, token: &str) -> Step {
        self.caller.token = Some(token.to_owned());
        self
    }

    /// The same step at another member.
    pub fn at(mut self, member: usize) -> Step {
        self.caller.member = member;
        self
    }

    /// The method that is called, if one is.
    pub fn method(&self) -> Option<&str> {
        match &self.act {
            Act::Call { method, .. } | Act::Open { method, .. } => Some(method),
            _ => None,
        }
    }

    /// The message that is sent, or nothing.
    pub fn message(&self) -> &str {
        match &self.act {
            Act::Call { message, .. } | Act::Open { message, .. } | Act::Send { message, .. } => {
                message
            }
            _ => "",
        }
    }

    /// Reads a line.
    ///
    /// # Errors
    /// A line that is no step.
    pub fn parse(line: &str) -> Result<Step, String> {
        let mut caller = Caller::default();
        let mut rest = line.trim();
        loop {
            let (word, behind) = split_word(rest);
            if let Some(member) = word.strip_prefix('@') {
                let member = member.parse::<usize>().ok().and_then(|member| member.checked_sub(1));
                caller.member = member.ok_or_else(|| format!("no member: {line}"))?;
                rest = behind;
            } else if word == "as" {
                let (token, behind) = split_word(behind);
                caller.token = Some(token.to_owned());
                rest = behind;
            } else if word == "hasleader" {
                caller.require_leader = true;
                rest = behind;
            } else {
                let act = parse_act(rest).ok_or_else(|| format!("no step: {line}"))?;
                return Ok(Step { caller, act });
            }
        }
    }
}

fn parse_act(text: &str) -> Option<Act> {
    let (word, rest) = split_word(text);
    match word {
        "gather" => return rest.is_empty().then_some(Act::Gather),
        "wait" => return rest.parse().ok().map(Act::Wait),
        _ => {}
    }
    if word.contains('.') && word.len() > 1 && !word.ends_with('.') {
        return Some(Act::Call { method: word.to_owned(), message: rest.to_owned() });
    }
    let name = word.to_owned();
    match split_word(rest) {
        (".", "") => Some(Act::Close(name)),
        ("!", "") => Some(Act::Cancel(name)),
        ("+", message) => Some(Act::Send { name, message: message.to_owned() }),
        ("=", call) => {
            let (method, message) = split_word(call);
            let (method, message) = (method.to_owned(), message.to_owned());
            (!method.is_empty()).then_some(Act::Open { name, method, message })
        }
        _ => None,
    }
}

fn split_word(text: &str) -> (&str, &str) {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    (word, rest.trim_start())
}

impl From<Act> for Step {
    fn from(act: Act) -> Step {
        Step { caller: Caller::default(), act }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.caller.member > 0 {
            write!(f, "@{} ", self.caller.member + 1)?;
        }
        if let Some(token) = &self.caller.token {
            write!(f, "as {token} ")?;
        }
        if self.caller.require_leader {
            f.write_str("hasleader ")?;
        }
        let text = match &self.act {
            Act::Call { method, message } => format!("{method} {message}"),
            Act::Open { name, method, message } => format!("{name} = {method} {message}"),
            Act::Send { name, message } => format!("{name} + {message}"),
            Act::Close(name) => format!("{name} ."),
            Act::Cancel(name) => format!("{name} !"),
            Act::Gather => "gather".to_owned(),
            Act::Wait(ms) => format!("wait {ms}"),
        };
        f.write_str(text.trim_end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_reads_back() {
        let lines = [
            r#"KV.Put key:"a b",value:"x . ! = + y""#,
            "@3 as $token1 hasleader KV.Range key:\"a\"",
            "as nonsense w1 = Watch.Watch create_request:{key:\"a\"}",
            "w1 + progress_request:{}",
            "w1 .",
            "w1 !",
            "gather",
            "wait 250",
            "Maintenance.Status",
        ];
        for line in lines {
            let step = Step::parse(line).expect(line);
            assert_eq!(step.to_string(), line);
        }
        let call = Step::call("KV.Range", "key:\"a\"").with_token("t").at(1);
        assert_eq!(Step::parse(&call.to_string()), Ok(call));
    }

    #[test]
    fn what_is_no_step_is_refused() {
        for line in ["", "w1", "w1 ?", "@0 KV.Put", "@x KV.Put", "wait", "w1 =", "gather now"] {
            assert!(Step::parse(line).is_err(), "{line}");
        }
    }
}
