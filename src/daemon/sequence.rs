//! In which order the members of a group start; they stop in reverse. Pure.
//!
//! Members of a lower [`crate::model::Options::order`] come first. Then addresses and file systems together, then services,
//! then applications, then crontabs. Services, applications and crontabs start in the order of their lists, since an
//! administrator may count on it. Of addresses and file systems only those wait for each other that must: a file system for
//! the one that its mount point or its source lies on.

use crate::model::{Kind, Resource, Spec};

/// What may be done at the same time: lanes of positions, each to be gone through one after another.
pub type Step = Vec<Vec<usize>>;

/// The steps to start these, which are in start order already; every position is in exactly one lane of one step.
#[must_use]
pub fn steps(members: &[&Resource]) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut last = None;
    for (position, member) in members.iter().enumerate() {
        let place = (member.options.order, phase(member.id.kind));
        if last.replace(place) != Some(place) {
            steps.push(Vec::new());
        }
        let step = steps.last_mut().expect("the first member has opened a step");
        let (joined, mut lanes): (Step, Step) =
            std::mem::take(step).into_iter().partition(|lane| lane.iter().any(|earlier| must_wait(member, members[*earlier])));
        let mut lane: Vec<usize> = joined.into_iter().flatten().chain([position]).collect();
        lane.sort_unstable();
        lanes.push(lane);
        *step = lanes;
    }
    for lane in steps.iter_mut().flatten() {
        *lane = bases_first(std::mem::take(lane), members);
    }
    steps
}

/// What starts together.
const fn phase(kind: Kind) -> u8 {
    match kind {
        Kind::FileSystem | Kind::Address => 0,
        Kind::Service => 1,
        Kind::Application => 2,
        Kind::Crontab => 3,
    }
}

/// Whether two members of one step may not be started at the same time.
fn must_wait(one: &Resource, other: &Resource) -> bool {
    match (&one.spec, &other.spec) {
        (Spec::FileSystem(one), Spec::FileSystem(other)) => one.lies_on(other) || other.lies_on(one),
        (Spec::Address(_), _) | (_, Spec::Address(_)) => false,
        (Spec::FileSystem(_) | Spec::Service(_) | Spec::Application(_) | Spec::Crontab(_), _) => true,
    }
}

/// In list order, but for a file system that lies on one further down: that comes first.
fn bases_first(mut lane: Vec<usize>, members: &[&Resource]) -> Vec<usize> {
    let needs = |position: usize, base: usize| match (&members[position].spec, &members[base].spec) {
        (Spec::FileSystem(one), Spec::FileSystem(base)) => one.target != base.target && one.lies_on(base),
        (Spec::FileSystem(_) | Spec::Address(_) | Spec::Service(_) | Spec::Application(_) | Spec::Crontab(_), _) => false,
    };
    let mut ordered = Vec::with_capacity(lane.len());
    while !lane.is_empty() {
        let free = |position: &usize| !lane.iter().any(|other| other != position && needs(*position, *other));
        // Two that each lie on the other stay as they are listed.
        let next = lane.iter().position(free).unwrap_or(0);
        ordered.push(lane.remove(next));
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{parse_cfg, parse_toml};

    /// Each step with its lanes, by nickname.
    fn order(resources: &[Resource]) -> Vec<Vec<Vec<&str>>> {
        let mut members: Vec<&Resource> = resources.iter().collect();
        members.sort_by_key(|member| (member.options.order, member.id.kind));
        let name = |position: usize| members[position].id.nickname.as_str();
        let lane = |lane: Vec<usize>| lane.into_iter().map(name).collect();
        steps(&members).into_iter().map(|step| step.into_iter().map(lane).collect()).collect()
    }

    fn cfg(text: &str) -> Vec<Resource> {
        let node = "[CM_NODE]\nnodename=a\nhostname=a\nkeep_alive_ip=10.0.0.1\n";
        parse_cfg("t", &format!("{text}{node}")).unwrap_or_else(|report| panic!("{report}")).config.resources.clone()
    }

    fn toml(text: &str) -> Vec<Resource> {
        let node = "[[node]]\nnodename = \"a\"\nhostname = \"a\"\nkeep_alive_ip = \"10.0.0.1\"\n";
        parse_toml("t", &format!("{text}{node}")).unwrap_or_else(|report| panic!("{report}")).config.resources.clone()
    }

    #[test]
    fn addresses_and_file_systems_start_together_and_the_rest_one_by_one() {
        let resources = cfg(
            "[CM_CRONTABS]\nj, /x/j, /etc/cron.d\n[CM_APPLICATIONS]\np, root:root, /bin/p, /bin/q\n[CM_IPADDRS]\ny, 10.1.0.2, 24, eth0\n\
             [CM_SERVICES]\nw, httpd\nv, cups\n[CM_FILESYSTEMS]\nf, nas:/f, /f\ng, nas:/g, /g\n",
        );
        assert_eq!(order(&resources), [vec![vec!["f"], vec!["g"], vec!["y"]], vec![vec!["w", "v"]], vec![vec!["p"]], vec![vec!["j"]]]);
    }

    #[test]
    fn a_mount_waits_for_the_one_that_it_lies_on_wherever_it_is_listed() {
        let resources =
            cfg("[CM_FILESYSTEMS]\ndeep, nas:/d, /data/deep\nother, nas:/o, /other\ndata, nas:/e, /data\nalike, nas:/a, /database\n");
        assert_eq!(order(&resources), [vec![vec!["other"], vec!["data", "deep"], vec!["alike"]]]);
        // A directory that is shown elsewhere comes after what it lies on; two that each lie on the other stay as listed.
        let file_system = |name: &str, source: &str| {
            format!("[filesystems.{name}]\nsource = \"{source}\"\ntarget = \"/{name}\"\nmount_options = \"bind\"\n")
        };
        let shown = toml(&(file_system("a", "/b/x") + &file_system("b", "/mnt/c")));
        assert_eq!(order(&shown), [vec![vec!["b", "a"]]]);
        let round = toml(&(file_system("a", "/b/x") + &file_system("b", "/a/x")));
        assert_eq!(order(&round), [vec![vec!["a", "b"]]]);
    }

    #[test]
    fn what_the_administrator_puts_first_is_a_step_of_its_own() {
        let resources = toml(
            "[filesystems.f]\nsource = \"nas:/f\"\ntarget = \"/f\"\norder = 5\n\
             [addresses.y]\nip = \"10.1.0.2\"\nnetmask = \"24\"\ninterface = \"eth0\"\n",
        );
        assert_eq!(order(&resources), [vec![vec!["y"]], vec![vec!["f"]]]);
    }
}
