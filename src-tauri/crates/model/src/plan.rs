//! What a model computes, in data. No family is named here: each describes its models in these words.

pub(crate) mod convert;
pub(crate) mod encoder_plan;
pub(crate) mod encoder_weights;
pub(crate) mod experts;
pub(crate) mod model_plan;
pub(crate) mod products;
pub(crate) mod recurrent;
pub(crate) mod recurrent_weights;
pub(crate) mod rope_plan;
pub(crate) mod tensor_list;
pub(crate) mod weights;
