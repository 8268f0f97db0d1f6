//! The words that a field may have, as the API's description lists them: those of the lists beside the enums.

use engine::{
    After, Backend, DifferenceReason, FailureKind, GpuRefusalKind, NotReadyReason, Outcome, Phase, Purpose,
    State, Tier, Trouble,
};
use serde_json::Value;
use utoipa::openapi::schema::{Object, ObjectBuilder, SchemaType, Type};

use crate::calls::fault::FaultKind;
use crate::keys::scope::Scope;

pub(crate) fn states() -> Object {
    one_of(State::NAMES)
}

pub(crate) fn not_ready_reasons() -> Object {
    one_of(NotReadyReason::NAMES)
}

pub(crate) fn failure_kinds() -> Object {
    one_of(FailureKind::NAMES)
}

pub(crate) fn backends() -> Object {
    one_of(Backend::NAMES)
}

pub(crate) fn gpu_refusal_kinds() -> Object {
    one_of(GpuRefusalKind::NAMES)
}

pub(crate) fn afters() -> Object {
    one_of(After::NAMES)
}

pub(crate) fn phases() -> Object {
    one_of(Phase::NAMES)
}

pub(crate) fn outcomes() -> Object {
    one_of(Outcome::NAMES)
}

pub(crate) fn difference_reasons() -> Object {
    one_of(DifferenceReason::NAMES)
}

pub(crate) fn purposes() -> Object {
    one_of(Purpose::NAMES)
}

pub(crate) fn tiers() -> Object {
    one_of(Tier::NAMES)
}

pub(crate) fn fault_codes() -> Object {
    one_of(FaultKind::ALL.iter().map(|kind| kind.name()))
}

pub(crate) fn scopes() -> Object {
    one_of(Scope::NAMES)
}

/// Why the disk takes nothing, or null.
pub(crate) fn troubles() -> Object {
    let names = Trouble::ALL.map(|trouble| Value::from(trouble.name()));
    ObjectBuilder::new()
        .schema_type(SchemaType::from_iter([Type::String, Type::Null]))
        .enum_values(Some(names.into_iter().chain([Value::Null])))
        .build()
}

fn one_of(names: impl IntoIterator<Item = &'static str>) -> Object {
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(names)).build()
}
