//! The figures of a run: medians over the rounds, as a table and as JSON.

use std::fmt;

/// Figures by name, most with one value a round.
#[derive(Debug)]
pub(super) struct Report {
    n_rounds: usize,
    figures: Vec<Figure>,
}

#[derive(Debug)]
struct Figure {
    name: String,
    unit: &'static str,
    values: Vec<f64>,
}

/// Some values, the lowest first.
pub(super) fn sorted(values: &[f64]) -> Vec<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values
}

/// The median of one value or more.
pub(super) fn median(values: &[f64]) -> f64 {
    let sorted = sorted(values);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) }
}

impl Report {
    pub(super) fn new(n_rounds: usize) -> Report {
        Report { n_rounds, figures: Vec::new() }
    }

    /// Note a value of the figure `name`.
    pub(super) fn add(&mut self, name: &str, unit: &'static str, value: f64) {
        match self.figures.iter_mut().find(|figure| figure.name == name) {
            Some(figure) => figure.values.push(value),
            None => self.figures.push(Figure { name: name.to_owned(), unit, values: vec![value] }),
        }
    }

    pub(super) fn to_json(&self) -> String {
        let figures: serde_json::Map<String, serde_json::Value> = self
            .figures
            .iter()
            .map(|figure| {
                let value = serde_json::json!({
                    "unit": figure.unit,
                    "median": median(&figure.values),
                    "values": figure.values,
                });
                (figure.name.clone(), value)
            })
            .collect();
        serde_json::json!({ "n_rounds": self.n_rounds, "figures": figures }).to_string() + "\n"
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "medians of {} rounds (lowest … highest)", self.n_rounds)?;
        for figure in &self.figures {
            let sorted = sorted(&figure.values);
            let (low, high) = (sorted[0], sorted[sorted.len() - 1]);
            let Figure { name, unit, .. } = figure;
            write!(f, "  {name:<72}{:>10.2} {unit}", median(&figure.values))?;
            match sorted.len() {
                1 => writeln!(f)?,
                n if n == self.n_rounds => writeln!(f, "  ({low:.2} … {high:.2})")?,
                n => writeln!(f, "  ({low:.2} … {high:.2} of {n})")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_the_median_of_its_values() {
        let mut report = Report::new(4);
        for value in [4.0, 1.0, 3.0, 2.0] {
            report.add("rate", "tokens/s", value);
        }
        assert!(report.to_string().contains("2.50 tokens/s  (1.00 … 4.00)"), "{report}");
        report.add("rate", "tokens/s", 3.5);
        report.add("rate of one value", "tokens/s", 7.0);
        let printed = report.to_string();
        assert!(printed.contains("3.00 tokens/s  (1.00 … 4.00 of 5)\n"), "{printed}");
        assert!(printed.contains("7.00 tokens/s\n"), "{printed}");
        let json: serde_json::Value = serde_json::from_str(&report.to_json()).unwrap();
        assert_eq!(json["figures"]["rate"]["median"], 3.0);
    }
}
