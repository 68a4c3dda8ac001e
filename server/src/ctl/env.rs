//! The variables `ETCDCTL_*`: each global flag may be given as one.
//!
//! Leaves out what the flags mean. Laws: 1. a flag and its variable together are an error, whatever
//! their values; 2. an unknown `ETCDCTL_*` is only warned about; 3. an empty variable does not count,
//! and one whose value does not parse leaves the default, as in etcdctl.
//!
//! Worked example: `ETCDCTL_DIAL_TIMEOUT=3s` sets `--dial-timeout`, unless the flag is given too.

use super::Exit;
use super::command::Invocation;

const PREFIX: &str = "ETCDCTL_";

/// Sets flags from the environment; answers the warnings to print.
pub fn apply(invocation: &mut Invocation, env: &[(String, String)]) -> Result<Vec<String>, Exit> {
    let mut warnings = Vec::new();
    let inherited = invocation.inherited.clone();
    for (name, value) in env.iter().filter(|(name, _)| name.starts_with(PREFIX)) {
        match inherited.iter().find(|flag| *name == variable(flag)) {
            Some(flag) if invocation.flags.changed(flag) => return Err(Exit::conflict(name)),
            Some(_) if value.is_empty() => {}
            Some(flag) => drop(invocation.flags.set(flag, value)),
            None if SILENT.contains(&name.as_str()) => {}
            None => warnings.push(format!("{name}={value}")),
        }
    }
    Ok(warnings)
}

/// The variable of a flag.
pub fn variable(flag: &str) -> String {
    format!("{PREFIX}{}", flag.to_uppercase().replace('-', "_"))
}

/// Read elsewhere (`watch`), or set out of habit since etcdctl had two interfaces.
const SILENT: [&str; 3] = ["ETCDCTL_API", "ETCDCTL_WATCH_KEY", "ETCDCTL_WATCH_RANGE_END"];
