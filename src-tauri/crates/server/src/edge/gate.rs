//! What every request meets on its way in: the guard, the bounds on what it brings, and who counts it.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;

use super::body::{self, WholeBody};
use super::body_budget::BodyBudget;
use super::guard::Guard;
use super::http_counts::HttpCounts;
use crate::calls::fault::Fault;
use crate::config::{ConfigError, HttpLimits, ServerConfig};

/// One server's.
#[derive(Debug)]
pub(crate) struct Gate {
    pub(crate) guard: Guard,
    pub(crate) limits: HttpLimits,
    pub(crate) http_counts: HttpCounts,
    body_budget: Arc<BodyBudget>,
}

impl Gate {
    /// That of a server that listens on `address`.
    ///
    /// # Errors
    /// The configuration has a list entry without its form.
    pub(crate) fn new(config: &ServerConfig, address: SocketAddr) -> Result<Gate, ConfigError> {
        Ok(Gate {
            guard: Guard::new(config, address)?,
            limits: config.limits,
            http_counts: HttpCounts::default(),
            body_budget: BodyBudget::new(&config.limits),
        })
    }

    /// Read a body to its end.
    ///
    /// # Errors
    /// As [`body::read`].
    pub(crate) async fn read(&self, body: Body) -> Result<WholeBody, Fault> {
        body::read(body, &self.limits, &self.body_budget).await
    }

    /// That a body has nothing in it that would be ignored.
    ///
    /// # Errors
    /// As [`body::must_be_empty`].
    pub(crate) async fn must_be_empty(&self, body: Body) -> Result<(), Fault> {
        body::must_be_empty(body, &self.limits, &self.body_budget).await
    }

    /// Read a body that nobody wants, within bounds, so that its client hears why.
    pub(crate) async fn discard(&self, body: Body) {
        body::discard(body, &self.limits).await;
    }
}
