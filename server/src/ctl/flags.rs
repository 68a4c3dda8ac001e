//! Flags as Go's pflag reads them: anywhere among the arguments, typed, the last value wins.
//!
//! Leaves out which flags a command has (command.rs) and the environment (env.rs). clap is not used
//! here, because it knows neither `--switch=false`, nor one vocabulary for several parses of the same
//! run (a line of `txn` is a command line of its own), nor these error texts, which scripts compare.
//!
//! Laws: 1. every flag of the vocabulary has a value, its default if nothing else; 2. after `--`
//! nothing is a flag; 3. a value is parsed when it is set, so reading one cannot fail.
//!
//! Worked example: with a switch `prefix` and a number `limit`, the arguments `a --limit 3 --prefix`
//! give the operand `a`, `limit` 3 and `prefix` true; `--limit x` gives
//! `invalid argument "x" for "--limit" flag: strconv.ParseInt: parsing "x": invalid syntax`.

use std::collections::BTreeMap;
use std::time::Duration;

use super::go;

/// What values a flag takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// True when given without a value.
    Switch,
    /// A signed number, in Go's notations.
    Number,
    /// Any text.
    Text,
    /// A span of time in Go's notation.
    Span,
    /// Texts separated by commas; a repeated flag appends.
    List,
}

/// One flag of a vocabulary.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    /// Its long name, without dashes.
    pub name: &'static str,
    /// Its one-letter name.
    pub short: Option<char>,
    /// What it takes.
    pub kind: Kind,
    /// The text of its default; empty is the kind's zero.
    pub default: &'static str,
    /// What it does, for the help page.
    pub help: &'static str,
}

impl Flag {
    /// A flag that is off unless given.
    pub const fn switch(name: &'static str, help: &'static str) -> Flag {
        Flag { name, short: None, kind: Kind::Switch, default: "", help }
    }

    /// A number, zero unless given.
    pub const fn number(name: &'static str, help: &'static str) -> Flag {
        Flag { name, short: None, kind: Kind::Number, default: "", help }
    }

    /// A text.
    pub const fn text(name: &'static str, default: &'static str, help: &'static str) -> Flag {
        Flag { name, short: None, kind: Kind::Text, default, help }
    }

    /// A span of time.
    pub const fn span(name: &'static str, default: &'static str, help: &'static str) -> Flag {
        Flag { name, short: None, kind: Kind::Span, default, help }
    }

    /// The same flag with a one-letter name.
    pub const fn or(mut self, short: char) -> Flag {
        self.short = Some(short);
        self
    }

    fn parse(&self, text: &str) -> Result<Value, String> {
        match self.kind {
            Kind::Switch => go::parse_bool(text).map(Value::Switch),
            Kind::Number => go::parse_int(text, 0).map(Value::Number),
            Kind::Span => go::parse_duration(text).map(Value::Span),
            Kind::Text => Ok(Value::Text(text.to_owned())),
            Kind::List => Ok(Value::List(list(text))),
        }
    }

    fn zero(&self) -> Value {
        match self.kind {
            Kind::Switch => Value::Switch(false),
            Kind::Number => Value::Number(0),
            Kind::Span => Value::Span(Duration::ZERO),
            Kind::Text => Value::Text(String::new()),
            Kind::List => Value::List(Vec::new()),
        }
    }
}

fn list(text: &str) -> Vec<String> {
    if text.is_empty() { Vec::new() } else { text.split(',').map(str::to_owned).collect() }
}

/// Why arguments are refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FlagError {
    /// The arguments ask for the help page.
    Help,
    /// pflag's sentence.
    Bad(String),
}

#[derive(Clone, Debug)]
enum Value {
    Switch(bool),
    Number(i64),
    Text(String),
    Span(Duration),
    List(Vec<String>),
}

/// The values of a vocabulary of flags.
#[derive(Clone, Debug)]
pub struct Flags {
    vocabulary: Vec<Flag>,
    values: BTreeMap<&'static str, Value>,
    changed: BTreeMap<&'static str, String>,
}

/// What is not a flag.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Operands {
    /// In order, `--` left out.
    pub all: Vec<Vec<u8>>,
    /// How many came before `--`, if there was one.
    pub before_dashes: Option<usize>,
}

impl Flags {
    /// Every flag at its default.
    pub fn new(vocabulary: Vec<Flag>) -> Flags {
        let values = vocabulary.iter().map(|flag| {
            let value = match flag.default {
                "" => flag.zero(),
                text => flag.parse(text).expect("the defaults are constants of their kind"),
            };
            (flag.name, value)
        });
        Flags { values: values.collect(), vocabulary, changed: BTreeMap::new() }
    }

    /// Takes the flags out of `args`.
    pub fn parse(&mut self, args: &[Vec<u8>]) -> Result<Operands, FlagError> {
        let mut operands = Operands::default();
        let mut rest = args.iter();
        while let Some(arg) = rest.next() {
            match arg.as_slice() {
                b"--" => {
                    operands.before_dashes = Some(operands.all.len());
                    operands.all.extend(rest.by_ref().cloned());
                }
                [b'-', b'-', name @ ..] => self.long(&text_of(name), &mut rest)?,
                [b'-', names @ ..] if !names.is_empty() => {
                    self.shorts(&text_of(names), &mut rest)?;
                }
                _ => operands.all.push(arg.clone()),
            }
        }
        Ok(operands)
    }

    fn long<'a>(
        &mut self,
        body: &str,
        rest: &mut impl Iterator<Item = &'a Vec<u8>>,
    ) -> Result<(), FlagError> {
        if body.starts_with(['-', '=']) {
            return Err(FlagError::Bad(format!("bad flag syntax: --{body}")));
        }
        let (name, given) = match body.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (body, None),
        };
        let Some(flag) = self.vocabulary.iter().find(|flag| flag.name == name).copied() else {
            let help = name == "help" && given.is_none();
            let unknown = FlagError::Bad(format!("unknown flag: --{name}"));
            return Err(if help { FlagError::Help } else { unknown });
        };
        let value = match given {
            Some(value) => value,
            None if flag.kind == Kind::Switch => "true".to_owned(),
            None => rest
                .next()
                .map(|next| text_of(next))
                .ok_or_else(|| FlagError::Bad(format!("flag needs an argument: --{name}")))?,
        };
        self.set(flag.name, &value).map_err(FlagError::Bad)
    }

    /// `-w json`, `-wjson`, `-w=json`, and switches run together.
    fn shorts<'a>(
        &mut self,
        names: &str,
        rest: &mut impl Iterator<Item = &'a Vec<u8>>,
    ) -> Result<(), FlagError> {
        let mut left = names;
        while let Some(letter) = left.chars().next() {
            let tail = &left[letter.len_utf8()..];
            let found = self.vocabulary.iter().find(|flag| flag.short == Some(letter)).copied();
            let Some(flag) = found else {
                let unknown = format!("unknown shorthand flag: '{letter}' in -{left}");
                return Err(if letter == 'h' { FlagError::Help } else { FlagError::Bad(unknown) });
            };
            let (value, next) = match tail.strip_prefix('=') {
                Some(value) => (value.to_owned(), ""),
                None if flag.kind == Kind::Switch => ("true".to_owned(), tail),
                None if !tail.is_empty() => (tail.to_owned(), ""),
                None => match rest.next() {
                    Some(value) => (text_of(value), ""),
                    None => {
                        let text = format!("flag needs an argument: '{letter}' in -{left}");
                        return Err(FlagError::Bad(text));
                    }
                },
            };
            self.set(flag.name, &value).map_err(FlagError::Bad)?;
            left = next;
        }
        Ok(())
    }

    /// Gives a flag a value, as if it stood among the arguments.
    pub fn set(&mut self, name: &str, text: &str) -> Result<(), String> {
        let flag = self.vocabulary.iter().find(|flag| flag.name == name).copied();
        let flag = flag.ok_or_else(|| format!("unknown flag: --{name}"))?;
        let value = flag.parse(text).map_err(|reason| {
            let short = flag.short.map(|letter| format!("-{letter}, ")).unwrap_or_default();
            format!("invalid argument {} for \"{short}--{name}\" flag: {reason}", go::quote(text))
        })?;
        let again = self.changed.contains_key(flag.name);
        match (value, self.values.get_mut(flag.name)) {
            (Value::List(more), Some(Value::List(items))) if again => items.extend(more),
            (value, _) => {
                self.values.insert(flag.name, value);
            }
        }
        self.changed.insert(flag.name, text.to_owned());
        Ok(())
    }

    /// Every flag's name and the text it was given, or its default.
    pub fn texts(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.vocabulary.iter().map(|flag| {
            (flag.name, self.changed.get(flag.name).map_or(flag.default, String::as_str))
        })
    }

    /// Whether it was given.
    pub fn changed(&self, name: &str) -> bool {
        self.changed.contains_key(name)
    }

    /// The value of a switch.
    pub fn switch(&self, name: &str) -> bool {
        matches!(self.values.get(name), Some(Value::Switch(true)))
    }

    /// The value of a number.
    pub fn number(&self, name: &str) -> i64 {
        match self.values.get(name) {
            Some(Value::Number(number)) => *number,
            _ => 0,
        }
    }

    /// The value of a text.
    pub fn text(&self, name: &str) -> &str {
        match self.values.get(name) {
            Some(Value::Text(text)) => text,
            _ => "",
        }
    }

    /// The value of a span of time.
    pub fn span(&self, name: &str) -> Duration {
        match self.values.get(name) {
            Some(Value::Span(span)) => *span,
            _ => Duration::ZERO,
        }
    }

    /// The value of a list.
    pub fn list(&self, name: &str) -> &[String] {
        match self.values.get(name) {
            Some(Value::List(items)) => items,
            _ => &[],
        }
    }
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
