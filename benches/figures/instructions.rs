//! What the same work costs in instructions: the same on any machine, however busy, so that a change for the worse shows.

use std::{fs, process::Command};

use drcm::lab::{Lab, Plan};

use crate::{
    bed::daemon,
    report::{Report, Spread},
};

pub fn run(report: &mut Report) {
    let lab = Lab::new(Plan::of(3), &daemon()).unwrap();
    let file = lab.node(0).config().display().to_string();
    for (what, arguments) in [("--version", vec!["--version"]), ("--check-config of the demonstration", vec!["--check-config"])] {
        let counted = lab.directory().join("callgrind");
        let said = Command::new("valgrind")
            .args(["--tool=callgrind", &format!("--callgrind-out-file={}", counted.display())])
            .arg(daemon())
            .arg(format!("--config-file={file}"))
            .args(&arguments)
            .output()
            .unwrap();
        assert!(matches!(said.status.code(), Some(0 | 2)), "{said:?}");
        let text = fs::read_to_string(&counted).unwrap();
        let total =
            text.lines().find_map(|line| line.strip_prefix("summary: ")).unwrap_or_else(|| panic!("no count in {}", counted.display()));
        let instructions: f64 = total.trim().parse().unwrap();
        report.row(&format!("drcm_server {what}"), "million instructions", &Spread::one(instructions / 1e6), None, &[]);
    }
}
