//! Nemotron 3 and what else of its kind has experts: its dense kin's plan says which.

use super::family::Family;
use super::nemotron_h;

pub(super) const FAMILY: Family =
    Family { architecture: "nemotron_h_moe", plan: nemotron_h::plan, tensors: nemotron_h::tensors };
