//! A disk in memory that fails on demand, and a store without threads on it: for the tests and the fuzz targets.

#![allow(clippy::unwrap_used, reason = "what fails here is a test that fails")]
#![cfg_attr(not(test), allow(dead_code, reason = "the fuzz targets use a part of it"))]

pub(crate) mod rig;
pub(crate) mod sim_disk;
