//! Which models are here, how they come and go, and how much memory each has.

pub(crate) mod alone;
pub(crate) mod budget;
pub(crate) mod load;
pub(crate) mod model;
mod rebuilds;
pub(crate) mod worker;
