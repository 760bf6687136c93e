//! Line charts, as SVG inside a page.

use std::fmt::Write as _;

/// How a line of numbers is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scale {
    /// From 0.
    Linear,
    /// By powers of ten; what is 0 or less is left out.
    Log,
}

/// A direction of a chart.
pub(super) struct Axis {
    pub(super) label: &'static str,
    pub(super) scale: Scale,
    /// Where lines are, and what they are called; `None`: where it suits.
    pub(super) ticks: Option<Vec<(f64, String)>>,
}

/// A line.
pub(super) struct Series {
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
    /// For what bounds the others and was not measured with them.
    pub(super) is_dashed: bool,
}

/// A chart.
pub(super) struct Chart {
    pub(super) x: Axis,
    pub(super) y: Axis,
    pub(super) series: Vec<Series>,
}

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 72.0;
/// As much as half of the longest name of a tick.
const RIGHT: f64 = 28.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 44.0;
/// Lines are told apart by these, in turn, and named below the chart.
const COLORS: [&str; 8] =
    ["#2563eb", "#dc2626", "#059669", "#d97706", "#7c3aed", "#0891b2", "#be185d", "#4d7c0f"];

/// Where values come to lie between two ends.
struct Span {
    scale: Scale,
    least: f64,
    most: f64,
    from: f64,
    to: f64,
}

impl Span {
    fn new(axis: &Axis, values: impl Iterator<Item = f64>, from: f64, to: f64) -> Span {
        let scale = axis.scale;
        let usable = values.filter(|&v| v.is_finite() && (scale == Scale::Linear || v > 0.0));
        let (mut least, mut most) = (f64::INFINITY, f64::NEG_INFINITY);
        usable.for_each(|v| (least, most) = (least.min(v), most.max(v)));
        if least > most {
            (least, most) = (1.0, 10.0);
        }
        match scale {
            Scale::Linear => (least, most) = (0.0, if most > 0.0 { most * 1.05 } else { 1.0 }),
            Scale::Log if axis.ticks.is_some() && most > least => {}
            Scale::Log => {
                (least, most) =
                    (10_f64.powf(least.log10().floor()), 10_f64.powf(most.log10().ceil()));
                most = if most > least { most } else { least * 10.0 };
            }
        }
        Span { scale, least, most, from, to }
    }

    fn at(&self, value: f64) -> f64 {
        let share = match self.scale {
            Scale::Linear => (value - self.least) / (self.most - self.least),
            Scale::Log => (value / self.least).log10() / (self.most / self.least).log10(),
        };
        self.from + share.clamp(0.0, 1.0) * (self.to - self.from)
    }

    fn shows(&self, value: f64) -> bool {
        value.is_finite() && (self.scale == Scale::Linear || value > 0.0)
    }

    fn ticks(&self) -> Vec<(f64, String)> {
        let mut ticks = Vec::new();
        match self.scale {
            Scale::Log => {
                let mut at = self.least;
                while at <= self.most * 1.001 {
                    ticks.push((at, short(at)));
                    at *= 10.0;
                }
            }
            Scale::Linear => {
                let rough = self.most / 5.0;
                let unit = 10_f64.powf(rough.log10().floor());
                let step =
                    [1.0, 2.0, 5.0, 10.0].map(|n| n * unit).into_iter().find(|s| *s >= rough);
                let step = step.unwrap_or(rough);
                let count = (self.most / step).floor() as u32;
                ticks.extend((0..=count).map(|n| f64::from(n) * step).map(|at| (at, short(at))));
            }
        }
        ticks
    }
}

/// A number in few characters.
pub(super) fn short(value: f64) -> String {
    let (value, suffix) = match value.abs() {
        1e9.. => (value / 1e9, "G"),
        1e6.. => (value / 1e6, "M"),
        1e3.. => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let text = format!("{value:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{text}{suffix}")
}

impl Chart {
    /// The chart, with its legend.
    pub(super) fn svg(&self) -> String {
        let all = || self.series.iter().flat_map(|series| &series.points);
        let x = Span::new(&self.x, all().map(|p| p.0), LEFT, WIDTH - RIGHT);
        let y = Span::new(&self.y, all().map(|p| p.1), HEIGHT - BOTTOM, TOP);
        let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">\n");
        self.write_grid(&x, &y, &mut svg);
        for (series, color) in self.series.iter().zip(COLORS.iter().cycle()) {
            svg.push_str(&line(series, color, &x, &y));
        }
        svg.push_str("</svg>\n");
        svg.push_str(&self.legend());
        svg
    }

    fn write_grid(&self, x: &Span, y: &Span, svg: &mut String) {
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for (at, name) in self.x.ticks.clone().unwrap_or_else(|| x.ticks()) {
            let (at, name) = (x.at(at), escape(&name));
            let _ = writeln!(
                svg,
                "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>\
                 <text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{name}</text>",
                bottom + 16.0
            );
        }
        for (at, name) in self.y.ticks.clone().unwrap_or_else(|| y.ticks()) {
            let (at, name) = (y.at(at), escape(&name));
            let _ = writeln!(
                svg,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{name}</text>",
                LEFT - 6.0,
                at + 4.0
            );
        }
        let (middle, height) = ((LEFT + right) / 2.0, (TOP + bottom) / 2.0);
        let _ = writeln!(
            svg,
            "<text class=\"label\" x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">{}</text>\
             <text class=\"label\" transform=\"translate(14 {height}) rotate(-90)\" \
             text-anchor=\"middle\">{}</text>",
            HEIGHT - 8.0,
            escape(self.x.label),
            escape(self.y.label)
        );
    }

    fn legend(&self) -> String {
        let mut legend = String::from("<p class=\"legend\">");
        for (series, color) in self.series.iter().zip(COLORS.iter().cycle()) {
            let style = if series.is_dashed { "dashed" } else { "solid" };
            let _ = write!(
                legend,
                "<span><i style=\"border-top:3px {style} {color}\"></i>{}</span> ",
                escape(&series.name)
            );
        }
        legend.push_str("</p>\n");
        legend
    }
}

fn line(series: &Series, color: &str, x: &Span, y: &Span) -> String {
    let shown = || series.points.iter().filter(|(a, b)| x.shows(*a) && y.shows(*b));
    let places: Vec<String> =
        shown().map(|(a, b)| format!("{:.1},{:.1}", x.at(*a), y.at(*b))).collect();
    let dash = if series.is_dashed { " stroke-dasharray=\"6 4\"" } else { "" };
    let mut svg = format!(
        "<polyline fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"{dash} points=\"{}\"/>\n",
        places.join(" ")
    );
    // Dots where there are few points, each with its figures on hovering.
    if !series.is_dashed && places.len() <= 32 {
        for (a, b) in shown() {
            let _ = writeln!(
                svg,
                "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"{color}\"><title>{}: {} at {}</title>\
                 </circle>",
                x.at(*a),
                y.at(*b),
                escape(&series.name),
                short(*b),
                short(*a)
            );
        }
    }
    svg
}

/// Text in a page.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(scale: Scale) -> Axis {
        Axis { label: "x", scale, ticks: None }
    }

    #[test]
    fn ticks_are_round_numbers() {
        let span = Span::new(&axis(Scale::Linear), [7.0, 930.0].into_iter(), 0.0, 100.0);
        let names: Vec<_> = span.ticks().into_iter().map(|(_, name)| name).collect();
        assert_eq!(names, ["0", "200", "400", "600", "800"]);
        let span = Span::new(&axis(Scale::Log), [7.0, 93_000.0].into_iter(), 0.0, 100.0);
        let names: Vec<_> = span.ticks().into_iter().map(|(_, name)| name).collect();
        assert_eq!(names, ["1", "10", "100", "1k", "10k", "100k"]);
        assert_eq!((span.at(1.0), span.at(100_000.0)), (0.0, 100.0));
    }

    #[test]
    fn any_values_can_be_drawn() {
        for scale in [Scale::Linear, Scale::Log] {
            for points in
                [vec![], vec![(0.0, 0.0)], vec![(1.0, f64::NAN), (5.0, 5.0)], vec![(3.0, 3.0)]]
            {
                let series = vec![Series { name: "<a>".into(), points, is_dashed: false }];
                let svg = Chart { x: axis(scale), y: axis(scale), series }.svg();
                assert!(
                    !svg.contains("NaN") && !svg.contains("inf") && !svg.contains("<a>"),
                    "{svg}"
                );
            }
        }
    }
}
