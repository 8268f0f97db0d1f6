//! The promises of the store, on a disk that fails on demand and on the real one.

mod agents;
mod bounds;
mod damage;
mod faults;
mod files;
mod foreign;
mod removed;

use crate::testing::{house, sim_disk};
