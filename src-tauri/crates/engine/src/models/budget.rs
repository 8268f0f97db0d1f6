//! Who gets how many bytes, and who leaves for whom. Memory is promised once and kept until a model has left.
//!
//! Where a model does not fit beside others, idle ones leave first, the least recently used before others, with their
//! KV on disk.

use std::collections::BTreeMap;
use std::fmt;

use crate::told::loader::{MemoryLimit, Needs, PoolWish};
use crate::told::model_name::ModelName;
use crate::told::state::{Failure, FailureKind};

/// The pool's size when nobody says how much memory there is.
const UNKNOWN_BYTES: u64 = 1 << 30;

/// What models were promised.
pub struct MemoryBudget {
    limit: MemoryLimit,
    promised: BTreeMap<ModelName, u64>,
}

/// What becomes of a model that wants to come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It has its weights, and a pool of so many bytes.
    Granted {
        /// Bytes of the pool.
        pool_bytes: u64,
    },
    /// It fits when these have left.
    AfterLeaving(Vec<ModelName>),
    /// It does not fit, whoever leaves.
    Refused {
        /// Bytes that it needs at least.
        needed: u64,
        /// Bytes that can be had.
        available: u64,
    },
}

/// The failure of a model that was refused.
pub(crate) fn no_room(model: &ModelName, needed: u64, available: u64) -> Failure {
    let text = format!("model {model} needs {needed} bytes of memory and {available} can be had");
    Failure::new(FailureKind::NoRoom, text)
}

impl MemoryBudget {
    /// Nothing is promised yet.
    pub fn new(limit: MemoryLimit) -> MemoryBudget {
        MemoryBudget { limit, promised: BTreeMap::new() }
    }

    /// Bytes promised in all.
    pub fn promised_bytes(&self) -> u64 {
        self.promised.values().sum()
    }

    /// Judge what `model` needs; `idle` are those that may leave for it, the first one first. What is granted is
    /// promised.
    ///
    /// Weights are all touched, and so is a pool that holds a context: a model for which there is no such room is
    /// refused, whoever leaves. A larger pool that somebody wishes for is not, where the model is alone: memory that
    /// nobody fills is never touched. A pool that nobody has set is half of what is left beyond the weights, so that it
    /// cannot push the machine into swapping.
    pub fn judge(&mut self, model: &ModelName, needs: &Needs, idle: &[ModelName]) -> Verdict {
        let limit = [(self.limit)(), needs.device_bytes].into_iter().flatten().min();
        let Some(limit) = limit else {
            let pool_bytes = match needs.pool {
                PoolWish::Fixed(bytes) => bytes,
                PoolWish::AtMost(most) => most.min(UNKNOWN_BYTES),
            };
            return self.grant(model, needs, pool_bytes);
        };
        let of = |name: &ModelName| self.promised.get(name).copied().unwrap_or(0);
        let others: u64 = self.promised_bytes() - of(model);
        let free = limit.saturating_sub(others);
        let for_pool = free.saturating_sub(needs.weights_bytes) / 2;
        let (least, pool_bytes) = match needs.pool {
            PoolWish::Fixed(bytes) => (bytes, bytes),
            PoolWish::AtMost(most) => (needs.least_pool_bytes, most.min(for_pool)),
        };
        let touched = needs.weights_bytes.saturating_add(needs.least_pool_bytes);
        if touched > limit {
            return Verdict::Refused { needed: touched, available: limit };
        }
        if others == 0 {
            return self.grant(model, needs, pool_bytes.max(least));
        }
        let needed = needs.weights_bytes.saturating_add(least);
        if needed <= free {
            return self.grant(model, needs, pool_bytes.max(least));
        }
        let mut left = others;
        let mut leaving = Vec::new();
        for name in idle.iter().filter(|name| *name != model && of(name) > 0) {
            left -= of(name);
            leaving.push(name.clone());
            // One that is then alone is taken as it is.
            if left == 0 || needed <= limit.saturating_sub(left) {
                return Verdict::AfterLeaving(leaving);
            }
        }
        Verdict::Refused { needed, available: limit.saturating_sub(left) }
    }

    fn grant(&mut self, model: &ModelName, needs: &Needs, pool_bytes: u64) -> Verdict {
        self.promised.insert(model.clone(), needs.weights_bytes.saturating_add(pool_bytes));
        Verdict::Granted { pool_bytes }
    }

    /// A model has left, or did not come in.
    pub fn give_back(&mut self, model: &ModelName) {
        self.promised.remove(model);
    }
}

impl fmt::Debug for MemoryBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBudget").field("promised", &self.promised).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const GIB: u64 = 1 << 30;

    fn budget(limit: Option<u64>) -> MemoryBudget {
        MemoryBudget::new(Arc::new(move || limit))
    }

    fn needs(weights: u64, pool: PoolWish) -> Needs {
        Needs { weights_bytes: weights, least_pool_bytes: 1000, pool, device_bytes: None }
    }

    fn granted(pool_bytes: u64) -> Verdict {
        Verdict::Granted { pool_bytes }
    }

    #[test]
    fn a_model_alone_gets_what_it_can_use_or_half_of_what_its_weights_leave() {
        for (limit, wish, want) in [
            (Some(64 * GIB), PoolWish::AtMost(GIB), GIB),
            (Some(5 * GIB), PoolWish::AtMost(64 * GIB), 2 * GIB),
            (Some(GIB + 1001), PoolWish::AtMost(64 * GIB), 1000),
            (Some(GIB + 1000), PoolWish::Fixed(7 * GIB), 7 * GIB),
            (None, PoolWish::AtMost(64 * GIB), UNKNOWN_BYTES),
            (None, PoolWish::Fixed(7 * GIB), 7 * GIB),
        ] {
            let mut budget = budget(limit);
            assert_eq!(
                budget.judge(&"a".into(), &needs(GIB, wish), &[]),
                granted(want),
                "{limit:?} {wish:?}"
            );
            assert_eq!(budget.promised_bytes(), GIB + want);
        }
    }

    #[test]
    fn weights_and_a_context_that_memory_cannot_hold_are_refused_also_alone_and_send_nobody_away() {
        let refused = Verdict::Refused { needed: 2 * GIB + 1000, available: 2 * GIB + 999 };
        for wish in [PoolWish::AtMost(64 * GIB), PoolWish::Fixed(64 * GIB), PoolWish::Fixed(0)] {
            let mut budget = budget(Some(2 * GIB + 999));
            assert_eq!(budget.judge(&"a".into(), &needs(2 * GIB, wish), &[]), refused, "{wish:?}");
            assert_eq!(budget.promised_bytes(), 0);
            let b = ModelName::from("b");
            assert_eq!(budget.judge(&b, &needs(GIB, PoolWish::Fixed(0)), &[]), granted(0));
            assert_eq!(budget.judge(&"a".into(), &needs(2 * GIB, wish), &[b]), refused, "{wish:?}");
        }
        let of_device = Needs { device_bytes: Some(GIB), ..needs(GIB, PoolWish::Fixed(0)) };
        let refused = Verdict::Refused { needed: GIB + 1000, available: GIB };
        assert_eq!(budget(Some(64 * GIB)).judge(&"a".into(), &of_device, &[]), refused);
    }

    #[test]
    fn a_device_that_has_less_than_the_machine_is_the_limit() {
        let mut budget = budget(Some(64 * GIB));
        let needs = Needs { device_bytes: Some(3 * GIB), ..needs(GIB, PoolWish::AtMost(64 * GIB)) };
        assert_eq!(budget.judge(&"a".into(), &needs, &[]), granted(GIB));
    }

    #[test]
    fn memory_is_promised_once_and_kept_until_a_model_has_left() {
        let mut budget = budget(Some(10 * GIB));
        let (a, b) = (ModelName::from("a"), ModelName::from("b"));
        assert_eq!(budget.judge(&a, &needs(2 * GIB, PoolWish::Fixed(4 * GIB)), &[]), granted(4 * GIB));
        assert_eq!(budget.judge(&b, &needs(2 * GIB, PoolWish::AtMost(64 * GIB)), &[]), granted(GIB));
        budget.give_back(&b);
        let large = needs(3 * GIB, PoolWish::Fixed(2 * GIB));
        assert_eq!(
            budget.judge(&b, &large, &[]),
            Verdict::Refused { needed: 5 * GIB, available: 4 * GIB },
            "nobody may leave"
        );
        assert_eq!(
            budget.judge(&b, &large, std::slice::from_ref(&a)),
            Verdict::AfterLeaving(vec![a.clone()])
        );
        assert_eq!(budget.promised_bytes(), 6 * GIB, "a verdict that is not a grant promises nothing");
        budget.give_back(&a);
        assert_eq!(budget.judge(&b, &large, &[]), granted(2 * GIB));
    }

    #[test]
    fn as_few_leave_as_are_needed_and_those_first_that_come_first() {
        let mut budget = budget(Some(9 * GIB));
        let names = ["a", "b", "c"].map(ModelName::from);
        for name in &names {
            budget.judge(name, &needs(2 * GIB, PoolWish::Fixed(GIB)), &[]);
        }
        let d = ModelName::from("d");
        let judge = |budget: &mut MemoryBudget, weights, idle: &[usize]| {
            let idle: Vec<ModelName> = idle.iter().map(|&i| names[i].clone()).collect();
            budget.judge(&d, &needs(weights, PoolWish::AtMost(64 * GIB)), &idle)
        };
        let leaving =
            |which: &[usize]| Verdict::AfterLeaving(which.iter().map(|&i| names[i].clone()).collect());
        assert_eq!(judge(&mut budget, 2 * GIB, &[2, 0, 1]), leaving(&[2]));
        assert_eq!(judge(&mut budget, 4 * GIB, &[2, 0, 1]), leaving(&[2, 0]));
        assert_eq!(
            judge(&mut budget, 8 * GIB, &[2, 0]),
            Verdict::Refused { needed: 8 * GIB + 1000, available: 6 * GIB }
        );
        // A pool that would be taken alone is taken when all others can go; weights that do not fit send nobody away.
        let wide = needs(2 * GIB, PoolWish::Fixed(64 * GIB));
        assert_eq!(budget.judge(&d, &wide, &[2, 0, 1].map(|i: usize| names[i].clone())), leaving(&[2, 0, 1]));
        assert_eq!(
            judge(&mut budget, 20 * GIB, &[2, 0, 1]),
            Verdict::Refused { needed: 20 * GIB + 1000, available: 9 * GIB }
        );
    }

    #[test]
    fn a_model_that_is_loaded_again_is_not_in_its_own_way() {
        let mut budget = budget(Some(4 * GIB));
        let a = ModelName::from("a");
        for _ in 0..3 {
            assert_eq!(budget.judge(&a, &needs(GIB, PoolWish::AtMost(64 * GIB)), &[]), granted(3 * GIB / 2));
        }
    }
}
