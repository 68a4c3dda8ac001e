//! The table in text: three lines a workload (etcd, Holdfast, their ratio), aligned, and valid Markdown.

use super::cluster::Side;
use super::outcome::{Kind, Line, Outcome};
use super::stats::{Metric, Summary};

/// The tables of an outcome: workloads, then facts, then where etcd is better.
pub fn text(outcome: &Outcome) -> String {
    let mut text = String::new();
    for members in member_counts(outcome) {
        let rows = rows(outcome, members);
        if !rows.is_empty() {
            text += &format!("\n## Workloads, members: {members}\n\n{}", align(&rows));
        }
        let facts = facts(outcome, members);
        if !facts.is_empty() {
            text += &format!("\n## One number each, members: {members}\n\n{}", align(&facts));
        }
    }
    let better = outcome.where_etcd_is_better();
    if !better.is_empty() {
        let doubt = outcome.doubt().map_or(String::new(), |doubt| format!(" ({doubt})"));
        text += &format!("\n## Where etcd was better{doubt}\n\n");
        for sentence in better {
            text += &format!("- {sentence}\n");
        }
    }
    text
}

fn member_counts(outcome: &Outcome) -> Vec<usize> {
    let mut counts: Vec<_> = outcome.lines.iter().map(|line| line.members).collect();
    counts.sort_unstable();
    counts.dedup();
    counts
}

fn rows(outcome: &Outcome, members: usize) -> Vec<Vec<String>> {
    let is_row = |line: &&Line| matches!(line.kind, Kind::Row { .. }) && line.members == members;
    let mut rows = Vec::new();
    for line in outcome.lines.iter().filter(is_row) {
        if rows.is_empty() {
            let titles = Metric::COLUMNS.map(|metric| metric.title().to_owned());
            let mut head = vec!["workload".to_owned(), String::new()];
            head.extend(titles);
            head.push("notes".to_owned());
            rows.push(head);
        }
        rows.extend(three_lines(outcome, line));
    }
    rows
}

fn three_lines(outcome: &Outcome, line: &Line) -> Vec<Vec<String>> {
    let of_side = |side: Side, title: &str, notes: String| {
        let mut cells = vec![title.to_owned(), side.name().to_owned()];
        cells.extend(Metric::COLUMNS.map(|metric| value_text(line.pairs.summary(side, metric))));
        cells.push(notes);
        cells
    };
    let mut ratio = vec![String::new(), "ratio".to_owned()];
    ratio.extend(Metric::COLUMNS.map(|metric| match line.ratio(metric, &outcome.disk) {
        Ok(ratio) => ratio_text(&ratio),
        Err(_) => "–".to_owned(),
    }));
    ratio.push(String::new());
    let notes = line.notes(&outcome.disk).join("; ");
    vec![of_side(Side::Etcd, &line.title, notes), of_side(Side::Holdfast, "", String::new()), ratio]
}

fn facts(outcome: &Outcome, members: usize) -> Vec<Vec<String>> {
    let is_fact = |line: &&Line| matches!(line.kind, Kind::Fact(_)) && line.members == members;
    let mut rows = Vec::new();
    for line in outcome.lines.iter().filter(is_fact) {
        if rows.is_empty() {
            rows.push(["what", "etcd", "holdfast", "ratio", "notes"].map(str::to_owned).to_vec());
        }
        let value = |side| value_text(line.pairs.summary(side, Metric::Value));
        let ratio = line.ratio(Metric::Value, &outcome.disk);
        rows.push(vec![
            line.title.clone(),
            value(Side::Etcd),
            value(Side::Holdfast),
            ratio.map_or_else(|_| "–".to_owned(), |ratio| ratio_text(&ratio)),
            line.notes(&outcome.disk).join("; "),
        ]);
    }
    rows
}

/// A median, and its spread if there is one: `14919 ±6%`.
pub fn value_text(summary: Option<Summary>) -> String {
    let Some(summary) = summary else { return "–".to_owned() };
    let median = number_text(summary.median);
    match summary.spread() * 100.0 {
        spread if spread >= 0.5 => format!("{median} ±{spread:.0}%"),
        _ => median,
    }
}

/// A ratio as people say it: `7.53x`, or `1/12.3`; with what its pairs lie between; `~` if that is both
/// sides of 1.
pub fn ratio_text(ratio: &Summary) -> String {
    let mark = if ratio.says_nothing() && ratio.low < ratio.high { "~" } else { "" };
    let median = times_text(ratio.median);
    if ratio.low < ratio.high {
        format!("{mark}{median} ({}..{})", times_text(ratio.low), times_text(ratio.high))
    } else {
        median
    }
}

fn times_text(ratio: f64) -> String {
    if ratio >= 1.0 {
        format!("{}x", number_text(ratio))
    } else {
        format!("1/{}", number_text(1.0 / ratio))
    }
}

/// About three digits.
pub fn number_text(number: f64) -> String {
    match number.abs() {
        100.0.. => format!("{number:.0}"),
        10.0.. => format!("{number:.1}"),
        _ => format!("{number:.2}"),
    }
}

/// Markdown whose columns stand below each other; the first row is the head.
fn align(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |nth: usize| {
        let lengths = rows.iter().filter_map(|row| Some(row.get(nth)?.chars().count()));
        lengths.max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for (at, row) in rows.iter().enumerate() {
        for (cell, width) in row.iter().zip(&widths) {
            text += &format!("| {cell:<width$} ");
        }
        text += "|\n";
        if at == 0 {
            let rules = widths.iter().map(|width| format!("|{}", "-".repeat(width + 2)));
            text += &(rules.collect::<String>() + "|\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::disk::Disk;
    use super::super::rows::Fact;
    use super::super::stats::{Pairs, Sample};
    use super::*;

    fn runs(values: &[f64]) -> Vec<super::super::stats::Run> {
        let run = |value: &f64| {
            let values = vec![(Metric::Throughput, *value), (Metric::Value, *value)];
            Ok(Sample { values, ..Sample::default() })
        };
        values.iter().map(run).collect()
    }

    fn outcome(is_memory: bool) -> Outcome {
        let pairs = Pairs { etcd: runs(&[100.0, 110.0]), holdfast: runs(&[1000.0, 880.0]) };
        let line = |kind, title: &str| Line {
            id: title.to_owned(),
            title: title.to_owned(),
            members: 1,
            kind,
            pairs: pairs.clone(),
        };
        let lines = vec![
            line(Kind::Row { paced: false, null: None }, "put"),
            line(Kind::Fact(Fact::Load), "load"),
        ];
        let disk = Disk { name: "tmpfs".to_owned(), is_memory };
        Outcome { machine: Vec::new(), disk, lines }
    }

    #[test]
    fn a_ratio_reads_as_people_say_it() {
        let ratio = |median, low, high| ratio_text(&Summary { median, low, high });
        assert_eq!(ratio(7.526, 7.526, 7.526), "7.53x");
        assert_eq!(ratio(0.0813, 0.08, 0.1), "1/12.3 (1/12.5..1/10.0)");
        assert_eq!(ratio(1.0, 0.5, 2.0), "~1.00x (1/2.00..2.00x)");
        let summary = Summary { median: 14919.0, low: 14000.0, high: 15000.0 };
        assert_eq!(value_text(Some(summary)), "14919 ±3%");
    }

    #[test]
    fn every_line_of_the_table_is_as_wide_as_the_next() {
        let text = text(&outcome(false));
        assert!(text.contains("| 9.00x (8.00x..10.0x) |"), "{text}");
        let table: Vec<_> = text.lines().filter(|line| line.starts_with('|')).collect();
        let widths: Vec<_> = table[..5].iter().map(|line| line.chars().count()).collect();
        assert!(widths.iter().all(|width| *width == widths[0]), "{text}");
    }

    #[test]
    fn a_memory_file_system_leaves_numbers_and_no_ratio() {
        let text = text(&outcome(true));
        assert!(text.contains("no ratio: the data is on tmpfs, a memory file system"), "{text}");
        assert!(text.contains("1000") || text.contains("940"), "{text}");
        assert!(!text.contains("9.00x"), "{text}");
    }
}
