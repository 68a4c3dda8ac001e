//! Makes a script smaller that ends in a difference: steps that it does not need are left out, halves first.
//!
//! Each attempt runs on two new clusters, so there are at most [`ATTEMPTS`]. A smaller script counts when its last
//! difference is of the same kind ([`Difference::kind`]).

use super::Twins;
use super::report::Difference;
use super::run::Source;
use super::table::{Entry, Table};

/// How often two clusters are started for it.
const ATTEMPTS: usize = 60;

/// The smaller script, or None where nothing differs.
///
/// # Errors
/// What keeps it from running at all.
pub async fn shrink(twins: &Twins<'_>, mut table: Table) -> Result<Option<Table>, String> {
    let Some(first) = last_difference(twins, &table, &table.entries).await? else {
        return Ok(None);
    };
    table.entries.truncate(first.at);
    let kind = first.kind();
    let mut piece = table.entries.len().div_ceil(2);
    let mut attempts = 0;
    while piece > 0 && attempts < ATTEMPTS {
        let mut at = 0;
        // The last step is where it shows.
        while at + 1 < table.entries.len() && attempts < ATTEMPTS {
            let end = (at + piece).min(table.entries.len() - 1);
            let mut fewer = table.entries.clone();
            fewer.drain(at..end);
            attempts += 1;
            let found = last_difference(twins, &table, &fewer).await?;
            match found.filter(|found| found.kind() == kind) {
                Some(found) => {
                    fewer.truncate(found.at);
                    eprintln!("  {} steps", fewer.len());
                    table.entries = fewer;
                }
                None => at = end,
            }
        }
        piece /= 2;
    }
    Ok(Some(table))
}

async fn last_difference(
    twins: &Twins<'_>,
    table: &Table,
    entries: &[Entry],
) -> Result<Option<Difference>, String> {
    let outcome = twins.compare(&table.setting, Source::Script(entries), usize::MAX).await?;
    Ok(outcome.differences.into_iter().next_back())
}
