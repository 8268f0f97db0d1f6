//! A disk in memory that fails on demand, and a store without threads on it: for the tests and the fuzz targets.

#![cfg_attr(not(test), allow(dead_code, clippy::unwrap_used, reason = "the fuzz targets use a part of it"))]

pub(crate) mod house;
pub(crate) mod sim_disk;
