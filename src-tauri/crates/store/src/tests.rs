//! The promises of the store, on a disk that fails on demand and on the real one.

mod agents;
mod checkpoints;
mod damage;
mod faults;
mod files;
mod foreign;
mod limits;
mod random;
mod removed;

use crate::testing::{rig, sim_disk};
