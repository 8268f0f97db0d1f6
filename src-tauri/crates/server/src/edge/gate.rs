//! What every request meets on its way in: the guard, the bounds on what it brings, and who counts it.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::http::HeaderMap;

use super::body::{self, WholeBody};
use super::body_budget::BodyBudget;
use super::coding::Coding;
use super::guard::Guard;
use super::http_counts::HttpCounts;
use crate::calls::fault::Fault;
use crate::config::{ConfigError, HttpLimits, ServerConfig};
use crate::dialects::fields::Fields;

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

    /// Read a body to its end, and undo the compression that its `headers` announce.
    ///
    /// # Errors
    /// As [`body::read`].
    pub(crate) async fn read(&self, headers: &HeaderMap, body: Body) -> Result<WholeBody, Fault> {
        body::read(body, Coding::of(headers)?, &self.limits, &self.body_budget).await
    }

    /// That a body has nothing in it that would be ignored.
    ///
    /// # Errors
    /// As [`body::read`], or 400 that names what is in it.
    pub(crate) async fn must_be_empty(&self, headers: &HeaderMap, body: Body) -> Result<(), Fault> {
        let body = self.read(headers, body).await?;
        if body.bytes.is_empty() { Ok(()) } else { Fields::of_body(&body.bytes)?.finish() }
    }

    /// Read a body that nobody wants, within bounds, so that its client hears why.
    pub(crate) async fn discard(&self, body: Body) {
        body::discard(body, &self.limits).await;
    }
}
