//! Arguments and variables to one value for each flag, each checked for its kind.
//!
//! Leaves out whether the values fit together (`config.rs`).
//!
//! Worked example: `--pre-vote false` switches pre-vote on, as every Go program reads it, and leaves
//! the argument `false`, which is then refused as `"false" is not a valid flag`.

use std::collections::{BTreeMap, BTreeSet};

use super::flags::{self, FLAGS, Flag, Kind, Standing};
use super::url::{self, HttpUrl};
use super::{ConfigError, cluster, value};

/// What was asked for.
pub enum Scanned {
    /// `-h` or `--help`.
    Help,
    /// `--version`.
    Version,
    /// Everything else.
    Values(Values),
}

/// A value for each flag that was given; every one is well-formed for its kind.
pub struct Values {
    given: BTreeMap<&'static str, String>,
    /// What the operator should know.
    pub warnings: Vec<String>,
}

/// Reads arguments, then variables.
pub fn scan(args: &[String], env: &[(String, String)]) -> Result<Scanned, ConfigError> {
    let mut values = Values { given: BTreeMap::new(), warnings: Vec::new() };
    let mut at = 0;
    while let Some((name, inline)) = args.get(at).map(|arg| split(arg)).transpose()?.flatten() {
        at += 1;
        if matches!(name, "h" | "help") {
            return Ok(Scanned::Help);
        }
        let flag = known(name)?;
        let value = match inline {
            Some(value) => value,
            None if flag.kind == Kind::Switch => "true",
            None => {
                at += 1;
                let value = args.get(at - 1).map(String::as_str);
                value.ok_or_else(|| usage(format!("flag needs an argument: -{name}")))?
            }
        };
        values.set(flag, value).map_err(|error| usage(malformed(flag, value, &error)))?;
    }
    // A bare `--` ends the flags.
    at += usize::from(args.get(at).is_some_and(|arg| arg == "--"));
    if let Some(stray) = args.get(at) {
        return Err(stray_argument(stray, at));
    }
    if values.switch("version") {
        return Ok(Scanned::Version);
    }
    values.read_environment(env)?;
    values.warn_of_flags();
    Ok(Scanned::Values(values))
}

/// The name and the value after `=` of a flag; `None` when the flags have ended.
fn split(arg: &str) -> Result<Option<(&str, Option<&str>)>, ConfigError> {
    let Some(name) = arg.strip_prefix('-').filter(|rest| !rest.is_empty()) else {
        return Ok(None);
    };
    let name = name.strip_prefix('-').unwrap_or(name);
    if name.is_empty() {
        return Ok(None);
    }
    if name.starts_with('-') || name.starts_with('=') {
        return Err(usage(format!("bad flag syntax: {arg}")));
    }
    Ok(Some(match name.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (name, None),
    }))
}

fn known(name: &str) -> Result<&'static Flag, ConfigError> {
    match flags::find(name) {
        Some(flag) if flag.standing == Standing::Later => Err(usage(not_yet(&format!("-{name}")))),
        Some(flag) => Ok(flag),
        None => match flags::removed_in(name) {
            Some((version, advice)) => {
                Err(usage(format!("flag -{name} was removed from etcd in {version}: {advice}")))
            }
            None => Err(usage(format!("flag provided but not defined: -{name}"))),
        },
    }
}

fn not_yet(what: &str) -> String {
    format!("{what} is known to etcd but not yet served by Holdfast: remove it")
}

fn usage(message: String) -> ConfigError {
    ConfigError::usage(format!("{message}\nRun 'holdfast --help' for the flags that are served."))
}

fn malformed(flag: &Flag, value: &str, error: &str) -> String {
    match flag.kind {
        Kind::Switch => format!("invalid boolean value {value:?} for -{}: {error}", flag.name),
        _ => format!("invalid value {value:?} for flag -{}: {error}", flag.name),
    }
}

fn stray_argument(stray: &str, at: usize) -> ConfigError {
    match stray {
        "gateway" | "grpc-proxy" if at == 0 => usage(not_yet(&format!("sub-command {stray}"))),
        _ => ConfigError::unfit(format!("{stray:?} is not a valid flag")),
    }
}

impl Values {
    fn set(&mut self, flag: &'static Flag, value: &str) -> Result<(), String> {
        match flag.kind {
            Kind::Text => {}
            Kind::Switch => drop(value::switch(value)?),
            Kind::Count => drop(value::count(value)?),
            Kind::Signed => drop(value::signed(value)?),
            Kind::Duration => drop(value::duration_ns(value)?),
            Kind::State if cluster::is_state(value) => {}
            Kind::State => return Err("invalid value, use new or existing".into()),
            Kind::Urls if value.is_empty() && !flag.default.is_empty() => {
                return Err("no valid URLs given".into());
            }
            Kind::Urls => drop(url::list(value)?),
        }
        self.given.insert(flag.name, value.to_owned());
        Ok(())
    }

    fn read_environment(&mut self, env: &[(String, String)]) -> Result<(), ConfigError> {
        let by_flag: BTreeSet<&str> = self.given.keys().copied().collect();
        let mut used = Vec::new();
        let given =
            env.iter().filter(|(name, value)| name.starts_with("ETCD_") && !value.is_empty());
        for (variable, value) in given {
            match flags::find_variable(variable) {
                None => self.warnings.push(format!("unrecognized environment variable {variable}")),
                Some(flag) if flag.name == "version" => {
                    self.warnings.push(format!("environment variable {variable} is ignored"));
                }
                Some(flag) if flag.standing == Standing::Later => {
                    return Err(usage(not_yet(&format!("environment variable {variable}"))));
                }
                Some(flag) if by_flag.contains(flag.name) => {
                    return Err(ConfigError {
                        message: format!("{CONFLICT}: {variable}"),
                        exit_code: 1,
                    });
                }
                Some(flag) => used.push((flag, variable, value)),
            }
        }
        for (flag, variable, value) in used {
            self.set(flag, value).map_err(|error| {
                ConfigError::unfit(format!("invalid value {value:?} for {variable}: {error}"))
            })?;
        }
        Ok(())
    }

    /// One line for each flag that is accepted without effect.
    fn warn_of_flags(&mut self) {
        for flag in FLAGS.iter().filter(|flag| self.given.contains_key(flag.name)) {
            match flag.standing {
                Standing::Accepted => self.warnings.push(format!(
                    "--{} is accepted but not effective yet: {}",
                    flag.name, flag.help
                )),
                Standing::Ignored => self.warnings.push(format!(
                    "--{} is no longer supported and ignored, as by etcd",
                    flag.name
                )),
                Standing::Served | Standing::Later => {}
            }
        }
    }

    /// Whether a flag or its variable was given.
    pub fn is_given(&self, name: &str) -> bool {
        self.given.contains_key(name)
    }

    /// The value given, or the default.
    pub fn text(&self, name: &str) -> &str {
        let default = || flags::find(name).expect("the flag is in the table").default;
        self.given.get(name).map_or_else(default, String::as_str)
    }

    /// A switch.
    pub fn switch(&self, name: &str) -> bool {
        value::switch(self.text(name)).expect(CHECKED)
    }

    /// A number.
    pub fn count(&self, name: &str) -> u64 {
        value::count(self.text(name)).expect(CHECKED)
    }

    /// A number of things in memory.
    pub fn size(&self, name: &str) -> usize {
        usize::try_from(self.count(name)).unwrap_or(usize::MAX)
    }

    /// A number that may be negative.
    pub fn signed(&self, name: &str) -> i64 {
        value::signed(self.text(name)).expect(CHECKED)
    }

    /// A duration.
    pub fn duration_ns(&self, name: &str) -> i64 {
        value::duration_ns(self.text(name)).expect(CHECKED)
    }

    /// A list of URLs.
    pub fn urls(&self, name: &str) -> Vec<HttpUrl> {
        url::list(self.text(name)).expect(CHECKED)
    }
}

const CHECKED: &str = "set() and a test of the defaults accept only what parses";

const CONFLICT: &str = "conflicting environment variable is shadowed by corresponding command-line \
                        flag (either unset environment variable or disable flag))";
