//! Whole machines: what depends on a kernel of its own is proven in virtual ones. Network mounts, power failures, reboots, clocks.
//!
//!     make vm-test                   every scenario; writes the table in docs/vm-tests.md
//!     make vm-test SCENARIO=short    the short set
//!     make vm-test SCENARIO=nfs      one
//!
//! Needs root, qemu and what `scripts/setup vm` installs.

mod lab;
mod scenarios;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    process::ExitCode,
    time::Instant,
};

use lab::{Image, Prepared, Report};

/// A story, told with machines. It panics where it does not come out as it should.
type Scenario = fn(&Image) -> Report;

/// In the order in which they run. The first four are the short set.
const SCENARIOS: [(&str, Scenario); 15] = [
    ("boot", scenarios::boot::run),
    ("nfs", scenarios::nfs::run),
    ("cifs", scenarios::cifs::run),
    ("power-off", scenarios::power_off::run),
    ("server-gone", scenarios::server_gone::run),
    ("busy", scenarios::busy::run),
    ("reboot", scenarios::reboot::run),
    ("split", scenarios::split::run),
    ("watchdog", scenarios::watchdog::run),
    ("cold-start", scenarios::cold_start::run),
    ("clock", scenarios::clock::run),
    ("disk-full", scenarios::disk_full::run),
    ("network-manager", scenarios::network_manager::run),
    ("upgrade", scenarios::upgrade::run),
    ("followers", scenarios::followers::run),
];
const SHORT: usize = 4;

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let order: Vec<&str> = SCENARIOS.iter().map(|(name, _)| *name).collect();
    let (mut chosen, mut record) = (Vec::new(), false);
    for word in &wanted {
        match word.as_str() {
            "all" => {
                chosen.extend(SCENARIOS);
                record = true;
            }
            "short" => chosen.extend(&SCENARIOS[..SHORT]),
            "--record" => record = true,
            name => match SCENARIOS.iter().find(|(scenario, _)| *scenario == name) {
                Some(scenario) => chosen.push(*scenario),
                None => {
                    eprintln!("vm-tests: there is no scenario {name}; there are: all, short, {}", order.join(", "));
                    return ExitCode::from(2);
                }
            },
        }
    }
    if chosen.is_empty() {
        eprintln!("usage: vm-tests [--record] all|short|SCENARIO ...\nscenarios: {}", order.join(", "));
        return ExitCode::from(2);
    }
    let image = Image::ready();
    println!("machines: {:?}", image.accelerator);
    // Not within the time of the first scenario.
    Prepared::ready(&image);
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/vm-tests.md");
    let mut failed = Vec::new();
    for (name, scenario) in chosen {
        println!("{name}");
        let start = Instant::now();
        match catch_unwind(AssertUnwindSafe(|| scenario(&image))) {
            Ok(report) => {
                println!("    ok after {:.0?}", start.elapsed());
                if record {
                    lab::record(&document, &order, name, &report, &image);
                }
            }
            Err(_) => {
                println!("    FAILED after {:.0?}", start.elapsed());
                failed.push(name);
            }
        }
    }
    if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        println!("failed: {}", failed.join(", "));
        ExitCode::FAILURE
    }
}
