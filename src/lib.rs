//! drcm: a high-availability cluster manager. Floating addresses, services, applications, crontabs and mounts on N equal
//! nodes, each owned by one node at a time under a lease that a majority of nodes grants.
//!
//! | room      | what it owns                                                                       | may import            |
//! |-----------|------------------------------------------------------------------------------------|-----------------------|
//! | `model`   | the shared words: ids, time, configuration, messages, events, reports              | nothing               |
//! | `config`  | text to configuration; findings with line, caret and suggestion; the auth files    | `model`               |
//! | `cluster` | the decision, pure: lease, membership, placement                                   | `model`               |
//! | `forecast` | what would happen: the decision of `cluster` run ahead in memory; pure             | `model`, `cluster`    |
//! | `wire`    | messages to sealed bytes and back: codec, seal, replay window; pure                | `model`               |
//! | `sys`     | the kernel and libc; the only home of `unsafe`                                     | `model`               |
//! | `drivers` | probe, start and stop of each kind of resource                                     | `model`, `sys`        |
//! | `health`  | what a report of the cluster means: the judgement of resources and nodes; pure     | `model`; `config` in its tests |
//! | `control` | the client socket and the sealed status port: protocol, server, client             | `model`, `wire`, `sys`|
//! | `alert`   | telling people of events: programs, mails, a webhook                               | `model`, `sys`, `config` |
//! | `web`     | the status page and the metrics, over HTTP                                         | `model`, `control`, `health`, `config` |
//! | `daemon`  | cluster thread, executor, peers, logs                                              | all but `cli`, `lab`, `forecast` |
//! | `cli`     | one file per command; rendering apart from fetching                                | `control`, `config`, `model`, `lab`, `forecast`, `health`; `daemon` to run it, `cluster` for the words of a forecast |
//! | `lab`     | nodes in network namespaces on one machine                                         | `model`, `control`, `sys` |
//!
//! `tests/house.rs` holds this law against the sources.

#![warn(missing_docs)]

pub mod alert;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod control;
pub mod daemon;
pub mod drivers;
pub mod forecast;
pub mod health;
pub mod lab;
pub mod model;
pub mod sys;
pub mod web;
pub mod wire;
