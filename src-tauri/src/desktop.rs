//! The menu-bar app; so far what quitting means.

mod quit;
mod termination;
