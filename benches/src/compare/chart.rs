//! A chart of lines over logarithmic axes, one line a side.

use super::svg::{Anchor, Svg};

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 400.0;
/// Around the axes: left, right, top, bottom.
const LEFT: f64 = 80.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 48.0;
const BOTTOM: f64 = 52.0;

/// A line: its name, its colour, its points.
pub struct Series {
    /// See [`Series`].
    pub name: &'static str,
    /// See [`Series`].
    pub colour: &'static str,
    /// See [`Series`]. What is not above zero is not drawn.
    pub points: Vec<(f64, f64)>,
}

/// A chart.
pub struct Chart<'a> {
    /// What it shows.
    pub title: &'a str,
    /// What its axes mean.
    pub x_label: &'a str,
    /// See `x_label`.
    pub y_label: &'a str,
    /// Its lines.
    pub series: Vec<Series>,
}

/// An axis: its ends, as decimal logarithms, and where those are drawn.
#[derive(Clone, Copy)]
struct Axis {
    values: (f64, f64),
    places: (f64, f64),
}

impl Axis {
    /// Wide enough for all values: whole powers of ten when `whole`, never less than a part of one.
    fn over(values: impl Iterator<Item = f64>, whole: bool, places: (f64, f64)) -> Axis {
        let logs: Vec<f64> = values.map(f64::log10).collect();
        let low = logs.iter().copied().fold(f64::INFINITY, f64::min);
        let high = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let (low, high) = if low > high { (0.0, 1.0) } else { (low, high) };
        let values = if whole {
            (low.floor(), high.ceil().max(low.floor() + 1.0))
        } else {
            (low, high.max(low + 0.1))
        };
        Axis { values, places }
    }

    fn place(&self, value: f64) -> f64 {
        let share = (value.log10() - self.values.0) / (self.values.1 - self.values.0);
        self.places.0 + share * (self.places.1 - self.places.0)
    }

    fn powers(&self) -> impl Iterator<Item = f64> {
        (self.values.0 as i32..=self.values.1 as i32).map(|power| 10_f64.powi(power))
    }
}

impl Chart<'_> {
    /// The picture.
    pub fn svg(&self) -> String {
        let mut svg = Svg::new(WIDTH, HEIGHT);
        let points = || self.series.iter().flat_map(|series| &series.points);
        let drawn = || points().filter(|(x, y)| *x > 0.0 && *y > 0.0);
        let x_axis = Axis::over(drawn().map(|(x, _)| *x), false, (LEFT, WIDTH - RIGHT));
        let y_axis = Axis::over(drawn().map(|(_, y)| *y), true, (HEIGHT - BOTTOM, TOP));
        svg.words((LEFT, 20.0), Anchor::Start, 14.0, self.title);
        svg.words((LEFT, 38.0), Anchor::Start, 11.0, self.y_label);
        let x_middle = f64::midpoint(LEFT, WIDTH - RIGHT);
        svg.words((x_middle, HEIGHT - 12.0), Anchor::Middle, 11.0, self.x_label);
        for power in y_axis.powers() {
            let y = y_axis.place(power);
            svg.line(&[(LEFT, y), (WIDTH - RIGHT, y)], "#d0d7de", 1.0);
            svg.words((LEFT - 6.0, y + 4.0), Anchor::End, 11.0, &short(power));
        }
        let mut ticks: Vec<f64> = drawn().map(|(x, _)| *x).collect();
        ticks.sort_by(f64::total_cmp);
        ticks.dedup();
        for tick in ticks {
            let x = x_axis.place(tick);
            svg.line(&[(x, HEIGHT - BOTTOM), (x, HEIGHT - BOTTOM + 5.0)], "#24292f", 1.0);
            svg.words((x, HEIGHT - BOTTOM + 18.0), Anchor::Middle, 11.0, &short(tick));
        }
        for (nth, series) in self.series.iter().enumerate() {
            let at = |(x, y): &(f64, f64)| (x_axis.place(*x), y_axis.place(*y));
            let good = series.points.iter().filter(|(x, y)| *x > 0.0 && *y > 0.0);
            let places: Vec<_> = good.map(at).collect();
            svg.line(&places, series.colour, 2.0);
            places.iter().for_each(|place| svg.dot(*place, series.colour));
            let x = WIDTH - RIGHT - 160.0 + 80.0 * nth as f64;
            svg.bar((x, 30.0), (12.0, 8.0), series.colour);
            svg.words((x + 18.0, 38.0), Anchor::Start, 11.0, series.name);
        }
        svg.finish()
    }
}

/// 1000 as 1k, a million as 1M.
fn short(number: f64) -> String {
    match number {
        1e6.. => format!("{}M", number / 1e6),
        1e3.. => format!("{}k", number / 1e3),
        _ => format!("{number}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_power_of_ten_is_as_far_as_the_next() {
        let axis = Axis::over([2.0, 700.0].into_iter(), true, (100.0, 0.0));
        assert_eq!(axis.values, (0.0, 3.0));
        let steps: Vec<f64> = axis.powers().map(|power| axis.place(power)).collect();
        assert_eq!(steps.len(), 4);
        assert!(steps.windows(2).all(|pair| (pair[0] - pair[1] - 100.0 / 3.0).abs() < 1e-9));
    }

    #[test]
    fn what_is_not_above_zero_is_left_out() {
        let points = vec![(1.0, 0.0), (10.0, 5.0), (100.0, f64::NAN)];
        let series = vec![Series { name: "a", colour: "#000", points }];
        let chart = Chart { title: "t", x_label: "x", y_label: "y", series };
        assert_eq!(chart.svg().matches("<circle").count(), 1);
        assert_eq!([short(5000.0), short(1e6), short(16.0)], ["5k", "1M", "16"]);
    }
}
