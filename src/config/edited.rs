//! Stock scripts that the administrator has edited on this node: then they do the work, not the daemon's own drivers.

use std::{collections::BTreeMap, fs::File, io::Read as _, path::Path, sync::Arc};

use super::{Finding, Loaded, Severity};
use crate::model::{Driver, StockScript};

/// Replaces the native driver of every resource whose stock script in `directory` is not what we ship. A missing script
/// has not been edited, and neither has one that cannot be read.
pub(super) fn apply(loaded: &mut Loaded, directory: &Path) {
    let mut edited: BTreeMap<StockScript, bool> = BTreeMap::new();
    let config = Arc::make_mut(&mut loaded.config);
    for resource in config.resources.iter_mut().filter(|resource| resource.driver == Driver::Native) {
        let Some(stock) = StockScript::of_spec(&resource.spec) else { continue };
        let path = directory.join(stock.name());
        let known = edited.len();
        if *edited.entry(stock).or_insert_with(|| is_edited(stock, &path)) {
            if edited.len() > known {
                loaded.findings.push(
                    Finding::new(
                        Severity::Info,
                        format!("{} differs from the one shipped: it is used instead of the native driver", path.display()),
                    )
                    .help("remove it to have the native driver"),
                );
            }
            resource.driver = Driver::Script(path);
        }
    }
}

fn is_edited(stock: StockScript, path: &Path) -> bool {
    let shipped = stock.text().as_bytes();
    let mut found = Vec::with_capacity(shipped.len() + 1);
    // One byte more than ours is enough to tell.
    let read = File::open(path).and_then(|file| file.take(shipped.len() as u64 + 1).read_to_end(&mut found));
    read.is_ok() && found != shipped
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::config::parse_cfg;

    #[test]
    fn an_edited_stock_script_is_used_and_others_are_not() {
        let directory = std::env::temp_dir().join(format!("drcm-edited-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("service.sh"), format!("{}\n# ours", StockScript::Service.text())).unwrap();
        fs::write(directory.join("ipv4addr.sh"), StockScript::Address.text()).unwrap();
        let text = "[CM_IPADDRS]\nip, 10.0.0.9, 24, eth0, /etc/drcm/resources/ipv4addr.sh\n\
            [CM_SERVICES]\nweb, nginx, /etc/drcm/resources/service.sh\nmail, exim, /opt/mail.sh\n\
            [CM_NODE]\nnodename = a\nhostname = a\nkeep_alive_ip = 10.0.0.1\nnode_floating_ip_addrs = ip\nnode_services = web, mail\n";
        let mut loaded = parse_cfg("cm.cfg", text).unwrap();
        let fingerprint = loaded.config.fingerprint;
        let before = loaded.findings.len();
        let drivers = |loaded: &Loaded| loaded.config.resources.iter().map(|resource| resource.driver.clone()).collect::<Vec<_>>();
        assert_eq!(drivers(&loaded), [Driver::Native, Driver::Native, Driver::Script("/opt/mail.sh".into())]);
        apply(&mut loaded, &directory);
        assert_eq!(drivers(&loaded), [Driver::Native, Driver::Script(directory.join("service.sh")), Driver::Script("/opt/mail.sh".into())]);
        assert_eq!(loaded.findings.len(), before + 1);
        // Another node may have it as shipped: that is no other configuration.
        assert_eq!(loaded.config.fingerprint, fingerprint);
        fs::remove_dir_all(&directory).unwrap();
    }
}
