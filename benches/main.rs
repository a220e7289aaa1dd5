//! How fast and how small: each figure measured on this machine, beside what one would use instead.
//!
//!     make bench                      every figure; writes the table in docs/performance.md (45 minutes)
//!     make bench FIGURE=failover      one, without the table; FIGURE="--record failover" writes its lines
//!
//! Needs what the laboratory needs, and keepalived.

mod bed;
mod figures;
mod report;

use std::{path::Path, process::ExitCode, time::Instant};

use drcm::lab;
use report::Report;

/// Measures, and says what it found.
type Figure = fn(&mut Report);

/// In the order of the table.
const FIGURES: [(&str, Figure); 10] = [
    ("failover", figures::failover::run),
    ("hand-over", figures::hand_over::run),
    ("thousand", figures::thousand::run),
    ("rest", figures::rest::run),
    ("growth", figures::growth::run),
    ("stillness", figures::stillness::run),
    ("start", figures::start::run),
    ("configuration", figures::configuration::run),
    ("instructions", figures::instructions::run),
    ("size", figures::size::run),
];

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let order: Vec<&str> = FIGURES.iter().map(|(name, _)| *name).collect();
    let (mut chosen, mut recorded) = (Vec::new(), false);
    for word in &wanted {
        match word.as_str() {
            "all" => {
                chosen.extend(FIGURES);
                recorded = true;
            }
            "--record" => recorded = true,
            name => match FIGURES.iter().find(|(figure, _)| *figure == name) {
                Some(figure) => chosen.push(*figure),
                None => {
                    eprintln!("bench: there is no figure {name}; there are: all, {}", order.join(", "));
                    return ExitCode::from(2);
                }
            },
        }
    }
    if chosen.is_empty() {
        eprintln!("usage: bench [--record] all|FIGURE ...\nfigures: {}", order.join(", "));
        return ExitCode::from(2);
    }
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/performance.md");
    let mut missed = Vec::new();
    for (name, figure) in chosen {
        println!("{name}");
        let (start, stolen, mut report) = (Instant::now(), lab::stolen(), Report::default());
        figure(&mut report);
        let (took, stolen) = (start.elapsed(), lab::stolen().saturating_sub(stolen));
        // A virtual machine that is not given its processors is late, and so is all that it measures.
        let share = 100.0 * stolen.as_secs_f64() / took.as_secs_f64();
        println!("    {took:.0?}, of which a processor was taken away for {stolen:.1?}");
        missed.extend(report.missed().iter().cloned());
        if recorded {
            let made = format!("{}, {} ({share:.0} %)", jiff::Zoned::now().date(), env!("CARGO_PKG_VERSION"));
            let rows: Vec<String> = report.rows().iter().map(|row| format!("| {name} | {row} | {made} |")).collect();
            let heading = format!(
                "Measured on {}. In the last column, how much of a processor others on the host took away meanwhile.\n\n\
                 | figure | what | drcm: median (least to most) | beside it | ratio | goal | when, version |\n|---|---|---|---|---|---|---|",
                lab::processors()
            );
            lab::record(&document, "make bench", &order, name, &heading, &rows).unwrap();
        }
    }
    for goal in &missed {
        println!("missed: {goal}");
    }
    ExitCode::SUCCESS
}
