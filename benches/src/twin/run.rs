//! Steps, one after the other, to both sides; where their lines part is a difference.

use std::collections::BTreeMap;
use std::time::Duration;

use super::generate::Generator;
use super::known;
use super::report::Difference;
use super::side::{Quiet, Side};
use super::step::Step;
use super::table::{Entry, Table};

/// The reference is given time: nobody knows how much it has to say.
const REFERENCE: Quiet =
    Quiet { missing: Duration::from_millis(350), done: Duration::from_millis(350) };

/// We are known to owe as much as the reference has said, and then nothing more.
const OURS: Quiet = Quiet { missing: Duration::from_secs(3), done: Duration::from_millis(60) };

/// What came of a script.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The steps with the reference's lines.
    pub entries: Vec<Entry>,
    /// What is not listed.
    pub differences: Vec<Difference>,
    /// How often listed differences were met.
    pub listed: BTreeMap<&'static str, usize>,
    /// Which server did not live to the end.
    pub died: Option<String>,
}

/// Where steps come from.
pub enum Source<'a> {
    /// So many drawn ones.
    Drawn(&'a mut Generator, usize),
    /// Those of a script.
    Script(&'a [Entry]),
}

impl Source<'_> {
    fn next(&mut self, nth: usize) -> Option<Step> {
        match self {
            Source::Drawn(generator, count) => (nth < *count).then(|| generator.next_step()),
            Source::Script(entries) => entries.get(nth).map(|entry| entry.step.clone()),
        }
    }
}

/// Runs steps on both sides until they end or there are `most` differences.
///
/// # Errors
/// A step that means nothing.
pub async fn compare(
    (reference, ours): (&mut Side, &mut Side),
    mut source: Source<'_>,
    most: usize,
) -> Result<Outcome, String> {
    let mut outcome = Outcome::default();
    for nth in 0.. {
        let Some(step) = source.next(nth) else { break };
        let theirs = reference.run(&step, REFERENCE, None).await?;
        if let Source::Drawn(generator, _) = &mut source {
            generator.learn(&step, &theirs);
        }
        let answered = ours.run(&step, OURS, Some(theirs.len())).await?;
        judge(&mut outcome, nth + 1, (&step, &theirs, answered));
        outcome.entries.push(Entry { remarks: Vec::new(), step, lines: theirs });
        if outcome.differences.len() >= most {
            break;
        }
    }
    Ok(outcome)
}

fn judge(outcome: &mut Outcome, at: usize, (step, theirs, ours): (&Step, &[String], Vec<String>)) {
    if theirs == ours {
        return;
    }
    if let Some(listed) = known::explain(step, theirs, &ours) {
        *outcome.listed.entry(listed.name).or_default() += 1;
        return;
    }
    let (step, theirs) = (step.clone(), theirs.to_vec());
    outcome.differences.push(Difference { at, step, theirs, ours });
}

/// Runs a table's steps on one side; its answers as the table's.
///
/// # Errors
/// A step that means nothing.
pub async fn record(side: &mut Side, table: &Table) -> Result<Table, String> {
    let mut recorded = table.clone();
    for entry in &mut recorded.entries {
        entry.lines = side.run(&entry.step, REFERENCE, None).await?;
    }
    Ok(recorded)
}

/// Runs a recorded table on our side alone.
///
/// # Errors
/// A step that means nothing.
pub async fn replay(side: &mut Side, table: &Table) -> Result<Outcome, String> {
    let mut outcome = Outcome::default();
    for (nth, entry) in table.entries.iter().enumerate() {
        let ours = side.run(&entry.step, OURS, Some(entry.lines.len())).await?;
        judge(&mut outcome, nth + 1, (&entry.step, &entry.lines, ours));
    }
    Ok(outcome)
}
