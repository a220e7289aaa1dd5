//! Every input that is kept in fuzz/corpus, given to its target: an input that once broke something must not do so again,
//! on machines without a fuzzer too.

mod targets;

use std::{fs, path::Path};

use targets::{TARGETS, run};

/// Inputs of one target that are kept at most.
const KEPT: usize = 200;

fn replay(target: &str) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut paths: Vec<_> = fs::read_dir(&directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    assert!((10..=KEPT).contains(&paths.len()), "{} keeps {} inputs", directory.display(), paths.len());
    run(target, &[]);
    for path in paths {
        println!("{}", path.display());
        run(target, &fs::read(&path).unwrap());
    }
}

macro_rules! replays {
    ($($target:ident)*) => {
        $(#[test]
        fn $target() {
            replay(stringify!($target));
        })*

        #[test]
        fn every_target_has_its_replay() {
            assert_eq!(TARGETS.map(|(name, _)| name).as_slice(), [$(stringify!($target)),*]);
        }
    };
}

replays! { auth channel check cluster config_cfg config_toml datagram question records }
