//! A mixture of experts, described: feed-forwards of which each token goes through a few.

use kernels::activations::Gate;
use kernels::experts::Router;

/// A mixture of experts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ExpertsPlan {
    /// An expert's width.
    pub n_ff: usize,
    /// The width that the experts take and give, where it is not the model's: a product leads there and one back.
    pub n_latent: Option<usize>,
    /// What its inner values go through.
    pub function: ExpertFunction,
    /// The router's products are multiplied by this first.
    pub router_scale: f32,
    /// How a token's experts are chosen, and what they weigh.
    pub router: Router,
    /// The width of the expert that every token goes through, if there is one.
    pub shared_n_ff: Option<usize>,
}

/// What an expert's inner values go through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpertFunction {
    /// `function(gate) · up`.
    Gated(Gate),
    /// `max(up, 0)²`.
    SquaredRelu,
}
