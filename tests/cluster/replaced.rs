//! A process that takes the place of another within one run of the machine.

use super::*;

#[test]
fn a_replaced_process_goes_on_as_the_same_owner_and_voter() {
    let mut world = started(3, "");
    let before = world.now;
    for _ in 0..20 {
        for node in ["a", "b", "c"] {
            world.replace(id(node));
            world.run(MS * 70);
        }
    }
    // All at once.
    for node in ["a", "b", "c"] {
        world.replace(id(node));
    }
    world.run(MS * 5000);
    let since = |at: &Time| *at > before;
    assert!(world.stops.iter().all(|(at, ..)| !since(at)), "nothing was stopped");
    assert!(world.starts.iter().all(|(at, node)| !since(at) || *node == id("a")));
    assert!(!world.decisions.iter().any(|(at, _, decision)| since(at) && matches!(decision, Decision::Acquired { .. })));
    assert_eq!(world.owner().as_deref(), Some("a"));
}

#[test]
fn a_process_replaced_too_late_stops_what_it_had() {
    let mut world = started(3, "");
    let memory = world.nodes[&id("a")].memory();
    world.nodes.remove(&id("a"));
    // What ran goes on until the kernel ends it.
    world.running.remove(&id("a"));
    world.run(MS * 3000);
    assert_eq!(world.owner().as_deref(), Some("b"));
    let core = Node::resume(world.config.clone(), id("a"), memory, Start::default(), world.now).unwrap();
    world.nodes.insert(id("a"), core);
    let back = world.now;
    world.feed(id("a"), Event::Timer);
    world.run(MS * 5000);
    assert!(world.stops.iter().any(|(at, node, why)| *at == back && *node == id("a") && *why == StopReason::LeaseLost));
    assert_eq!(world.owner().as_deref(), Some("b"), "until the failback delay is over");
}

#[test]
fn what_another_configuration_or_node_remembers_is_refused() {
    let world = started(3, "");
    let memory = world.nodes[&id("a")].memory();
    let other = config(4, "");
    let resume = |config, node: &str| Node::resume(config, id(node), memory.clone(), Start::default(), world.now).err();
    assert_eq!(resume(other, "a"), Some(drcm::cluster::Stale::AnotherConfiguration));
    assert_eq!(resume(world.config.clone(), "b"), Some(drcm::cluster::Stale::AnotherNode));
    assert_eq!(resume(world.config.clone(), "a"), None);
}
