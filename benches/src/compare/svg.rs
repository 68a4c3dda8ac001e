//! Just enough SVG: a growing picture of lines, bars and words.

use std::fmt::Write;

/// How the two sides are coloured.
pub const ETCD: &str = "#8a8f98";
/// See [`ETCD`].
pub const HOLDFAST: &str = "#1f6feb";

/// A picture.
pub struct Svg {
    width: f64,
    height: f64,
    body: String,
}

/// Where words stand against their point.
#[derive(Clone, Copy, Debug)]
pub enum Anchor {
    /// They begin there.
    Start,
    /// They are centred there.
    Middle,
    /// They end there.
    End,
}

impl Svg {
    /// An empty picture.
    pub fn new(width: f64, height: f64) -> Svg {
        Svg { width, height, body: String::new() }
    }

    /// A bar from its upper left corner.
    pub fn bar(&mut self, (x, y): (f64, f64), (width, height): (f64, f64), colour: &str) {
        self.push(&format!(
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" \
             fill=\"{colour}\"/>"
        ));
    }

    /// Straight lines from point to point.
    pub fn line(&mut self, points: &[(f64, f64)], colour: &str, width: f64) {
        let points: String = points.iter().map(|(x, y)| format!("{x:.1},{y:.1} ")).collect();
        self.push(&format!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\"/>",
            points.trim_end()
        ));
    }

    /// A dot.
    pub fn dot(&mut self, (x, y): (f64, f64), colour: &str) {
        self.push(&format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>"));
    }

    /// Words.
    pub fn words(&mut self, (x, y): (f64, f64), anchor: Anchor, size: f64, words: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        self.push(&format!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" font-size=\"{size}\">{}</text>",
            escape(words)
        ));
    }

    fn push(&mut self, element: &str) {
        writeln!(self.body, "{element}").expect("memory takes it");
    }

    /// The whole picture.
    pub fn finish(self) -> String {
        let (width, height, body) = (self.width, self.height, self.body);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
             width=\"{width}\" height=\"{height}\" font-family=\"sans-serif\" fill=\"#24292f\">\n\
             <rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n{body}</svg>\n"
        )
    }
}

/// Words that may stand in XML.
pub fn escape(words: &str) -> String {
    words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_escaped_and_every_element_is_closed() {
        let mut svg = Svg::new(10.0, 20.0);
        svg.words((1.0, 2.0), Anchor::End, 12.0, "a < \"b\" & c");
        svg.line(&[(0.0, 0.0), (1.0, 1.5)], HOLDFAST, 1.0);
        let text = svg.finish();
        assert!(text.contains(">a &lt; &quot;b&quot; &amp; c</text>"));
        assert!(text.contains("points=\"0.0,0.0 1.0,1.5\""));
        let inner = text.lines().skip(1).filter(|line| !line.starts_with("</svg>"));
        assert!(inner.into_iter().all(|line| line.ends_with("/>") || line.ends_with("</text>")));
    }
}
