//! Lines over time and ranges of percentiles as SVG.
//!
//! Owns: their geometry. Guarantees: colours and sizes of text come from the page's style, so that they follow light, dark and
//! paper; text is escaped; a gap in the data is a gap in the line. Never does: deciding what is worth a plot.

use super::axis::Axis;
use super::text::escaped;
use crate::number::number;
use std::fmt::Write;

/// Size of a plot in its own units; the page scales it. Small, so that its text can be read on a phone.
const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 50.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 20.0;
const BOTTOM: f64 = 24.0;
/// Of a letter of the small text.
const LETTER: f64 = 5.8;

/// A part of the run: when it began, and what it is called.
#[derive(Clone, Debug, PartialEq)]
pub struct Stage {
    pub began: f64,
    pub name: String,
}

pub struct Series {
    pub name: &'static str,
    /// (seconds, value), rising; `None`: not known.
    pub points: Vec<(f64, Option<f64>)>,
}

/// Lines over the time of a run.
pub struct Lines<'a> {
    pub title: &'a str,
    pub unit: &'a str,
    pub is_log: bool,
    pub series: Vec<Series>,
    pub stages: &'a [Stage],
    /// The end of the run, seconds.
    pub until: f64,
}

impl Lines<'_> {
    /// A figure with its title and legend; empty where there is nothing to draw.
    pub fn html(&self) -> String {
        let values = || self.series.iter().flat_map(|series| series.points.iter().filter_map(|&(_, value)| value));
        if values().next().is_none() {
            return String::new();
        }
        let y = if self.is_log { Axis::log(values()) } else { Axis::linear(values()) };
        let x = Axis::time(self.until);
        let mut out = String::from("<figure><figcaption>");
        let _ = write!(out, "<b>{}</b> <span>{}</span>", escaped(self.title), escaped(self.unit));
        if self.series.len() > 1 {
            out.push_str("<span class=legend>");
            for (index, series) in self.series.iter().enumerate().filter(|(_, series)| series.is_known()) {
                let _ = write!(out, "<span><i class=b{index}></i>{}</span>", escaped(series.name));
            }
            out.push_str("</span>");
        }
        out.push_str("</figcaption>");
        open(HEIGHT, self.title, &mut out);
        for (value, label) in &y.ticks {
            let at = down(&y, *value);
            let _ = write!(out, "<path class=grid d='M{LEFT} {at:.1}H{:.1}'/>", WIDTH - RIGHT);
            text(LEFT - 6.0, at + 4.0, "end", label, &mut out);
        }
        for (seconds, label) in &x.ticks {
            let at = right(&x, *seconds);
            // The last label does not hang over the edge.
            let half = label.chars().count() as f64 * LETTER / 2.0;
            text(at.min(WIDTH - half), HEIGHT - 6.0, "middle", label, &mut out);
        }
        self.stages(&x, &mut out);
        for (index, series) in self.series.iter().enumerate() {
            line(index, series, &x, &y, &mut out);
        }
        out.push_str("</svg></figure>");
        out
    }

    /// A mark where each stage begins, and its name where there is room for it until the next.
    fn stages(&self, x: &Axis, out: &mut String) {
        for (index, stage) in self.stages.iter().enumerate() {
            let at = right(x, stage.began);
            let next = self.stages.get(index + 1).map_or(WIDTH, |next| right(x, next.began));
            let width = stage.name.chars().count() as f64 * LETTER;
            let _ = write!(
                out,
                "<path class=stage d='M{at:.1} {:.1}V{:.1}'><title>{}, from {} s</title></path>",
                TOP - 6.0,
                HEIGHT - BOTTOM,
                escaped(&stage.name),
                number(stage.began)
            );
            if at + 2.0 + width <= next {
                text(at + 2.0, TOP - 8.0, "start", &stage.name, out);
            }
        }
    }
}

impl Series {
    fn is_known(&self) -> bool {
        self.points.iter().any(|(_, value)| value.is_some())
    }
}

/// One row of a plot of ranges: p50, p90, p99, p99.9 and the longest, milliseconds.
pub struct Range {
    pub name: String,
    pub values: [f64; 5],
}

const ROW: f64 = 38.0;
/// Left and right of the marks: half of the longest label of a tick.
const SIDE: f64 = 24.0;

/// Percentiles of each kind of latency on one logarithmic scale.
pub fn ranges(title: &str, rows: &[Range]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let x = Axis::log(rows.iter().flat_map(|row| row.values));
    let height = TOP + ROW * rows.len() as f64 + BOTTOM;
    let mut out = String::from("<figure class=wide><figcaption>");
    let _ = write!(out, "<b>{}</b> <span>ms, logarithmic</span><span class=legend>", escaped(title));
    for (index, name) in ["p50", "p90", "p99", "p99.9", "max"].into_iter().enumerate() {
        let _ = write!(out, "<span><i class=q{index}></i>{name}</span>");
    }
    out.push_str("</span></figcaption>");
    open(height, title, &mut out);
    let along = |value: f64| SIDE + (WIDTH - 2.0 * SIDE) * x.at(value);
    for (value, label) in &x.ticks {
        let at = along(*value);
        let _ = write!(out, "<path class=grid d='M{at:.1} {TOP}V{:.1}'/>", height - BOTTOM);
        text(at, height - 8.0, "middle", label, &mut out);
    }
    for (index, row) in rows.iter().enumerate() {
        let top = TOP + ROW * index as f64;
        let y = top + 20.0;
        let [p50, .., max] = row.values.map(along);
        text(SIDE - 4.0, top + 11.0, "start", &row.name, &mut out);
        let _ = write!(out, "<path class=range d='M{p50:.1} {y:.1}H{max:.1}'/>");
        for (mark, value) in row.values.into_iter().enumerate().rev() {
            let _ = write!(
                out,
                "<circle class=q{mark} cx='{:.1}' cy='{y:.1}' r='4'><title>{} ms</title></circle>",
                along(value),
                number(value)
            );
        }
    }
    out.push_str("</svg></figure>");
    out
}

fn open(height: f64, title: &str, out: &mut String) {
    let title = escaped(title);
    let _ = write!(out, "<svg viewBox='0 0 {WIDTH} {height}' role=img aria-label=\"{title}\">");
}

fn text(x: f64, y: f64, anchor: &str, words: &str, out: &mut String) {
    let _ = write!(out, "<text x='{x:.1}' y='{y:.1}' text-anchor={anchor}>{}</text>", escaped(words));
}

fn right(x: &Axis, seconds: f64) -> f64 {
    LEFT + (WIDTH - LEFT - RIGHT) * x.at(seconds)
}

fn down(y: &Axis, value: f64) -> f64 {
    HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * y.at(value)
}

fn line(index: usize, series: &Series, x: &Axis, y: &Axis, out: &mut String) {
    for part in series.points.split(|(_, value)| value.is_none()) {
        let places = part.iter().filter_map(|&(seconds, value)| Some((right(x, seconds), down(y, value?))));
        let places: Vec<(f64, f64)> = places.collect();
        match places.as_slice() {
            [] => {}
            [(x, y)] => {
                let _ = write!(out, "<circle class=f{index} cx='{x:.1}' cy='{y:.1}' r='2'/>");
            }
            more => {
                let _ = write!(out, "<path class=s{index} d='");
                for (nth, (x, y)) in more.iter().enumerate() {
                    let _ = write!(out, "{}{x:.1} {y:.1}", if nth == 0 { 'M' } else { 'L' });
                }
                out.push_str("'/>");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(points: Vec<(f64, Option<f64>)>) -> String {
        let stages = [("a<b", 0.0), ("chat", 2.0), ("settle", 99.9)];
        let stages = stages.map(|(name, began)| Stage { began, name: name.to_owned() });
        let series = vec![Series { name: "server", points }];
        Lines { title: "CPU & more", unit: "%", is_log: false, series, stages: &stages, until: 100.0 }.html()
    }

    #[test]
    fn a_gap_in_the_data_is_a_gap_in_the_line_and_one_point_a_dot() {
        let html = lines(vec![(0.0, Some(1.0)), (1.0, Some(2.0)), (2.0, None), (3.0, Some(3.0)), (4.0, None)]);
        assert_eq!((html.matches("<path class=s0").count(), html.matches("<circle class=f0").count()), (1, 1));
        assert_eq!(lines(vec![(0.0, None)]), "", "nothing is known, so there is no plot");
    }

    #[test]
    fn everything_lies_within_the_plot() {
        let html = lines(vec![(0.0, Some(0.0)), (100.0, Some(1e6))]);
        let path = html.split_once("<path class=s0 d='M").unwrap().1.split_once('\'').unwrap().0;
        let numbers: Vec<f64> = path.split(['L', ' ']).map(|number| number.parse().unwrap()).collect();
        assert_eq!(numbers, [LEFT, HEIGHT - BOTTOM, WIDTH - RIGHT, TOP]);
    }

    #[test]
    fn text_is_escaped_and_every_stage_is_marked_though_not_all_have_room_for_a_name() {
        let html = lines(vec![(0.0, Some(1.0)), (100.0, Some(1.0))]);
        assert!(html.contains("CPU &amp; more") && html.contains("a&lt;b") && !html.contains("a<b"));
        assert_eq!(html.matches("<path class=stage").count(), 3);
        assert!(html.contains(">chat</text>") && !html.contains(">a&lt;b</text>") && !html.contains(">settle</text>"));
    }
}
