//! Which nodes answer, line by line, and a summary.

use std::{fmt::Write, time::Duration};

use super::output::printable;
use crate::model::NodeConfig;

/// What became of one question to one node: the round trip, or why there was no answer.
pub type Echo = Result<Duration, String>;

/// One line per node: `ping NAME@IP successful` or `ping NAME@IP failed: REASON`.
#[must_use]
pub fn render_round(round: &[(&NodeConfig, Echo)]) -> String {
    let mut text = String::new();
    for (node, echo) in round {
        let (name, ip) = (&node.name, node.keep_alive_ip);
        // Writing to a String cannot fail.
        let _ = match echo {
            Ok(_) => writeln!(text, "ping {name}@{ip} successful"),
            Err(reason) => writeln!(text, "ping {name}@{ip} failed: {}", printable(reason)),
        };
    }
    text
}

/// The last line, over all rounds.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    asked: u32,
    trips: Vec<Duration>,
}

impl Summary {
    /// Counts a round.
    pub fn add(&mut self, round: &[(&NodeConfig, Echo)]) {
        for (_, echo) in round {
            self.asked += 1;
            self.trips.extend(echo.as_ref().ok());
        }
    }

    /// Every question was answered.
    #[must_use]
    pub fn all_answered(&self) -> bool {
        self.trips.len() == self.asked as usize
    }

    /// `ping: 3 of 3 answered, round trip min/avg/max 0.21/0.30/0.42 ms`.
    #[must_use]
    pub fn render(&self) -> String {
        let answered = self.trips.len();
        let mut text = format!("ping: {answered} of {} answered", self.asked);
        if let (Some(least), Some(most)) = (self.trips.iter().min(), self.trips.iter().max()) {
            let sum: Duration = self.trips.iter().sum();
            let mean = sum.as_secs_f64() / answered as f64;
            let [least, mean, most] = [least.as_secs_f64(), mean, most.as_secs_f64()].map(|seconds| seconds * 1000.0);
            // Writing to a String cannot fail.
            let _ = write!(text, ", round trip min/avg/max {least:.2}/{mean:.2}/{most:.2} ms");
        }
        text.push('\n');
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::fixture::three_nodes;

    #[test]
    fn a_line_each_and_a_summary() {
        let config = three_nodes();
        let round: Vec<(&NodeConfig, Echo)> = vec![
            (&config.nodes[0], Ok(Duration::from_micros(200))),
            (&config.nodes[1], Err("no answer within 1 s".into())),
            (&config.nodes[2], Ok(Duration::from_micros(400))),
        ];
        assert_eq!(
            render_round(&round),
            "ping cmnode1@10.0.0.1 successful\nping cmnode2@10.0.0.2 failed: no answer within 1 s\nping cmnode3@10.0.0.3 successful\n"
        );
        let mut summary = Summary::default();
        summary.add(&round);
        assert!(!summary.all_answered());
        assert_eq!(summary.render(), "ping: 2 of 3 answered, round trip min/avg/max 0.20/0.30/0.40 ms\n");
    }

    #[test]
    fn nobody_answers() {
        let config = three_nodes();
        let mut summary = Summary::default();
        summary.add(&[(&config.nodes[0], Err("refused".into()))]);
        assert_eq!(summary.render(), "ping: 0 of 1 answered\n");
    }
}
