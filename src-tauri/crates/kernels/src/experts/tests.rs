//! Experts against each token's products alone, bit for bit, and against their definition.

use super::*;
use crate::activations::{Activations, Form, Gate, Rounding, gate_values, square_positive};
use crate::ggml::{GgmlType, dequantize};
use crate::isa::Isa;
use crate::matmul::{Epilogue, matmul};
use crate::testing::{Rng, random_blocks};
use crate::threads::Threads;
use crate::weights::Weights;

/// What is between the products.
#[derive(Clone, Copy, Debug)]
enum Function {
    Gated(Gate),
    SquaredRelu,
}

/// One matrix of each expert, with what belongs to it.
struct Matrices {
    weights: Vec<Weights>,
    /// Their values, `[n_experts, n_out, n_in]`.
    values: Vec<f32>,
    scale: Option<Vec<f32>>,
    bias: Option<Vec<f32>>,
}

impl Matrices {
    fn random(
        ty: GgmlType,
        (n_experts, n_out, n_in): (usize, usize, usize),
        extras: bool,
        rng: &mut Rng,
    ) -> Matrices {
        let raw = random_blocks(ty, n_experts * n_out * n_in, rng);
        let mut values = vec![0.0; n_experts * n_out * n_in];
        dequantize(ty, &raw, &mut values);
        let threads = Threads::new(1);
        let pack = |raw: &[u8]| Weights::pack(&threads, ty, raw, n_out, n_in).unwrap();
        Matrices {
            weights: raw.chunks(raw.len() / n_experts).map(pack).collect(),
            values,
            scale: extras.then(|| (0..n_experts).map(|_| 1.0 + 0.3 * rng.normal()).collect()),
            bias: extras.then(|| (0..n_experts * n_out).map(|_| 0.3 * rng.normal()).collect()),
        }
    }

    fn view(&self) -> ExpertMatrix<'_> {
        ExpertMatrix { weights: &self.weights, scale: self.scale.as_deref(), bias: self.bias.as_deref() }
    }

    /// One row's products with an expert.
    fn alone(&self, isa: Isa, expert: usize, acts: &Activations) -> Vec<f32> {
        let weights = &self.weights[expert];
        let mut out = vec![0.0; weights.n_out()];
        matmul(&Threads::new(1), isa, weights, acts, &mut out, Epilogue::Store);
        for (i, y) in out.iter_mut().enumerate() {
            *y *= self.scale.as_ref().map_or(1.0, |scale| scale[expert]);
            if let Some(bias) = &self.bias {
                *y += bias[expert * weights.n_out() + i];
            }
        }
        out
    }

    /// As [`Matrices::alone`], by the definition.
    fn exact(&self, expert: usize, x: &[f64]) -> Vec<f64> {
        let (n_out, n_in) = (self.weights[0].n_out(), x.len());
        (0..n_out)
            .map(|i| {
                let row = &self.values[(expert * n_out + i) * n_in..][..n_in];
                let dot: f64 = row.iter().zip(x).map(|(w, x)| f64::from(*w) * x).sum();
                let scale = self.scale.as_ref().map_or(1.0, |scale| f64::from(scale[expert]));
                dot * scale + self.bias.as_ref().map_or(0.0, |bias| f64::from(bias[expert * n_out + i]))
            })
            .collect()
    }
}

/// A layer of experts.
struct Layer {
    n_embd: usize,
    function: Function,
    gate: Matrices,
    up: Matrices,
    down: Matrices,
}

/// Types of gate, up and down.
type Types = [GgmlType; 3];

impl Layer {
    fn random(
        types: Types,
        (n_experts, n_ff, n_embd): (usize, usize, usize),
        function: Function,
        extras: bool,
        rng: &mut Rng,
    ) -> Layer {
        let inner = (n_experts, n_ff, n_embd);
        Layer {
            n_embd,
            function,
            gate: Matrices::random(types[0], inner, extras, rng),
            up: Matrices::random(types[1], inner, extras, rng),
            down: Matrices::random(types[2], (n_experts, n_embd, n_ff), extras, rng),
        }
    }

    fn view(&self) -> Experts<'_> {
        let (gate, up) = (self.gate.view(), self.up.view());
        let inner = match self.function {
            Function::Gated(function) => Inner::Gated { gate, up, function },
            Function::SquaredRelu => Inner::SquaredRelu { up },
        };
        Experts { inner, down: self.down.view() }
    }

    fn form(&self) -> Form {
        Form::of(self.gate.weights.iter().chain(&self.up.weights))
    }

    fn run(&self, threads: &Threads, isa: Isa, rounding: Rounding, x: &[f32], routes: &Routes) -> Vec<f32> {
        let mut acts = Activations::new(rounding);
        acts.quantize(threads, isa, self.form(), x, self.n_embd);
        let mut out = vec![f32::NAN; x.len()];
        run(threads, isa, &self.view(), &acts, routes, &mut ExpertBuffers::new(rounding), &mut out);
        out
    }

    /// One row through its experts, one after the other, by the products that everything else is made of.
    fn alone(&self, isa: Isa, rounding: Rounding, x: &[f32], experts: &[u32], weights: &[f32]) -> Vec<f32> {
        let threads = Threads::new(1);
        let (mut acts, mut hidden) = (Activations::new(rounding), Activations::new(rounding));
        acts.quantize(&threads, isa, self.form(), x, self.n_embd);
        let mut sum: Option<Vec<f32>> = None;
        for (&expert, weight) in experts.iter().zip(weights) {
            let expert = expert as usize;
            let up = self.up.alone(isa, expert, &acts);
            let mut values = vec![0.0; up.len()];
            match self.function {
                Function::Gated(function) => {
                    gate_values(isa, function, &self.gate.alone(isa, expert, &acts), &up, &mut values);
                }
                Function::SquaredRelu => square_positive(isa, &up, &mut values),
            }
            hidden.quantize(&threads, isa, Form::of(&self.down.weights), &values, values.len());
            let mut term = self.down.alone(isa, expert, &hidden);
            term.iter_mut().for_each(|y| *y *= weight);
            sum = Some(match sum {
                None => term,
                Some(sum) => sum.iter().zip(&term).map(|(a, b)| a + b).collect(),
            });
        }
        sum.unwrap()
    }

    /// As [`Layer::alone`], by the definition.
    fn exact(&self, x: &[f32], experts: &[u32], weights: &[f32]) -> Vec<f64> {
        let x: Vec<f64> = x.iter().map(|x| f64::from(*x)).collect();
        let mut sum = vec![0.0; self.n_embd];
        for (&expert, weight) in experts.iter().zip(weights) {
            let expert = expert as usize;
            let (gate, up) = (self.gate.exact(expert, &x), self.up.exact(expert, &x));
            let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
            let root = (2.0 / std::f64::consts::PI).sqrt();
            let hidden: Vec<f64> = gate
                .iter()
                .zip(&up)
                .map(|(&g, &u)| match self.function {
                    Function::Gated(Gate::Silu) => g * sigmoid(g) * u,
                    Function::Gated(Gate::GeluTanh) => {
                        0.5 * g * (1.0 + (root * (g + 0.044_715 * g * g * g)).tanh()) * u
                    }
                    Function::Gated(Gate::ClampedSilu) => {
                        g.min(7.0) * sigmoid(1.702 * g.min(7.0)) * (u.clamp(-7.0, 7.0) + 1.0)
                    }
                    Function::SquaredRelu => u.max(0.0).powi(2),
                })
                .collect();
            for (sum, y) in sum.iter_mut().zip(self.down.exact(expert, &hidden)) {
                *sum += f64::from(*weight) * y;
            }
        }
        sum
    }
}

/// Routes of random tokens; `crowd` of ten want the first experts.
fn random_routes(n_tokens: usize, n_experts: usize, n_used: usize, crowd: u64, rng: &mut Rng) -> Routes {
    let mut logits = vec![0.0; n_tokens * n_experts];
    for logits in logits.chunks_mut(n_experts) {
        logits.iter_mut().for_each(|x| *x = rng.normal());
        if rng.bits() >> 32 < (crowd << 32) / 10 {
            logits[..n_used].iter_mut().for_each(|x| *x += 20.0);
        }
    }
    routes_of(n_experts, n_used, &logits)
}

fn routes_of(n_experts: usize, n_used: usize, logits: &[f32]) -> Routes {
    let scoring = Scoring::SoftmaxOfChosen;
    let router = Router { n_experts, n_used, scoring, groups: None, is_normalised: false, scale: 1.3 };
    let mut routes = Routes::default();
    routes.choose(&Threads::new(1), Isa::detect(), &router, logits, None);
    routes
}

fn normal(n: usize, rng: &mut Rng) -> Vec<f32> {
    (0..n).map(|_| rng.normal()).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

const FUNCTIONS: [Function; 4] = [
    Function::Gated(Gate::Silu),
    Function::Gated(Gate::GeluTanh),
    Function::Gated(Gate::ClampedSilu),
    Function::SquaredRelu,
];

#[test]
fn a_token_among_others_has_the_bits_of_its_products_alone() {
    use GgmlType::{BF16, F16, F32, Q4_1, Q4K, Q6K, Q8_0};
    let mut rng = Rng::new(21);
    let pools = [Threads::new(1), Threads::new(2), Threads::new(5)];
    for isa in Isa::available() {
        for (i, (types, shape, n_used)) in [
            ([Q4K, Q4K, Q6K], (6, 256, 256), 2),
            ([Q8_0, Q4_1, Q8_0], (9, 96, 64), 4),
            // Some tiles are not whole.
            ([Q8_0, Q8_0, Q4_1], (5, 32, 96), 3),
            ([F16, BF16, F32], (4, 50, 37), 2),
            ([F32, Q8_0, F16], (4, 70, 64), 1),
            ([Q8_0, F16, Q8_0], (3, 64, 32), 3),
        ]
        .into_iter()
        .enumerate()
        {
            for extras in [false, true] {
                let layer =
                    Layer::random(types, shape, FUNCTIONS[(i + usize::from(extras)) % 4], extras, &mut rng);
                let rounding = [Rounding::Bits8, Rounding::Bits16][(i + usize::from(extras)) % 2];
                let (n_experts, n_embd) = (shape.0, shape.2);
                for (n_tokens, crowd) in [(1, 0), (2, 5), (7, 0), (40, 9), (300, 7)] {
                    if isa == Isa::SCALAR && n_tokens > 40 {
                        continue;
                    }
                    let x = normal(n_tokens * n_embd, &mut rng);
                    let routes = random_routes(n_tokens, n_experts, n_used, crowd, &mut rng);
                    let what = format!("{} {types:?} {n_tokens} tokens", isa.name());
                    let outs: Vec<_> =
                        pools.iter().map(|threads| layer.run(threads, isa, rounding, &x, &routes)).collect();
                    assert!(outs.iter().all(|out| bits(out) == bits(&outs[0])), "{what}: threads");
                    for token in (0..n_tokens).step_by(1 + n_tokens / 9) {
                        let chosen = token * n_used..(token + 1) * n_used;
                        let (experts, weights) =
                            (&routes.experts()[chosen.clone()], &routes.weights()[chosen]);
                        let at = token * n_embd..(token + 1) * n_embd;
                        let want = layer.alone(isa, rounding, &x[at.clone()], experts, weights);
                        assert_eq!(bits(&outs[0][at]), bits(&want), "{what}: token {token}");
                    }
                }
            }
        }
    }
}

#[test]
fn neither_the_order_of_the_others_nor_the_cut_of_a_step_changes_a_tokens_bits() {
    let (n_experts, n_used, n_embd, n) = (12, 3, 64, 180);
    let mut rng = Rng::new(22);
    let layer = Layer::random(
        [GgmlType::Q4_0, GgmlType::Q5_0, GgmlType::Q8_0],
        (n_experts, 64, n_embd),
        Function::Gated(Gate::Silu),
        true,
        &mut rng,
    );
    let (x, logits) = (normal(n * n_embd, &mut rng), normal(n * n_experts, &mut rng));
    for isa in Isa::available() {
        // The tokens in the order of `of`, in steps that end at `cuts`.
        let outputs = |n_threads: usize, of: &[usize], cuts: &[usize]| -> Vec<Vec<u32>> {
            let (threads, mut at, mut outputs) = (Threads::new(n_threads), 0, vec![vec![]; n]);
            for &cut in cuts {
                let step = &of[at..cut];
                let take = |all: &[f32], width: usize| -> Vec<f32> {
                    step.iter().flat_map(|i| &all[i * width..(i + 1) * width]).copied().collect()
                };
                let routes = routes_of(n_experts, n_used, &take(&logits, n_experts));
                let out = layer.run(&threads, isa, Rounding::Bits8, &take(&x, n_embd), &routes);
                step.iter().zip(out.chunks(n_embd)).for_each(|(i, out)| outputs[*i] = bits(out));
                at = cut;
            }
            outputs
        };
        let in_order: Vec<usize> = (0..n).collect();
        let whole = outputs(1, &in_order, &[n]);
        assert_eq!(outputs(2, &in_order, &[1, 2, 9, 73, 74, n]), whole, "{}: in steps", isa.name());
        for n_threads in 1..4 {
            let mut shuffled = in_order.clone();
            (1..n).for_each(|i| shuffled.swap(i, rng.bits() as usize % (i + 1)));
            assert_eq!(outputs(n_threads, &shuffled, &[n]), whole, "{}: shuffled", isa.name());
            assert_eq!(outputs(n_threads, &shuffled, &[3, 50, 179, n]), whole, "{}: both", isa.name());
        }
    }
}

#[test]
fn experts_are_as_defined_on_every_instruction_set() {
    let mut rng = Rng::new(23);
    for isa in Isa::available() {
        for function in FUNCTIONS {
            for extras in [false, true] {
                let (n_experts, n_ff, n_embd, n_used) = (7, 40, 24, 3);
                let shape = (n_experts, n_ff, n_embd);
                let layer = Layer::random([GgmlType::F32; 3], shape, function, extras, &mut rng);
                // As large as to reach what is cut.
                let x: Vec<f32> = normal(11 * n_embd, &mut rng).iter().map(|x| x * 0.7).collect();
                let routes = random_routes(11, n_experts, n_used, 3, &mut rng);
                let got = layer.run(&Threads::new(2), isa, Rounding::Bits8, &x, &routes);
                for (token, got) in got.chunks(n_embd).enumerate() {
                    let chosen = token * n_used..(token + 1) * n_used;
                    let (experts, weights) = (&routes.experts()[chosen.clone()], &routes.weights()[chosen]);
                    let want = layer.exact(&x[token * n_embd..][..n_embd], experts, weights);
                    let size = want.iter().fold(0.0f64, |a, b| a.max(b.abs()));
                    for (got, want) in got.iter().zip(&want) {
                        let error = (f64::from(*got) - want).abs();
                        assert!(error <= 2e-5 * size, "{} {function:?}: {got} for {want}", isa.name());
                    }
                }
            }
        }
    }
}

#[test]
fn a_row_that_is_not_finite_spoils_itself_only() {
    let mut rng = Rng::new(24);
    let types = [GgmlType::Q4K, GgmlType::Q4K, GgmlType::Q6K];
    let layer = Layer::random(types, (4, 256, 256), Function::Gated(Gate::Silu), true, &mut rng);
    let routes = random_routes(20, 4, 2, 5, &mut rng);
    for isa in Isa::available() {
        let mut x = normal(20 * 256, &mut rng);
        let want = layer.run(&Threads::new(2), isa, Rounding::Bits8, &x, &routes);
        x[7 * 256 + 100] = f32::NAN;
        let got = layer.run(&Threads::new(2), isa, Rounding::Bits8, &x, &routes);
        for token in 0..20 {
            let at = token * 256..(token + 1) * 256;
            if token == 7 {
                assert!(got[at].iter().all(|y| y.is_nan()));
            } else {
                assert_eq!(bits(&got[at.clone()]), bits(&want[at]), "{} token {token}", isa.name());
            }
        }
    }
}

#[test]
fn no_tokens_need_no_experts() {
    let mut rng = Rng::new(25);
    let layer = Layer::random([GgmlType::F32; 3], (4, 8, 8), Function::Gated(Gate::Silu), false, &mut rng);
    let routes = routes_of(4, 2, &[]);
    assert!(layer.run(&Threads::new(2), Isa::detect(), Rounding::Bits8, &[], &routes).is_empty());
}

#[test]
#[should_panic(expected = "shape of expert 1")]
fn experts_of_different_shapes_are_refused() {
    let mut rng = Rng::new(26);
    let function = Function::Gated(Gate::Silu);
    let mut layer = Layer::random([GgmlType::F32; 3], (2, 8, 8), function, false, &mut rng);
    let other = Layer::random([GgmlType::F32; 3], (2, 9, 8), function, false, &mut rng);
    layer.up.weights[1] = other.up.weights.into_iter().next().unwrap();
    layer.run(&Threads::new(1), Isa::detect(), Rounding::Bits8, &[1.0; 8], &routes_of(2, 2, &[0.5, 0.0]));
}
