//! The text format of Prometheus, version 0.0.4.
//!
//! Written by hand although there are crates: those keep registries of live counters, and what is shown here is counted
//! elsewhere already; what is left is a few lines of text.

use std::fmt::{Display, Write};

use engine::HistogramSnapshot;

/// A page of metrics in the making.
#[derive(Debug, Default)]
pub(crate) struct Page(String);

impl Page {
    /// One family with one series and no labels.
    pub(crate) fn single(&mut self, name: &str, kind: Kind, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.series(name, &[], value);
    }

    /// Begin a family; its series follow.
    pub(crate) fn family(&mut self, name: &str, kind: Kind, help: &str) {
        writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {}", kind.name())
            .expect("a string takes any text");
    }

    /// One series of the family that was begun last.
    pub(crate) fn series(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        self.labels(labels);
        writeln!(self.0, " {value}").expect("a string takes any text");
    }

    /// A family that is one histogram.
    pub(crate) fn histogram(&mut self, name: &str, help: &str, histogram: &HistogramSnapshot) {
        self.family(name, Kind::Histogram, help);
        let bucket = format!("{name}_bucket");
        for (bound, count) in histogram.bounds.iter().zip(&histogram.cumulative) {
            self.series(&bucket, &[("le", &bound.to_string())], count);
        }
        self.series(&bucket, &[("le", "+Inf")], histogram.count);
        self.series(&format!("{name}_sum"), &[], histogram.sum);
        self.series(&format!("{name}_count"), &[], histogram.count);
    }

    fn labels(&mut self, labels: &[(&str, &str)]) {
        for (i, (name, value)) in labels.iter().enumerate() {
            self.0.push(if i == 0 { '{' } else { ',' });
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            write!(self.0, "{name}=\"{value}\"").expect("a string takes any text");
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
    }

    /// The page.
    pub(crate) fn into_text(self) -> String {
        self.0
    }
}

/// The kinds of metrics in use.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by size.
    Histogram,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_what_prometheus_reads() {
        let mut page = Page::default();
        page.single("a_total", Kind::Counter, "things", 3);
        page.family("b", Kind::Gauge, "by state");
        page.series("b", &[("state", "free"), ("odd", "a\"b\\c\nd")], 0.5);
        let histogram =
            HistogramSnapshot { bounds: &[0.25, 1.0], cumulative: vec![1, 2], count: 4, sum: 9.5 };
        page.histogram("c_seconds", "waits", &histogram);
        let want = r#"# HELP a_total things
# TYPE a_total counter
a_total 3
# HELP b by state
# TYPE b gauge
b{state="free",odd="a\"b\\c\nd"} 0.5
# HELP c_seconds waits
# TYPE c_seconds histogram
c_seconds_bucket{le="0.25"} 1
c_seconds_bucket{le="1"} 2
c_seconds_bucket{le="+Inf"} 4
c_seconds_sum 9.5
c_seconds_count 4
"#;
        assert_eq!(page.into_text(), want);
    }
}
