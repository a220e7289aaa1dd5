//! The keys of the status page: where it is served, and who may look at it.

use std::net::SocketAddr;

use super::{
    auth::secret,
    fields::Fields,
    finding::{Finding, Findings, Severity},
};
use crate::model::{Config, StatusPage};

/// Reads the keys.
pub(super) fn read(fields: &Fields<'_>, findings: &mut Findings<'_>) -> Option<StatusPage> {
    let token = fields.secret("status_token", findings);
    let Some(listen) = fields.unquoted("status_listen", findings) else {
        if let Some(token) = token {
            findings.warning(token.span, "`status_token` has no effect without status_listen", "");
        }
        return None;
    };
    let Some(address) = listen.text.parse::<SocketAddr>().ok().filter(|address| address.port() > 0) else {
        let message = format!("`status_listen` is `{}`, which is no address and port", listen.text);
        findings.error(listen.span, message, "write it like 127.0.0.1:9186 or, for every address of each node, [::]:9186");
        return None;
    };
    if token.is_none() && !address.ip().is_loopback() {
        findings.error(
            listen.span,
            "others could see the whole cluster at `status_listen`: it is no loopback address, and there is no status_token",
            "name a file in auth_dir by status_token, or listen on 127.0.0.1",
        );
    }
    Some(StatusPage { listen: address, token: token.map(|token| token.text) })
}

/// What this host lacks for it.
pub(super) fn check(config: &Config) -> Option<Finding> {
    let name = config.server.status_page.as_ref()?.token.as_ref()?;
    let fault = secret(&config.server.auth_dir.join(name), "status_token").err()?;
    Some(Finding::new(Severity::Warning, fault))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{finding::render, parse_cfg};

    fn parsed(lines: &str) -> Result<(Option<StatusPage>, String), String> {
        let node = "[CM_NODE]\nnodename = a\nhostname = a\nkeep_alive_ip = 10.0.0.1\n";
        let loaded = parse_cfg("t", &format!("[CM_SERVER]\n{lines}\n{node}")).map_err(|report| report.to_string())?;
        Ok((loaded.config.server.status_page.clone(), render(&loaded.findings)))
    }

    #[test]
    fn off_unless_it_is_wanted_and_never_open_to_others() {
        assert_eq!(parsed("").unwrap(), (None, String::new()));
        let (page, said) = parsed("status_listen = 127.0.0.1:9186").unwrap();
        assert_eq!((page, said.as_str()), (Some(StatusPage { listen: "127.0.0.1:9186".parse().unwrap(), token: None }), ""));
        let (page, said) = parsed("status_listen = [::]:9186\nstatus_token = page").unwrap();
        assert_eq!((page.unwrap().token.as_deref(), said.as_str()), (Some("page"), ""));
        assert!(parsed("status_token = page").unwrap().1.contains("no effect"));
        for (lines, fault) in [
            ("status_listen = 0.0.0.0:9186", "others could see"),
            ("status_listen = 9186", "no address and port"),
            ("status_listen = 127.0.0.1:0", "no address and port"),
            ("status_listen = 127.0.0.1:9186\nstatus_token = ../x", "no name of a file"),
        ] {
            let report = parsed(lines).unwrap_err();
            assert!(report.contains(fault), "{lines}: {report}");
        }
    }
}
