//! One story in each file.

pub mod boot;
pub mod busy;
pub mod cifs;
pub mod clock;
pub mod cold_start;
pub mod disk_full;
pub mod followers;
pub mod network_manager;
pub mod nfs;
pub mod power_off;
pub mod reboot;
pub mod server_gone;
pub mod split;
pub mod upgrade;
pub mod watchdog;
