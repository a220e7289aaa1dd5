//! The files of several nodes put together: which instances are the same virtual router, who is its home, and whether what they say
//! of it is the same.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::read::{Address, Check, Command, Instance, Machine, weighs};
use crate::config::{
    finding::Findings,
    source::{Span, Text},
};

/// One file, read.
pub(super) struct Node<'s> {
    /// What findings call it.
    pub(super) file: String,
    pub(super) machine: Machine,
    pub(super) findings: Findings<'s>,
}

/// A virtual router: what moves together in keepalived.
pub(super) struct Router {
    pub(super) name: String,
    /// Node and instance, the home first, then by falling priority.
    pub(super) members: Vec<(usize, usize)>,
    pub(super) addresses: Vec<Placed>,
    /// Name, start, stop and ensure of its applications.
    pub(super) applications: Vec<Application>,
}

/// An address with its interface, or with the label that has it.
pub(super) struct Placed {
    pub(super) ip: IpAddr,
    pub(super) prefix: u8,
    pub(super) interface: String,
}

/// What a check or the notices become.
pub(super) struct Application {
    pub(super) name: String,
    pub(super) run_as: Option<String>,
    pub(super) start: String,
    pub(super) stop: String,
    pub(super) ensure: Option<String>,
    pub(super) timeout: Option<f64>,
}

/// Puts the instances together; faults go to the findings of the file that has them.
pub(super) fn routers(nodes: &mut [Node<'_>]) -> Vec<Router> {
    let mut routers = joined(nodes);
    for router in &mut routers {
        order(router, nodes);
    }
    bundles(&mut routers, nodes);
    for router in &mut routers {
        router.addresses = addresses(router, nodes);
    }
    let mut known = BTreeMap::new();
    for router in &mut routers {
        router.applications = applications(router, nodes, &mut known);
    }
    routers
}

/// The nodes in the order of the backups: that of the first router, then of the others. One file has one order.
pub(super) fn order_of_nodes(routers: &[Router], nodes: &mut [Node<'_>]) -> Vec<usize> {
    let mut order: Vec<usize> = Vec::new();
    for node in routers.iter().flat_map(|router| router.members.iter().map(|(node, _)| *node)).chain(0..nodes.len()) {
        if !order.contains(&node) {
            order.push(node);
        }
    }
    let place = |node: usize| order.iter().position(|other| *other == node);
    for router in routers {
        if !router.members[1..].is_sorted_by_key(|(node, _)| place(*node)) {
            let (node, instance) = router.members[0];
            let span = nodes[node].machine.instances[instance].name.span;
            nodes[node].findings.warning(
                span,
                format!(
                    "the backups of `{}` take over in another order than their priorities say: in that of the nodes in the file",
                    router.name
                ),
                "one order counts for all groups; put the nodes into the one that suits best",
            );
        }
    }
    order
}

/// Instances of several nodes are one router when they have the same number, and a name or an address in common.
fn joined(nodes: &mut [Node<'_>]) -> Vec<Router> {
    let mut routers: Vec<Router> = Vec::new();
    // By address: to find a partner among many.
    let mut by_address: BTreeMap<IpAddr, usize> = BTreeMap::new();
    let mut by_name: BTreeMap<(u8, String), usize> = BTreeMap::new();
    for node in 0..nodes.len() {
        for number in 0..nodes[node].machine.instances.len() {
            let instance = &nodes[node].machine.instances[number];
            let free = |router: &usize| routers[*router].members.iter().all(|(other, _)| *other != node);
            let number_of = |router: usize| {
                let (node, instance) = routers[router].members[0];
                nodes[node].machine.instances[instance].router
            };
            let shared = instance.addresses.iter().find_map(|address| by_address.get(&address.ip).map(|router| (*router, address)));
            let named = by_name.get(&(instance.router, instance.name.text.clone())).copied().filter(free);
            let found = match shared {
                Some((router, _)) if number_of(router) == instance.router && free(&router) => Some(router),
                Some((router, address)) => {
                    let (other, _) = routers[router].members[0];
                    let message = format!(
                        "{} is an address of the virtual router {} here, and of {} in {}",
                        address.ip,
                        instance.router,
                        number_of(router),
                        nodes[other].file
                    );
                    let span = address.span;
                    nodes[node].findings.error(
                        span,
                        message,
                        "an address belongs to one router, which has the same virtual_router_id everywhere",
                    );
                    continue;
                }
                None => named,
            };
            let router = found.unwrap_or_else(|| {
                routers.push(Router {
                    name: instance.name.text.clone(),
                    members: Vec::new(),
                    addresses: Vec::new(),
                    applications: Vec::new(),
                });
                routers.len() - 1
            });
            routers[router].members.push((node, number));
            by_address.extend(instance.addresses.iter().map(|address| (address.ip, router)));
            by_name.entry((instance.router, instance.name.text.clone())).or_insert(router);
        }
    }
    routers
}

fn instance<'n>(nodes: &'n [Node<'_>], (node, number): (usize, usize)) -> &'n Instance {
    &nodes[node].machine.instances[number]
}

/// By falling priority. Equal ones are decided by the state and then by the higher address, as in keepalived.
fn order(router: &mut Router, nodes: &mut [Node<'_>]) {
    router.members.sort_by_key(|member| {
        let instance = instance(nodes, *member);
        Reverse((instance.priority, instance.master, instance.source))
    });
    for pair in router.members.windows(2) {
        let (first, second) = (instance(nodes, pair[0]), instance(nodes, pair[1]));
        if first.priority == second.priority {
            let message = format!("`{}` has the priority {} here and in {}", router.name, second.priority, nodes[pair[0].0].file);
            let span = second.name.span;
            nodes[pair[1].0].findings.warning(span, message, "which of them comes first was guessed: look at the order in the result");
        }
    }
    if let [(node, number)] = router.members[..] {
        let span = nodes[node].machine.instances[number].name.span;
        nodes[node].findings.warning(span, format!("no other file has `{}`: it has no backup", router.name), "give the files of all nodes");
    }
}

/// Whether what is to move together does: it does when it has the same nodes in the same order.
fn bundles(routers: &mut [Router], nodes: &mut [Node<'_>]) {
    let at: BTreeMap<(usize, String), usize> = routers
        .iter()
        .enumerate()
        .flat_map(|(at, router)| router.members.iter().map(move |member| (at, *member)))
        .map(|(at, member)| ((member.0, instance(nodes, member).name.text.clone()), at))
        .collect();
    let mut together: BTreeSet<(usize, usize)> = BTreeSet::new();
    let all: Vec<(usize, Text, Vec<Text>)> = nodes
        .iter_mut()
        .enumerate()
        .flat_map(|(node, file)| std::mem::take(&mut file.machine.bundles).into_iter().map(move |(name, members)| (node, name, members)))
        .collect();
    for (node, name, members) in all {
        let known: Vec<usize> = members.iter().filter_map(|member| at.get(&(node, member.text.clone())).copied()).collect();
        let Some((&first, rest)) = known.split_first() else { continue };
        let wanted: Vec<usize> = routers[first].members.iter().map(|(node, _)| *node).collect();
        for &other in rest {
            together.insert((first.min(other), first.max(other)));
            let mut members: Vec<(usize, usize)> = routers[other].members.clone();
            members.sort_by_key(|(node, _)| wanted.iter().position(|other| other == node));
            if members != routers[other].members {
                nodes[node].findings.warning(
                    name.span,
                    format!(
                        "`{}` and `{}` have different priorities: both go the way of the first",
                        routers[first].name, routers[other].name
                    ),
                    "",
                );
            }
            if !members.iter().map(|(node, _)| *node).eq(wanted.iter().copied()) {
                nodes[node].findings.warning(
                    name.span,
                    format!(
                        "`{}` and `{}` are not on the same nodes: they will not move together",
                        routers[first].name, routers[other].name
                    ),
                    "",
                );
            }
            routers[other].members = members;
        }
    }
    let mut ways: BTreeMap<Vec<usize>, usize> = BTreeMap::new();
    for (at, router) in routers.iter().enumerate().filter(|(_, router)| router.members.len() > 1) {
        let way = router.members.iter().map(|(node, _)| *node).collect();
        let first = *ways.entry(way).or_insert(at);
        if first != at && !together.contains(&(first, at)) {
            let (node, number) = router.members[0];
            let span = nodes[node].machine.instances[number].name.span;
            let message =
                format!("`{}` has the same nodes in the same order as `{}`: they move together", router.name, routers[first].name);
            nodes[node].findings.info(span, message);
        }
    }
}

fn addresses(router: &Router, nodes: &mut [Node<'_>]) -> Vec<Placed> {
    let mut placed: Vec<Placed> = Vec::new();
    let mut warnings: Vec<(usize, Span, String, String)> = Vec::new();
    for (turn, &member) in router.members.iter().enumerate() {
        let (node, instance) = (member.0, instance(nodes, member));
        for address in &instance.addresses {
            let interface = interface(address, instance, &mut |message| warnings.push((node, address.span, message, String::new())));
            let home = &nodes[router.members[0].0].file;
            match placed.iter().find(|other| other.ip == address.ip) {
                None => {
                    if turn > 0 {
                        warnings.push((
                            node,
                            address.span,
                            format!("{} is not in {home}: it becomes an address of all nodes of `{}`", address.ip, router.name),
                            String::new(),
                        ));
                    }
                    placed.push(Placed { ip: address.ip, prefix: address.prefix, interface });
                }
                Some(known) if known.interface != interface || known.prefix != address.prefix => warnings.push((
                    node,
                    address.span,
                    format!("{} is {}/{} on {} in {home}, which counts everywhere", address.ip, known.ip, known.prefix, known.interface),
                    "interfaces need the same names on all nodes (a .link file of systemd, or `ip link set NAME name OTHER`)".to_owned(),
                )),
                Some(_) => {}
            }
        }
        for known in placed.iter().filter(|known| turn > 0 && instance.addresses.iter().all(|address| address.ip != known.ip)) {
            let message = format!("{} is missing here: it becomes an address of all nodes of `{}`", known.ip, router.name);
            warnings.push((node, instance.name.span, message, String::new()));
        }
    }
    for (node, span, message, help) in warnings {
        nodes[node].findings.warning(span, message, help);
    }
    placed
}

/// The interface, or the label where it begins with the interface, as ours do.
fn interface(address: &Address, instance: &Instance, warn: &mut dyn FnMut(String)) -> String {
    let device = address.device.as_ref().or(instance.interface.as_ref());
    if device.is_none() {
        warn(format!("{} has no interface: eth0 is written for it", address.ip));
    }
    let device = device.map_or("eth0", String::as_str);
    match &address.label {
        Some(label) if label.split_once(':').is_some_and(|(front, _)| front == device) => label.clone(),
        Some(label) => {
            warn(format!("the label `{label}` is not carried over: it does not begin with {device}:"));
            device.to_owned()
        }
        None => device.to_owned(),
    }
}

type Known = BTreeMap<String, (Vec<usize>, Option<String>)>;

fn applications(router: &Router, nodes: &mut [Node<'_>], known: &mut Known) -> Vec<Application> {
    let mut list = Vec::new();
    let way: Vec<usize> = router.members.iter().map(|(node, _)| *node).collect();
    let mut tracked: Vec<(usize, Text)> = Vec::new();
    for &member in &router.members {
        for name in &instance(nodes, member).tracked {
            if !tracked.iter().any(|(_, other)| other.text == name.text) {
                tracked.push((member.0, name.clone()));
            }
        }
    }
    for (node, name) in tracked {
        let Some(check) = check(&way, &name.text, nodes) else {
            nodes[node].findings.warning(name.span, format!("there is no check `{}`", name.text), "keepalived ignores it, too");
            continue;
        };
        let Command { text, run_as } = check.command;
        let Some(nickname) = nickname(&name.text, &way, Some(&text), known) else { continue };
        list.push(Application {
            name: nickname,
            run_as,
            start: text.clone(),
            stop: "true".to_owned(),
            ensure: Some(text),
            timeout: check.timeout,
        });
    }
    list.extend(notices(router, &way, nodes, known));
    list
}

/// What the scripts that are told of changes become.
fn notices(router: &Router, way: &[usize], nodes: &mut [Node<'_>], known: &mut Known) -> Option<Application> {
    let (node, number) = router.members[0];
    let instance = &nodes[node].machine.instances[number];
    let (name, notices) = (instance.name.clone(), instance.notices.clone());
    let different = router.members.iter().find(|member| {
        let other = &nodes[member.0].machine.instances[member.1].notices;
        other.master != notices.master || other.backup != notices.backup
    });
    if let Some(&(other, number)) = different {
        let span = nodes[other].machine.instances[number].name.span;
        let message = format!("`{}` is told of changes in another way than in {}: that one counts", router.name, nodes[node].file);
        nodes[other].findings.warning(span, message, "");
    }
    let run_as = notices.master.iter().chain(&notices.backup).find_map(|command| command.run_as.clone());
    let nickname = (notices.master.is_some() || notices.backup.is_some())
        .then(|| nickname(&format!("{}-notify", router.name), way, None, known))??;
    nodes[node].findings.info(
        name.span,
        format!(
            "what `{}` notifies becomes the application {nickname}: run, and waited for, when a node takes or gives up the addresses",
            name.text
        ),
    );
    let text = |command: Option<Command>| command.map_or_else(|| "true".to_owned(), |command| command.text);
    Some(Application { name: nickname, run_as, start: text(notices.master), stop: text(notices.backup), ensure: None, timeout: None })
}

/// The check of a name, by the home's file first; with a warning where another file has another one.
fn check(way: &[usize], name: &str, nodes: &mut [Node<'_>]) -> Option<Check> {
    let (home, found) = way.iter().find_map(|node| Some((*node, nodes[*node].machine.checks.get(name)?.clone())))?;
    let (file, span) = (nodes[home].file.clone(), found.span);
    if found.weight != 0 {
        weighs(span, name, found.weight, &mut nodes[home].findings);
    }
    for &node in way {
        let other = nodes[node].machine.checks.get(name);
        if let Some(span) = other.filter(|other| other.command != found.command).map(|other| other.span) {
            nodes[node].findings.warning(span, format!("`{name}` is another one in {file}: that one counts"), "");
        }
    }
    Some(found)
}

/// A nickname that is free; none when just this is there already. Resources of the same nodes in the same order are one group.
fn nickname(name: &str, way: &[usize], command: Option<&str>, known: &mut Known) -> Option<String> {
    let same = (way.to_vec(), command.map(str::to_owned));
    let base = super::nickname(name);
    let mut free = base.clone();
    let mut number = 1;
    while let Some(other) = known.get(&free) {
        if command.is_some() && *other == same {
            return None;
        }
        number += 1;
        free = format!("{base}-{number}");
    }
    known.insert(free.clone(), same);
    Some(free)
}
