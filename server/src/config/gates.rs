//! `--feature-gates`: etcd's list of `Name=bool` pairs.
//!
//! Law: a name that etcd does not know is refused, one that changes nothing here is taken with a
//! warning that says why; `AllAlpha` and `AllBeta` set what is not named itself.
//!
//! Worked example: `AllAlpha=true,InitialCorruptCheck=false` switches on every alpha gate but that one.

use std::collections::BTreeMap;

use super::value;

/// A gate of etcd 3.7.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gate {
    /// Its name.
    pub name: &'static str,
    /// ALPHA or BETA.
    pub stage: &'static str,
    /// Whether it is on when nothing is said.
    pub default: bool,
    /// Why another value than the default changes nothing here; empty where it does.
    inert: &'static str,
}

const fn gate(name: &'static str, stage: &'static str, default: bool, inert: &'static str) -> Gate {
    Gate { name, stage, default, inert }
}

/// All of them, in the order of their names.
pub const GATES: [Gate; 9] = [
    gate("CompactHashCheck", "ALPHA", false, ""),
    gate("FastLeaseKeepAlive", "BETA", true, "a renewal waits for what the leader has committed"),
    gate("InitialCorruptCheck", "ALPHA", false, ""),
    gate("LeaseCheckpoint", "ALPHA", false, "what is left of leases is always replicated"),
    gate("LeaseCheckpointPersist", "ALPHA", false, "what is left of leases is always stored"),
    gate("PriorityRequest", "ALPHA", false, "a leader's own revocations are never refused"),
    gate("SetMemberLocalAddr", "ALPHA", false, "peer connections leave from any address"),
    gate("StopGRPCServiceOnDefrag", "ALPHA", false, "a defragmentation stops nothing"),
    gate("TxnModeWriteWithSharedBuffer", "BETA", true, "reads never copy a buffer"),
];

/// The value of every gate, in the order of [`GATES`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeatureGates(pub [bool; GATES.len()]);

impl FeatureGates {
    /// Reads the flag's text.
    ///
    /// # Errors
    /// What etcd says of a pair that it does not understand, or of two that do not fit.
    pub fn parse(text: &str) -> Result<FeatureGates, String> {
        let mut given = BTreeMap::new();
        for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let (name, value) = match pair.split_once('=') {
                Some((name, value)) => (name.trim(), value.trim()),
                None => return Err(format!("missing bool value for {pair}")),
            };
            let known = GATES.iter().any(|gate| gate.name == name);
            if !known && name != "AllAlpha" && name != "AllBeta" {
                return Err(format!("unrecognized feature gate: {name}"));
            }
            let value = value::switch(value)
                .map_err(|error| format!("invalid value of {name}={value}, err: {error}"))?;
            given.insert(name, value);
        }
        let gates = FeatureGates(GATES.map(|gate| {
            let all = if gate.stage == "ALPHA" { "AllAlpha" } else { "AllBeta" };
            let value = given.get(gate.name).or_else(|| given.get(all));
            value.copied().unwrap_or(gate.default)
        }));
        if gates.is_on("LeaseCheckpointPersist") && !gates.is_on("LeaseCheckpoint") {
            return Err(
                "enabling feature gate LeaseCheckpointPersist requires enabling feature gate \
                        LeaseCheckpoint"
                    .into(),
            );
        }
        Ok(gates)
    }

    /// Switches a gate on: a flag says so that it has replaced.
    pub fn switch_on(&mut self, name: &str) {
        if let Some(at) = GATES.iter().position(|gate| gate.name == name) {
            self.0[at] = true;
        }
    }

    /// Whether this gate is on.
    pub fn is_on(&self, name: &str) -> bool {
        let at = GATES.iter().position(|gate| gate.name == name);
        at.is_some_and(|at| self.0[at])
    }

    /// One line for each gate whose value changes nothing.
    pub fn warnings(&self) -> impl Iterator<Item = String> + '_ {
        let changed = GATES.iter().zip(self.0).filter(|(gate, value)| gate.default != *value);
        let inert = changed.filter(|(gate, _)| !gate.inert.is_empty());
        inert.map(|(gate, value)| {
            format!("--feature-gates {}={value} changes nothing: {}", gate.name, gate.inert)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_values_and_stages_are_understood() {
        let defaults = FeatureGates::parse("").expect("nothing is given");
        assert!(defaults.is_on("FastLeaseKeepAlive") && !defaults.is_on("CompactHashCheck"));
        let some = FeatureGates::parse("AllAlpha=true, InitialCorruptCheck=false,AllBeta=0");
        let some = some.expect("three pairs");
        assert!(some.is_on("CompactHashCheck") && !some.is_on("InitialCorruptCheck"));
        assert!(!some.is_on("TxnModeWriteWithSharedBuffer"));
        assert_eq!(defaults.warnings().count(), 0);
    }

    #[test]
    fn what_etcd_refuses_is_refused() {
        let cases = [
            ("Nope=true", "unrecognized feature gate: Nope"),
            ("CompactHashCheck", "missing bool value for CompactHashCheck"),
            (
                "LeaseCheckpointPersist=true",
                "enabling feature gate LeaseCheckpointPersist requires",
            ),
            ("CompactHashCheck=maybe", "invalid value of CompactHashCheck=maybe, err: "),
        ];
        for (text, error) in cases {
            let found = FeatureGates::parse(text).expect_err(text);
            assert!(found.starts_with(error), "{found}");
        }
    }
}
