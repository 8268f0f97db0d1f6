//! The menu-bar app; so far the decision that quitting is.

mod quit;
