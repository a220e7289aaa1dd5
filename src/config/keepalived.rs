//! keepalived.conf to cm.toml and cm.cfg: the files of the nodes of a VRRP cluster become one configuration, with a finding for each
//! thing that it cannot say. Priorities decide who is home and in which order the others stand in.

mod cluster;
mod read;
mod text;
mod write;

use std::{collections::BTreeSet, net::IpAddr};

use super::{
    ConvertError, convert,
    finding::{Finding, Findings, Report, Severity},
    keys::Format,
    parse_toml,
    source::Source,
};

use cluster::Node;

/// Instances in all files together.
const MOST: usize = 20_000;

/// The keepalived.conf of one node.
#[derive(Clone, Debug)]
pub struct KeepalivedFile {
    /// What findings call it.
    pub name: String,
    /// What it says.
    pub text: String,
    /// The host name and the address of the node, where they are known; else they are looked for in the file.
    pub node: Option<(String, IpAddr)>,
}

/// A configuration made of other files.
#[derive(Clone, Debug)]
pub struct Converted {
    /// Its text, which is without errors.
    pub text: String,
    /// What it does not say, and what was guessed.
    pub findings: Vec<Finding>,
}

/// Who a node is.
struct Host {
    name: String,
    address: IpAddr,
}

/// Makes a configuration of the files of all nodes, one each.
///
/// # Errors
/// [`ConvertError`]: a file that cannot be understood, nodes that nothing is known of, or what the format has no words for.
pub fn from_keepalived(files: &[KeepalivedFile], to: Format) -> Result<Converted, ConvertError> {
    let sources: Vec<Source> = files.iter().map(|file| Source::new(&file.name, Format::Cfg, &file.text)).collect();
    let mut nodes: Vec<Node<'_>> = files
        .iter()
        .zip(&sources)
        .map(|(file, source)| {
            let mut findings = Findings::new(source);
            let id = file.node.as_ref().map_or("", |(name, _)| name.split('.').next().unwrap_or_default());
            let statements = text::read(source, id, &mut findings);
            let machine = read::read(&statements, &mut findings);
            if machine.instances.is_empty() && !findings.has_errors() {
                findings.error_anywhere("there is no vrrp_instance in it", "name the keepalived.conf of a node");
            }
            Node { file: file.name.clone(), machine, findings }
        })
        .collect();
    let mut general = Vec::new();
    let instances: usize = nodes.iter().map(|node| node.machine.instances.len()).sum();
    if files.len() < 2 {
        general.push(
            Finding::new(Severity::Error, "this is the file of one node, and a cluster has several")
                .help("give the files of all nodes; or one file that is the same everywhere, with --node NAME=ADDRESS for each node"),
        );
    } else if instances > MOST {
        general.push(Finding::new(Severity::Error, format!("there are {instances} instances, more than {MOST}")));
    }
    if !general.is_empty() || nodes.iter().any(|node| node.findings.has_errors()) {
        return Err(unusable(nodes, general));
    }
    let routers = cluster::routers(&mut nodes);
    let order = cluster::order_of_nodes(&routers, &mut nodes);
    let hosts = hosts(files, &mut nodes, &mut general);
    let Some(hosts) = hosts.filter(|_| !nodes.iter().any(|node| node.findings.has_errors())) else {
        return Err(unusable(nodes, general));
    };
    strangers(&hosts, &mut nodes);
    if nodes.iter().any(|node| node.findings.has_errors()) {
        return Err(unusable(nodes, general));
    }
    let text = write::write(&routers, &order, &hosts, &nodes, to, &mut general);
    let name = "the result";
    if let Err(report) = parse_toml(name, &text) {
        let mut findings = collected(nodes, general);
        findings.extend(report.findings);
        return Err(ConvertError::Unusable(Box::new(Report { findings })));
    }
    let text = if to == Format::Toml { text } else { convert(name, &text, Format::Toml, to)? };
    Ok(Converted { text, findings: collected(nodes, general) })
}

fn unusable(nodes: Vec<Node<'_>>, general: Vec<Finding>) -> ConvertError {
    ConvertError::Unusable(Box::new(Report { findings: collected(nodes, general) }))
}

/// All findings, each once: one file may be that of several nodes.
fn collected(nodes: Vec<Node<'_>>, general: Vec<Finding>) -> Vec<Finding> {
    let mut seen = BTreeSet::new();
    let all = nodes.into_iter().flat_map(|node| node.findings.finish()).chain(general);
    all.filter(|finding| seen.insert(finding.to_string())).collect()
}

/// Names and addresses of the nodes; none (reported) when one of them is not to be found.
fn hosts(files: &[KeepalivedFile], nodes: &mut [Node<'_>], general: &mut Vec<Finding>) -> Option<Vec<Host>> {
    let names = names(files, nodes);
    let mut hosts = Vec::new();
    for (at, file) in files.iter().enumerate() {
        if let Some((name, address)) = &file.node {
            hosts.push(Host { name: name.clone(), address: *address });
            continue;
        }
        let Some(address) = address_of(at, nodes) else {
            let help =
                "name each node, in the order of the files: --node NAME=ADDRESS, with what `uname -n` says there and its own address";
            general
                .push(Finding::new(Severity::Error, format!("{}: the file does not say which address its node has", file.name)).help(help));
            continue;
        };
        let Some(name) = names.as_ref().map(|names| names[at].clone()) else {
            let help = "--node NAME=ADDRESS for each node, in the order of the files";
            general.push(Finding::new(Severity::Error, format!("{}: the file does not say how its node is called", file.name)).help(help));
            continue;
        };
        let message = format!("{}: its node is taken to be {name}, {address}", file.name);
        general.push(
            Finding::new(Severity::Warning, message).help("hostname must be what `uname -n` says there; --node NAME=ADDRESS sets both"),
        );
        hosts.push(Host { name, address });
    }
    (hosts.len() == files.len()).then_some(hosts)
}

/// What tells the files apart: router_id, the name of the file, or that of its directory.
fn names(files: &[KeepalivedFile], nodes: &[Node<'_>]) -> Option<Vec<String>> {
    let part = |name: Option<&std::ffi::OsStr>| name.and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    let path = |file: &KeepalivedFile| std::path::PathBuf::from(&file.name);
    let ways: [Vec<String>; 3] = [
        nodes.iter().map(|node| node.machine.router_id.as_ref().map_or_else(String::new, |id| id.text.clone())).collect(),
        files.iter().map(|file| part(path(file).file_stem())).collect(),
        files.iter().map(|file| part(path(file).parent().and_then(std::path::Path::file_name))).collect(),
    ];
    let is_host = |name: &String| {
        !name.is_empty() && name.len() <= 253 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
    };
    ways.into_iter().find(|names| names.iter().all(is_host) && names.iter().collect::<BTreeSet<_>>().len() == names.len())
}

/// Where it sends from; or the one peer that all others have and it has not.
fn address_of(at: usize, nodes: &[Node<'_>]) -> Option<IpAddr> {
    let instances = |at: usize| nodes[at].machine.instances.iter();
    if let Some(source) = instances(at).find_map(|instance| instance.source) {
        return Some(source);
    }
    let peers =
        |at: usize| -> BTreeSet<IpAddr> { instances(at).flat_map(|instance| instance.peers.iter().map(|(peer, _)| *peer)).collect() };
    let own = peers(at);
    let others: Vec<BTreeSet<IpAddr>> = (0..nodes.len()).filter(|other| *other != at).map(peers).collect();
    let (first, rest) = others.split_first()?;
    let mut left = first.iter().filter(|peer| !own.contains(peer) && rest.iter().all(|peers| peers.contains(peer)));
    left.next().copied().filter(|_| left.next().is_none())
}

/// Peers that no file was given for: without them the cluster would have other votes.
fn strangers(hosts: &[Host], nodes: &mut [Node<'_>]) {
    // A node may have an address of each family, and of several interfaces.
    let known: BTreeSet<IpAddr> = hosts
        .iter()
        .map(|host| host.address)
        .chain(nodes.iter().flat_map(|node| node.machine.instances.iter().filter_map(|instance| instance.source)))
        .collect();
    for node in nodes {
        let mut told = BTreeSet::new();
        for (peer, span) in node.machine.instances.iter().flat_map(|instance| &instance.peers) {
            if !known.contains(peer) && told.insert(*peer) {
                node.findings.error(*span, format!("no file is that of the peer {peer}"), "give the files of all nodes");
            }
        }
    }
}

/// A name as a nickname: letters, digits and `._-`.
fn nickname(name: &str) -> String {
    name.chars().map(|letter| if letter.is_alphanumeric() || "._-".contains(letter) { letter } else { '_' }).take(60).collect()
}
