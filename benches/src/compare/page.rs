//! The table as a picture, and as a page that holds both.

use super::outcome::{Line, Outcome};
use super::stats::Metric;
use super::svg::{Anchor, Svg, escape};
use super::table;

/// Left edge, right edge and middle of the bars; what the edges mean.
const LEFT: f64 = 420.0;
const RIGHT: f64 = 1020.0;
const TIMES_MIN: f64 = 0.1;
const TIMES_MAX: f64 = 1000.0;
/// Height of a bar, of a line's frame, and of what stands above all.
const BAR: f64 = 6.0;
const GAP: f64 = 8.0;
const TOP: f64 = 64.0;

/// What has a bar, and its colour.
const BARS: [(Metric, &str); 4] = [
    (Metric::Throughput, "#1f6feb"),
    (Metric::P99, "#2da44e"),
    (Metric::Cpu, "#e16f24"),
    (Metric::Value, "#8250df"),
];

/// How many times better Holdfast is, on a logarithmic scale: throughput, p99, CPU, and facts.
pub fn picture(outcome: &Outcome) -> String {
    let height: f64 = outcome.lines.iter().map(height_of).sum();
    let mut svg = Svg::new(RIGHT + 180.0, TOP + height + 20.0);
    svg.words((12.0, 22.0), Anchor::Start, 15.0, "Holdfast against etcd: times better");
    let doubt = outcome.doubt().unwrap_or_default();
    svg.words((12.0, 42.0), Anchor::Start, 11.0, doubt);
    for (nth, (metric, colour)) in BARS.iter().enumerate() {
        let x = LEFT + 170.0 * nth as f64;
        svg.bar((x, 14.0), (12.0, 8.0), colour);
        let word = if *metric == Metric::Value { "one number" } else { metric.title() };
        svg.words((x + 18.0, 22.0), Anchor::Start, 12.0, word);
    }
    for times in [0.1, 1.0, 10.0, 100.0, 1000.0] {
        let (x, width) = (x_of(times), if times == 1.0 { 1.5 } else { 0.5 });
        svg.line(&[(x, TOP - 8.0), (x, TOP + height)], "#8a8f98", width);
        let word = if times < 1.0 { "1/10".to_owned() } else { format!("{times}x") };
        svg.words((x, TOP - 14.0), Anchor::Middle, 11.0, &word);
    }
    let mut y = TOP;
    for line in &outcome.lines {
        draw(&mut svg, y, outcome, line);
        y += height_of(line);
    }
    svg.finish()
}

fn height_of(line: &Line) -> f64 {
    let bars = BARS.iter().filter(|(metric, _)| line.metrics().contains(metric)).count();
    bars.max(2) as f64 * (BAR + 2.0) + GAP
}

fn draw(svg: &mut Svg, top: f64, outcome: &Outcome, line: &Line) {
    let members = if line.members == 1 { String::new() } else { format!(" ({})", line.members) };
    let title = format!("{}{members}", line.title);
    svg.words((LEFT - 12.0, top + 14.0), Anchor::End, 12.0, &title);
    if let Err(refusal) = line.pairs.check(&outcome.disk) {
        let what: String = format!("no ratio: {refusal}").chars().take(110).collect();
        return svg.words((LEFT + 4.0, top + 14.0), Anchor::Start, 11.0, &what);
    }
    let mut y = top;
    for (metric, colour) in BARS {
        if !line.metrics().contains(&metric) {
            continue;
        }
        if let Some(times) = line.times_better(metric, &outcome.disk) {
            let (one, x) = (x_of(1.0), x_of(times.median));
            svg.bar((one.min(x), y), ((x - one).abs().max(1.0), BAR), colour);
            let words = format!("{}x", table::number_text(times.median));
            svg.words((one.max(x) + 4.0, y + BAR), Anchor::Start, 8.0, &words);
        }
        y += BAR + 2.0;
    }
}

fn x_of(times: f64) -> f64 {
    let (least, most) = (TIMES_MIN.ln(), TIMES_MAX.ln());
    let share = (times.clamp(TIMES_MIN, TIMES_MAX).ln() - least) / (most - least);
    LEFT + share * (RIGHT - LEFT)
}

/// A page with the machine, the picture and the table.
pub fn html(outcome: &Outcome) -> String {
    let machine = outcome.machine.iter().map(|(name, value)| {
        format!("<tr><td>{}</td><td>{}</td></tr>\n", escape(name), escape(value))
    });
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
         <title>Holdfast beside etcd</title>\n<style>\n\
         body {{ font-family: sans-serif; margin: 2em; }}\n\
         table {{ border-collapse: collapse; margin: 1em 0; font-size: 13px; }}\n\
         td, th {{ border: 1px solid #d0d7de; padding: 3px 8px; text-align: left; }}\n\
         </style></head><body>\n<h1>Holdfast beside etcd</h1>\n<table>{}</table>\n{}\n{}</body></html>\n",
        machine.collect::<String>(),
        picture(outcome),
        tables(&table::text(outcome)),
    )
}

/// The text's tables, as HTML.
fn tables(text: &str) -> String {
    let mut html = String::new();
    let mut open = false;
    for line in text.lines() {
        let row = line.strip_prefix('|').and_then(|line| line.strip_suffix('|'));
        if open && row.is_none() {
            html += "</table>\n";
        }
        match row {
            Some(row) if row.starts_with('-') => {}
            Some(row) => {
                let kind = if open { "td" } else { "th" };
                html += if open { "<tr>" } else { "<table><tr>" };
                for cell in row.split('|') {
                    html += &format!("<{kind}>{}</{kind}>", escape(cell.trim()));
                }
                html += "</tr>\n";
            }
            None if line.starts_with("## ") => {
                html += &format!("<h2>{}</h2>\n", escape(&line[3..]))
            }
            None if line.is_empty() => {}
            None => html += &format!("<p>{}</p>\n", escape(line)),
        }
        open = row.is_some();
    }
    html + if open { "</table>\n" } else { "" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_of_text_becomes_a_table_of_html() {
        let html = tables("## A <b>\n\n| x | y |\n|---|---|\n| 1 | 2 |\n\nend");
        let wanted = "<h2>A &lt;b&gt;</h2>\n<table><tr><th>x</th><th>y</th></tr>\n\
                      <tr><td>1</td><td>2</td></tr>\n</table>\n<p>end</p>\n";
        assert_eq!(html, wanted);
    }

    #[test]
    fn better_is_right_of_one() {
        assert!(x_of(10.0) > x_of(1.0) && x_of(0.5) < x_of(1.0));
        assert!((x_of(1e9) - RIGHT).abs() < 1e-9 && (x_of(0.0) - LEFT).abs() < 1e-9);
    }
}
