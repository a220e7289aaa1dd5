//! The manual pages and completions, as `make man` writes them and `scripts/install` puts them in place.

#[path = "../examples/manual/pages.rs"]
mod pages;

use std::{fs, path::Path, process::Command};

#[test]
fn pages_and_completions_are_written_from_the_arguments_and_installed() {
    let place = std::env::temp_dir().join(format!("drcm-manual-{}", std::process::id()));
    let manual = place.join("manual");
    pages::write(&manual).unwrap();
    let [people, _] = drcm::cli::commands();
    for command in people.get_subcommands().filter(|command| command.get_name() != "help") {
        let page = fs::read_to_string(manual.join(format!("man1/drcm-{}.1", command.get_name()))).unwrap();
        for word in [".SH NAME", ".SH SYNOPSIS", ".SH \"EXAMPLES\"", "drcm_server(8)"] {
            assert!(page.contains(word), "{}: {word}\n{page}", command.get_name());
        }
        // Nothing is a request by accident.
        let requests = ["TH", "SH", "SS", "PP", "TP", "nf", "fi", "ie", "el", "RS", "RE", "br", "IP", "SY", "YS", "ds", "sp"];
        for line in page.lines().filter(|line| line.starts_with(['.', '\''])) {
            assert!(requests.contains(&&line[1..3]), "{}: {line}", command.get_name());
        }
    }
    let page = fs::read_to_string(manual.join("man8/drcm_server.8")).unwrap();
    assert!(page.contains(".SH \"EXIT CODES\"") && page.contains("check\\-config"), "{page}");
    assert!(fs::read_to_string(manual.join("man1/drcm-what-if-node.1")).is_ok());
    let reference = fs::read_to_string(manual.join("configuration.md")).unwrap();
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    assert!(fs::read_to_string(kept).unwrap() == reference, "docs/configuration.md is not what `make reference` makes");
    for file in ["bash/drcm", "zsh/_drcm", "fish/drcm.fish", "bash/drcm_server", "zsh/_drcm_server", "fish/drcm_server.fish"] {
        let text = fs::read_to_string(manual.join(file)).unwrap();
        assert!(text.contains(if file.contains("server") { "check-config" } else { "what-if" }), "{file}");
    }
    let good = Command::new("bash").args(["-c", ". \"$1/bash/drcm\" && complete -p drcm", "bash"]).arg(&manual).output().unwrap();
    assert!(good.status.success(), "{good:?}");

    let (root, build) = (place.join("root"), place.join("build"));
    fs::create_dir_all(&build).unwrap();
    for program in ["drcm", "drcm_server"] {
        fs::write(build.join(program), "").unwrap();
    }
    let installed = Command::new("bash")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/install"))
        .args([root.as_os_str(), "/usr/lib/systemd/system".as_ref(), build.as_os_str(), manual.as_os_str()])
        .output()
        .unwrap();
    assert!(installed.status.success(), "{installed:?}");
    for file in [
        "usr/share/man/man1/drcm-status.1",
        "usr/share/man/man8/drcm_server.8",
        "usr/share/bash-completion/completions/drcm",
        "usr/share/zsh/site-functions/_drcm",
        "usr/share/fish/vendor_completions.d/drcm_server.fish",
    ] {
        assert!(root.join(file).is_file(), "{file}");
    }
    let removed = Command::new("bash")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/install"))
        .args(["--remove".as_ref(), root.as_os_str(), "/usr/lib/systemd/system".as_ref()])
        .output()
        .unwrap();
    assert!(removed.status.success(), "{removed:?}");
    for file in ["usr/share/man/man1/drcm-what-if-node.1", "usr/share/man/man8/drcm_server.8", "usr/share/zsh/site-functions/_drcm"] {
        assert!(!root.join(file).exists(), "{file}");
    }
    fs::remove_dir_all(&place).unwrap();
}
