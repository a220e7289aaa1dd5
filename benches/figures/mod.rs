//! The figures, one file each.

pub mod configuration;
pub mod failover;
pub mod growth;
pub mod hand_over;
pub mod instructions;
pub mod rest;
pub mod size;
pub mod start;
pub mod stillness;
pub mod thousand;
