//! The flags of the comparisons of hashes: etcd 3.7's, and those that etcd 3.6 had in their place, which manifests
//! still name.
//!
//! Laws: (1) a flag and the one that it has replaced may not say different things; (2) the period of compactions'
//! hashes must not be 0, whether the gate is on or not, as in etcd.
//!
//! Worked example: `--experimental-compact-hash-check-enabled --experimental-compact-hash-check-time=30s` is the
//! gate CompactHashCheck with 30 s.

use std::time::Duration;

use super::gates::FeatureGates;
use super::scan::Values;
use super::{ConfigError, HashChecks, period};

/// Switches on the gates that a flag of 3.6 stands for.
pub(super) fn replaced_gates(values: &Values, gates: &mut FeatureGates) -> Result<(), ConfigError> {
    let replaced = [
        ("experimental-compact-hash-check-enabled", "CompactHashCheck"),
        ("experimental-initial-corrupt-check", "InitialCorruptCheck"),
    ];
    for (flag, gate) in replaced {
        if !values.is_given(flag) {
            continue;
        }
        let on = values.switch(flag);
        if values.text("feature-gates").contains(gate) && gates.is_on(gate) != on {
            return Err(ConfigError::unfit(format!(
                "--{flag}={on} contradicts --feature-gates, where {gate} is {}",
                gates.is_on(gate)
            )));
        }
        if on {
            gates.switch_on(gate);
        }
    }
    Ok(())
}

/// What is compared, and how often.
pub(super) fn read(values: &Values, gates: &FeatureGates) -> Result<HashChecks, ConfigError> {
    let every = either(values, "corrupt-check-time")?;
    let compactions_every = either(values, "compact-hash-check-time")?;
    if compactions_every.is_zero() {
        return Err(ConfigError::unfit("--compact-hash-check-time must be >0 (set to 0s)"));
    }
    Ok(HashChecks {
        every: (!every.is_zero()).then_some(every),
        compactions_every: gates.is_on("CompactHashCheck").then_some(compactions_every),
    })
}

/// The value of a flag, or of the one that it has replaced.
fn either(values: &Values, flag: &str) -> Result<Duration, ConfigError> {
    let old = format!("experimental-{flag}");
    let (new_given, old_given) = (values.is_given(flag), values.is_given(&old));
    let value = period(values, if old_given { &old } else { flag })?;
    if new_given && period(values, flag)? != value {
        return Err(ConfigError::unfit(format!(
            "--{flag} and --{old}, which it has replaced, have different values"
        )));
    }
    Ok(value)
}
