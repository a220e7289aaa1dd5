//! What the figures found, and how it is told.

use std::time::Duration;

/// Times or other figures that were measured again and again.
#[derive(Clone, Debug)]
pub struct Spread(Vec<f64>);

impl Spread {
    pub fn of(mut figures: Vec<f64>) -> Self {
        assert!(!figures.is_empty(), "nothing was measured");
        figures.sort_unstable_by(f64::total_cmp);
        Self(figures)
    }

    /// In milliseconds.
    pub fn of_times(times: &[Duration]) -> Self {
        Self::of(times.iter().map(|time| time.as_secs_f64() * 1000.0).collect())
    }

    pub fn one(figure: f64) -> Self {
        Self(vec![figure])
    }

    pub fn median(&self) -> f64 {
        self.0[self.0.len() / 2]
    }

    pub fn worst(&self) -> f64 {
        self.0[self.0.len() - 1]
    }

    /// Median, and from the least to the greatest.
    fn words(&self, unit: &str) -> String {
        let (least, most) = (self.0[0], self.worst());
        if self.0.len() == 1 {
            format!("{} {unit}", number(least))
        } else {
            format!("{} {unit} ({} to {})", number(self.median()), number(least), number(most))
        }
    }
}

fn number(figure: f64) -> String {
    match figure.abs() {
        0.0 => "0".to_owned(),
        size if size < 10.0 => format!("{figure:.2}"),
        size if size < 100.0 => format!("{figure:.1}"),
        _ => format!("{figure:.0}"),
    }
}

/// What is asked of a figure.
#[derive(Clone, Copy, Debug)]
pub enum Goal {
    /// The median, at most.
    Median(f64),
    /// The worst, at most.
    Worst(f64),
    /// Of the median of what it is compared with, at most this part.
    Ratio(f64),
}

/// A figure's lines.
#[derive(Default)]
pub struct Report {
    rows: Vec<String>,
    missed: Vec<String>,
}

impl Report {
    /// One line: what was measured in which unit, ours, and what the other needs (its name and figures) where there is another.
    pub fn row(&mut self, what: &str, unit: &str, ours: &Spread, other: Option<(&str, &Spread)>, goals: &[Goal]) {
        let beside = other.map_or_else(String::new, |(name, spread)| format!("{name}: {}", spread.words(unit)));
        let ratio = other.map(|(_, spread)| ours.median() / spread.median());
        let mut met = Vec::new();
        for goal in goals {
            let (words, is) = match *goal {
                Goal::Median(most) => (format!("median at most {} {unit}", number(most)), ours.median() <= most),
                Goal::Worst(most) => (format!("at most {} {unit}", number(most)), ours.worst() <= most),
                Goal::Ratio(most) => (format!("ratio at most {most}"), ratio.is_some_and(|ratio| ratio <= most)),
            };
            if !is {
                self.missed.push(format!("{what}: {words}"));
            }
            met.push(format!("{words}: {}", if is { "met" } else { "**missed**" }));
        }
        let ratio = ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}"));
        let row = format!("{what} | {} | {beside} | {ratio} | {}", ours.words(unit), met.join("; "));
        println!("    {row}");
        self.rows.push(row);
    }

    pub fn rows(&self) -> &[String] {
        &self.rows
    }

    pub fn missed(&self) -> &[String] {
        &self.missed
    }
}
