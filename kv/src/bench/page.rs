//! A run as one page that needs nothing else: no script, no font, no request.

use std::fmt::Write as _;

use super::chart::{Axis, Chart, Scale, Series, escape};
use super::record::STEP;
use super::report::{COLUMNS, Point, Report, time};

const STYLE: &str = "
:root { color-scheme: light dark; --grid: #8884; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 760px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; margin-bottom: 0; }
h2 { font-size: 1.1rem; margin: 2rem 0 .3rem; }
svg { width: 100%; height: auto; }
svg text { font-size: 11px; fill: currentColor; }
svg .label { font-size: 12px; opacity: .8; }
.grid { stroke: var(--grid); }
.legend span { margin-right: 1.2em; white-space: nowrap; }
.legend i { display: inline-block; width: 22px; margin-right: 6px; vertical-align: middle; }
.note { opacity: .8; margin: .2rem 0; }
.warning { background: #dc2626; color: #fff; padding: .5rem .8rem; font-weight: 600; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
td, th { padding: .15rem .6rem; text-align: right; border-bottom: 1px solid var(--grid); }
.wide td { white-space: nowrap; }
.facts td, .facts th { text-align: left; }
";

impl Report {
    pub(super) fn html(&self) -> String {
        let mut page = format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <link rel=\"icon\" href=\"data:,\">\n<title>raftkv bench {}</title>\n\
             <style>{STYLE}</style>\n</head>\n<body>\n<h1>raftkv bench {}</h1>\n\
             <p class=\"note\">{}</p>\n",
            escape(self.options.workload.name()),
            escape(self.options.workload.name()),
            escape(&self.title())
        );
        if self.sync() == "NOT SYNCED" {
            page.push_str(
                "<p class=\"warning\">NOT SYNCED: a power failure may lose what these figures \
                 count as done.</p>\n",
            );
        }
        if !self.verdict.wrong.is_empty() {
            let line = escape(&self.verdict_line());
            let _ = writeln!(page, "<p class=\"warning\">{line}</p>");
        }
        let note = escape(self.sync());
        let charts = [
            ("Throughput against clients", self.throughput()),
            ("Latency against clients", self.latency()),
            ("Latency curve", self.curve()),
            ("Throughput over time", self.timeline()),
        ];
        for (title, chart) in charts {
            let _ = writeln!(page, "<h2>{title} <small>({note})</small></h2>\n{}", chart.svg());
        }
        self.write_table(&mut page);
        self.write_facts(&mut page);
        page.push_str("</body>\n</html>\n");
        page
    }

    /// The numbers of clients that were measured, as lines of a chart.
    fn client_ticks(&self) -> Axis {
        let ticks = self.points.iter().map(|point| point.clients);
        let ticks = ticks.map(|n| (n as f64, n.to_string())).collect();
        Axis { label: "clients", scale: Scale::Log, ticks: Some(ticks) }
    }

    fn throughput(&self) -> Chart {
        let at = |point: &Point| point.clients as f64;
        let measured = self.points.iter().map(|point| (at(point), point.measured.per_second));
        let mut series = vec![Series {
            name: "requests/s".into(),
            points: measured.collect(),
            is_dashed: false,
        }];
        if let Some(floor) = self.floor.filter(|floor| floor.sync > 0) {
            // What a store would reach that synced each request by itself.
            let rate = 1e9 / floor.sync as f64;
            let points = self.points.iter().map(|point| (at(point), rate)).collect();
            let name = "one 4 KiB sync a request, one after the other".into();
            series.push(Series { name, points, is_dashed: true });
        }
        let y = Axis { label: "requests/s", scale: Scale::Log, ticks: None };
        Chart { x: self.client_ticks(), y, series }
    }

    fn latency(&self) -> Chart {
        let line = |(percent, name): (f64, &str)| Series {
            name: name.into(),
            points: self
                .points
                .iter()
                .map(|point| (point.clients as f64, point.measured.at(percent) as f64 / 1e3))
                .collect(),
            is_dashed: false,
        };
        let mut series: Vec<Series> = COLUMNS.into_iter().map(line).collect();
        if let Some(floor) = self.floor {
            let at = floor.sync as f64 / 1e3;
            let points = self.points.iter().map(|point| (point.clients as f64, at)).collect();
            series.push(Series { name: "one 4 KiB sync".into(), points, is_dashed: true });
        }
        let y = Axis { label: "latency, µs", scale: Scale::Log, ticks: None };
        Chart { x: self.client_ticks(), y, series }
    }

    /// By how rare a latency is: 90 %, 99 %, 99.9 % are one step each.
    fn curve(&self) -> Chart {
        let rarity = |percent: f64| 100.0 / (100.0 - percent);
        let shown = |percent: &f64| *percent < 100.0;
        let series = self.points.iter().map(|Point { clients, measured }| {
            let points = measured.percentiles.iter().filter(|(percent, _)| shown(percent));
            Series {
                name: clients_named(*clients),
                points: points.map(|(at, nanos)| (rarity(*at), *nanos as f64 / 1e3)).collect(),
                is_dashed: false,
            }
        });
        let ticks = [0.0, 50.0, 90.0, 99.0, 99.9, 99.99, 99.999];
        let ticks = ticks.map(|percent| (rarity(percent), format!("{percent}"))).to_vec();
        Chart {
            x: Axis { label: "percent of requests", scale: Scale::Log, ticks: Some(ticks) },
            y: Axis { label: "latency within, µs", scale: Scale::Log, ticks: None },
            series: series.collect(),
        }
    }

    fn timeline(&self) -> Chart {
        let series = self.points.iter().map(|Point { clients, measured }| {
            let steps = (0..).map(|n| f64::from(n) * STEP.as_secs_f64());
            Series {
                name: clients_named(*clients),
                points: steps.zip(measured.timeline.iter().copied()).collect(),
                is_dashed: false,
            }
        });
        Chart {
            x: Axis { label: "seconds", scale: Scale::Linear, ticks: None },
            y: Axis { label: "requests/s", scale: Scale::Linear, ticks: None },
            series: series.collect(),
        }
    }

    fn write_table(&self, page: &mut String) {
        page.push_str("<h2>Figures</h2>\n<div class=\"wide\"><table>\n<tr><th>clients</th>");
        page.push_str("<th>requests/s</th>");
        for (_, name) in COLUMNS {
            let _ = write!(page, "<th>{name}</th>");
        }
        page.push_str("<th>failed</th><th>log</th></tr>\n");
        for Point { clients, measured } in &self.points {
            let _ = write!(page, "<tr><td>{clients}</td><td>{:.0}</td>", measured.per_second);
            for (percent, _) in COLUMNS {
                let _ = write!(page, "<td>{}</td>", time(measured.at(percent)));
            }
            let (failed, sync) = (measured.failures(), escape(self.sync()));
            let _ = writeln!(page, "<td>{failed}</td><td>{sync}</td></tr>");
        }
        page.push_str("</table></div>\n");
    }

    fn write_facts(&self, page: &mut String) {
        page.push_str("<h2>Where and how</h2>\n<table class=\"facts\">\n");
        let rows = self.environment.rows().into_iter().chain([
            ("floor", self.floor_line()),
            ("measured", format!("{} s each", self.options.duration.as_secs_f64())),
            ("warm-up", format!("{} s each", self.options.warm_up.as_secs_f64())),
            ("verified", self.verdict_line()),
        ]);
        for (name, value) in rows {
            let _ = writeln!(page, "<tr><th>{name}</th><td>{}</td></tr>", escape(&value));
        }
        page.push_str("</table>\n");
    }
}

fn clients_named(clients: usize) -> String {
    format!("{clients} client{}", if clients == 1 { "" } else { "s" })
}
