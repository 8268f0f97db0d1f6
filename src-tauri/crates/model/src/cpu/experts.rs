//! A mixture of experts by the CPU's kernels.

use kernels::activations::{Activations, Form, GateUp, RmsNorm, Rounding};
use kernels::experts::{self, ExpertBuffers, ExpertMatrix, Experts, Inner, Routes};
use kernels::isa::Isa;
use kernels::matmul::{Epilogue, Product, matmul, matmul_each};
use kernels::ops;
use kernels::threads::Threads;
use kernels::weights::Weights;

use crate::plan::experts::{ExpertFunction, ExpertsPlan};
use crate::plan::weights::{ExpertMatrices, ExpertsWeights, LatentExpertsWeights, SharedExpertWeights};

/// What computes, and what is the same in every layer.
#[derive(Clone, Copy)]
pub(super) struct Machine<'a> {
    pub(super) threads: &'a Threads,
    pub(super) isa: Isa,
    pub(super) n_embd: usize,
    pub(super) norm_eps: f32,
}

/// What lies between the operations, for all tokens of a pass; kept from layer to layer and from step to step.
pub(super) struct Mixture {
    acts: Activations,
    buffers: ExpertBuffers,
    routes: Routes,
    logits: Vec<f32>,
    gate: Vec<f32>,
    up: Vec<f32>,
    shared: Vec<f32>,
    /// What each token's experts say.
    out: Vec<f32>,
    normed: Vec<f32>,
    /// What goes to experts of another width and what comes back, as values and as products take them.
    latent: Vec<f32>,
    latent_acts: Activations,
}

impl Mixture {
    /// Empty; what products take is rounded as `rounding` says.
    pub(super) fn new(rounding: Rounding) -> Mixture {
        Mixture {
            acts: Activations::new(rounding),
            buffers: ExpertBuffers::new(rounding),
            routes: Routes::default(),
            logits: Vec::new(),
            gate: Vec::new(),
            up: Vec::new(),
            shared: Vec::new(),
            out: Vec::new(),
            normed: Vec::new(),
            latent: Vec::new(),
            latent_acts: Activations::new(rounding),
        }
    }

    /// What the experts make of the stream `x`, `[n_tokens, n_embd]`, to be added to it.
    pub(super) fn run(
        &mut self,
        machine: Machine<'_>,
        x: &[f32],
        plan: &ExpertsPlan,
        weights: &ExpertsWeights<Weights, Vec<f32>>,
    ) -> &mut [f32] {
        let Machine { threads, isa, .. } = machine;
        let router = &weights.router.matrix;
        let experts = experts_of(plan, weights);
        let own_norm = weights.router_norm.as_ref();
        if let Some(norm) = own_norm {
            self.enter(machine, x, Some(norm), Form::of([router]));
            self.choose(machine, plan, weights);
        }
        let shared = weights.shared.as_ref();
        let shares_rows = shared.filter(|shared| shared.norm.is_none());
        let of_inner = weights.up.each.iter().chain(weights.gate.iter().flat_map(|gate| &gate.each));
        let latent = weights.latent.as_ref();
        let of_experts =
            of_inner.clone().filter(|_| latent.is_none()).chain(latent.map(|latent| &latent.down));
        let of_router = own_norm.is_none().then_some(router);
        let of_shared = shares_rows.into_iter().flat_map(SharedExpertWeights::first_matrices);
        self.enter(machine, x, weights.norm.as_ref(), Form::of(of_experts.chain(of_router).chain(of_shared)));
        if own_norm.is_none() {
            self.choose(machine, plan, weights);
        }
        self.out.resize(x.len(), 0.0);
        match latent {
            None => {
                let Mixture { acts, routes, buffers, out, .. } = self;
                experts::run(threads, isa, &experts, acts, routes, buffers, out);
            }
            Some(latent) => self.run_latent(machine, &experts, latent, Form::of(of_inner)),
        }
        norm_in_place(machine, &mut self.out, &mut self.normed, weights.sum_norm.as_ref());
        if let Some(shared) = shared {
            if let Some(norm) = &shared.norm {
                self.enter(machine, x, Some(norm), Form::of(shared.first_matrices()));
            }
            self.add_shared(machine, plan.function, shared);
        }
        norm_in_place(machine, &mut self.out, &mut self.normed, weights.post_norm.as_ref());
        &mut self.out
    }

    /// Lead the rows to experts of another width, in the `form` that these take, and what they say back.
    fn run_latent(
        &mut self,
        machine: Machine<'_>,
        experts: &Experts<'_>,
        weights: &LatentExpertsWeights<Weights>,
        form: Form,
    ) {
        let Machine { threads, isa, .. } = machine;
        let Mixture { acts, buffers, routes, out, latent, latent_acts, .. } = self;
        let width = weights.down.n_out();
        latent.resize(acts.n_rows() * width, 0.0);
        matmul(threads, isa, &weights.down, acts, latent, Epilogue::Store);
        latent_acts.quantize(threads, isa, form, latent, width);
        experts::run(threads, isa, experts, latent_acts, routes, buffers, latent);
        latent_acts.quantize(threads, isa, Form::of([&weights.up]), latent, width);
        matmul(threads, isa, &weights.up, latent_acts, out, Epilogue::Store);
    }

    /// Put the stream's rows, normed if there is a norm, where products take them from.
    fn enter(&mut self, machine: Machine<'_>, x: &[f32], norm: Option<&Vec<f32>>, form: Form) {
        let Machine { threads, isa, n_embd, norm_eps: eps } = machine;
        match norm {
            Some(weight) => self.acts.rms_norm_quantize(threads, isa, form, x, RmsNorm { weight, eps }),
            None => self.acts.quantize(threads, isa, form, x, n_embd),
        }
    }

    /// Choose the experts of the rows.
    fn choose(
        &mut self,
        machine: Machine<'_>,
        plan: &ExpertsPlan,
        weights: &ExpertsWeights<Weights, Vec<f32>>,
    ) {
        let Machine { threads, isa, .. } = machine;
        let (router, logits) = (&weights.router, &mut self.logits);
        logits.resize(self.acts.n_rows() * plan.router.n_experts, 0.0);
        matmul(threads, isa, &router.matrix, &self.acts, logits, Epilogue::Store);
        if plan.router_scale != 1.0 {
            ops::scale(threads, isa, logits, plan.router_scale);
        }
        if let Some(bias) = &router.bias {
            ops::add_to_rows(threads, isa, logits, bias);
        }
        self.routes.choose(threads, isa, &plan.router, logits, weights.selection_bias.as_deref());
    }

    /// Add what the shared expert makes of the rows.
    fn add_shared(
        &mut self,
        machine: Machine<'_>,
        function: ExpertFunction,
        weights: &SharedExpertWeights<Weights, Vec<f32>>,
    ) {
        let Machine { threads, isa, .. } = machine;
        let Mixture { acts, logits, gate, up, shared, out, normed, .. } = self;
        let (n, n_ff) = (acts.n_rows(), weights.up.n_out());
        let gates = weights.gate.as_ref();
        gate.resize(gates.map_or(0, |_| n * n_ff), 0.0);
        up.resize(n * n_ff, 0.0);
        logits.resize(n, 0.0);
        let product = |weights, out| Product { weights, out, epilogue: Epilogue::Store };
        let mut products = vec![product(&weights.up, up)];
        products.extend(gates.map(|weights| product(weights, gate)));
        products.extend(weights.weight.as_ref().map(|weights| product(weights, logits)));
        matmul_each(threads, isa, acts, &mut products);

        let form = Form::of([&weights.down]);
        match function {
            ExpertFunction::Gated(function) => {
                acts.gated_quantize(threads, isa, form, function, GateUp { gate, up }, n_ff);
            }
            ExpertFunction::SquaredRelu => acts.squared_relu_quantize(threads, isa, form, up, n_ff),
        }
        if weights.weight.is_none() && weights.post_norm.is_none() {
            matmul(threads, isa, &weights.down, acts, out, Epilogue::Add);
            return;
        }
        shared.resize(out.len(), 0.0);
        matmul(threads, isa, &weights.down, acts, shared, Epilogue::Store);
        if weights.weight.is_some() {
            ops::sigmoid(threads, isa, logits);
            ops::scale_rows(threads, isa, shared, logits);
        }
        norm_in_place(machine, shared, normed, weights.post_norm.as_ref());
        ops::add(threads, isa, out, shared);
    }
}

impl<V> SharedExpertWeights<Weights, V> {
    /// What its input is multiplied with.
    fn first_matrices(&self) -> impl Iterator<Item = &Weights> {
        self.gate.iter().chain([&self.up]).chain(&self.weight)
    }
}

fn experts_of<'a>(plan: &ExpertsPlan, weights: &'a ExpertsWeights<Weights, Vec<f32>>) -> Experts<'a> {
    let matrix = |of: &'a ExpertMatrices<Weights, Vec<f32>>| ExpertMatrix {
        weights: &of.each,
        scale: of.scale.as_deref(),
        bias: of.bias.as_deref(),
    };
    let up = matrix(&weights.up);
    let inner = match (plan.function, &weights.gate) {
        (ExpertFunction::Gated(function), Some(gate)) => Inner::Gated { gate: matrix(gate), up, function },
        _ => Inner::SquaredRelu { up },
    };
    Experts { inner, down: matrix(&weights.down) }
}

/// Norm the rows of `x` if there is a norm, by way of `normed`.
fn norm_in_place(machine: Machine<'_>, x: &mut Vec<f32>, normed: &mut Vec<f32>, weight: Option<&Vec<f32>>) {
    let Some(weight) = weight else { return };
    normed.resize(x.len(), 0.0);
    ops::rms_norm(machine.threads, machine.isa, x, weight, machine.norm_eps, normed);
    std::mem::swap(x, normed);
}
