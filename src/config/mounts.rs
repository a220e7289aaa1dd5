//! What this host has for the file systems of a configuration. Never touches a mount: its server may be dead.

use std::{fs, path::Path};

use crate::model::{Driver, FileSystem, MountSource, Resource, is_bind};

use super::finding::{Finding, Severity};

/// What is wrong here for one file system.
pub(super) fn check(resource: &Resource, file_system: &FileSystem, auth_dir: &Path, what: &str, findings: &mut Vec<Finding>) {
    let target = file_system.target.display();
    let words = fs::read_to_string("/etc/fstab").unwrap_or_default();
    if is_mounted_at_boot(&words, &file_system.target) {
        findings.push(
            Finding::new(Severity::Warning, format!("{what}: /etc/fstab mounts {target} as well, on this node and at every boot"))
                .help("remove that line, or give it the option noauto"),
        );
    }
    if !is_mounted(&file_system.target) && fs::symlink_metadata(&file_system.target).is_ok_and(|there| there.is_file()) {
        findings.push(Finding::new(Severity::Error, format!("{what}: {target}, where it is to be mounted, is a file")));
    }
    if resource.driver != Driver::Native {
        return;
    }
    let mount_options = resource.options.mount_options.as_deref();
    let missing = |path: &Path, help: &str| {
        (!path.exists())
            .then(|| Finding::new(Severity::Warning, format!("{what}: this host has no {}", path.display())).help(help.to_owned()))
    };
    let finding = match MountSource::parse(&file_system.source, is_bind(mount_options)) {
        Ok(MountSource::Device(path)) => missing(&path, "`blkid` lists the disks and what is on them"),
        Ok(MountSource::Tag { directory, name }) => {
            missing(&Path::new("/dev/disk").join(directory).join(name), "`blkid` lists the disks and their tags")
        }
        Ok(MountSource::Share { host, .. }) if !needs_no_password(mount_options) => {
            missing(&auth_dir.join(host), "the first mount writes a template of it: fill in username and password")
        }
        Ok(MountSource::Share { .. } | MountSource::Nfs { .. } | MountSource::Directory(_) | MountSource::Memory) | Err(_) => None,
    };
    findings.extend(finding);
}

fn needs_no_password(mount_options: Option<&str>) -> bool {
    let word = |word: &str| word == "guest" || word == "sec=none" || word.starts_with("sec=krb5");
    mount_options.is_some_and(|options| options.split(',').any(|option| word(option.trim())))
}

fn is_mounted(target: &Path) -> bool {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let target = target.to_string_lossy().replace('\\', "\\134").replace(' ', "\\040");
    let target = target.trim_end_matches('/');
    table.lines().filter_map(|line| line.split(' ').nth(4)).any(|mounted| mounted == target)
}

fn is_mounted_at_boot(table: &str, target: &Path) -> bool {
    let lines = table.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    lines.map(|line| line.split_whitespace().collect::<Vec<_>>()).any(|fields| {
        let there = fields.get(1).is_some_and(|field| Path::new(&field.replace("\\040", " ")) == target);
        there && !fields.get(3).is_some_and(|options| options.split(',').any(|option| option == "noauto"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_boot_mounts_is_found_in_fstab() {
        let table = "# h:/data /data nfs defaults\nh:/data /data nfs defaults 0 0\n/dev/vdb /the\\040disk ext4 ro,noauto\nUUID=0 / ext4\n";
        assert!(is_mounted_at_boot(table, Path::new("/data")) && is_mounted_at_boot(table, Path::new("/data/")));
        assert!(!is_mounted_at_boot(table, Path::new("/the disk")) && !is_mounted_at_boot(table, Path::new("/dat")));
    }

    #[test]
    fn the_root_is_mounted() {
        assert!(is_mounted(Path::new("/proc")) && is_mounted(Path::new("/proc/")));
        assert!(!is_mounted(Path::new("/no/such")));
    }

    #[test]
    fn guests_have_no_password() {
        assert!(needs_no_password(Some("vers=3.0, guest")) && needs_no_password(Some("sec=krb5i")));
        assert!(!needs_no_password(Some("sec=ntlmssp")) && !needs_no_password(None));
    }
}
