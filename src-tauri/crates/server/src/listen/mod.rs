//! The sockets: where the server listens, and what becomes of a connection.

pub(crate) mod connection;
pub(crate) mod gone_client;
pub(crate) mod listening;
pub(crate) mod port_holder;
