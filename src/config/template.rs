//! The commented template that `--check-config` puts where a configuration is missing.

use std::{
    fs::{self, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
};

use super::{Format, format_of};

/// The template of a cm.cfg.
pub const CFG_TEMPLATE: &str = include_str!("template.cfg");
/// The template of a cm.toml.
pub const TOML_TEMPLATE: &str = include_str!("template.toml");

/// Writes the template for a configuration of this name, whole or not at all, with mode 0644.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] when something is there (it is never overwritten), else what kept it from being written.
pub fn write_template(path: &Path) -> io::Result<()> {
    let text = match format_of(path) {
        Format::Toml => TOML_TEMPLATE,
        Format::Cfg => CFG_TEMPLATE,
    };
    let name = path.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the path names no file"))?;
    let mut draft_name = std::ffi::OsString::from(".");
    draft_name.push(name);
    draft_name.push(format!(".{}.new", std::process::id()));
    let draft = path.with_file_name(draft_name);
    let written = fill(&draft, text).and_then(|()| publish(&draft, path));
    let removed = fs::remove_file(&draft);
    match written {
        Ok(()) => removed,
        Err(error) => Err(error),
    }
}

fn fill(draft: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(draft)?;
    file.write_all(text.as_bytes())?;
    // The umask has been taken off the mode above.
    file.set_permissions(Permissions::from_mode(0o644))?;
    file.sync_all()
}

/// Gives the finished file its name; unlike a rename, a link never replaces what is there.
fn publish(draft: &Path, path: &Path) -> io::Result<()> {
    fs::hard_link(draft, path)?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::{super::keys, *};
    use crate::{
        config::{parse_cfg, parse_toml},
        model::Kind,
    };

    #[test]
    fn both_templates_mean_the_same_and_nothing_is_wrong_with_them() {
        let cfg = parse_cfg("cm.cfg", CFG_TEMPLATE).unwrap();
        let toml = parse_toml("cm.toml", TOML_TEMPLATE).unwrap();
        assert_eq!(cfg.findings, []);
        assert_eq!(toml.findings, []);
        assert_eq!(cfg.config, toml.config);
    }

    #[test]
    fn every_key_is_shown_with_its_default() {
        let shown = |text: &str, name: &str| {
            text.lines().any(|line| line.trim_start_matches(['#', ' ']).split('=').next().is_some_and(|key| key.trim() == name))
        };
        for key in keys::SERVER.iter().chain(keys::NODE) {
            assert!(shown(CFG_TEMPLATE, key.name), "{}", key.name);
            let name = if key.is_list() { key.aliases.first().unwrap_or(&key.name) } else { key.name };
            assert!(shown(TOML_TEMPLATE, name), "{name}");
        }
        for kind in Kind::ALL {
            for key in keys::resource(kind) {
                assert!(shown(TOML_TEMPLATE, key.name), "{}", key.name);
            }
        }
        for key in keys::OPTIONS {
            assert!(TOML_TEMPLATE.contains(key.name), "{}", key.name);
        }
        let mut server = super::super::server::default_server();
        server.dead_node_count = 15;
        assert_eq!(parse_cfg("t", CFG_TEMPLATE).unwrap().config.server, server);
    }

    #[test]
    fn a_template_is_written_once() {
        let dir = std::env::temp_dir().join(format!("drcm-template-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let path = dir.join("cm.cfg");
        write_template(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o644);
        fs::write(&path, "mine").unwrap();
        assert_eq!(write_template(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
        assert_eq!(write_template(&dir.join("none/cm.cfg")).unwrap_err().kind(), io::ErrorKind::NotFound);
        fs::remove_dir_all(&dir).unwrap();
    }
}
