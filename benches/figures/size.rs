//! The programs: how large, of how many parts, and how long they take to build from nothing.

use std::{fs, path::Path, process::Command, time::Instant};

use crate::{
    bed::program,
    report::{Report, Spread},
};

pub fn run(report: &mut Report) {
    let mebibytes = |path: &Path| fs::metadata(path).unwrap().len() as f64 / f64::from(1 << 20);
    for name in ["drcm_server", "drcm"] {
        report.row(&format!("size of {name}"), "MiB", &Spread::one(mebibytes(&program(name))), None, &[]);
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let tree = Command::new("cargo")
        .args(["tree", "--locked", "--edges=normal", "--prefix=none", "--format={p}"])
        .current_dir(root)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&tree.stdout).into_owned();
    let mut crates: Vec<&str> = text.lines().map(|line| line.trim_end_matches(" (*)")).filter(|line| !line.is_empty()).collect();
    crates.sort_unstable();
    crates.dedup();
    report.row("crates in them", "crates", &Spread::one(crates.len() as f64 - 1.0), None, &[]);

    let directory = root.join("target/bench-build");
    fs::remove_dir_all(&directory).ok();
    let start = Instant::now();
    let done = Command::new("cargo")
        .args(["build", "--release", "--locked", "--bins", "--quiet", "--target-dir"])
        .arg(&directory)
        .current_dir(root)
        .status()
        .unwrap();
    assert!(done.success(), "the build fails");
    report.row("both built from nothing", "s", &Spread::one(start.elapsed().as_secs_f64()), None, &[]);
    fs::remove_dir_all(&directory).ok();
}
