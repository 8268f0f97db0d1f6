//! Numbers in schemas: which are held to exactly.
//!
//! The grammar library computes with floating-point numbers, so a whole number beyond 2^53 would be another one.

use serde_json::{Map, Value};

use super::SchemaFault;
use super::place::Place;

/// 2^53: up to here every whole number is a floating-point number.
const EXACT: f64 = 9_007_199_254_740_992.0;
/// The largest floating-point number below 2^63.
const LARGEST: f64 = 9_223_372_036_854_774_784.0;
/// From here on a bound has as many digits as the library can count.
const UNCOUNTED: f64 = 1e17;
/// Bounds of numbers that are not whole: beyond, their digits are thousands.
const LARGEST_REAL: f64 = 1e15;
/// Smaller ones have more digits than a grammar should write out.
const SMALLEST_REAL: f64 = 1e-15;
/// How far an exclusive bound is moved, for its size.
const REAL_STEP: f64 = 1e-9;
/// Each possible remainder is a state of the grammar.
const MAX_DIVISOR: f64 = 10_000.0;
const MAX_COMMON_MULTIPLE: u64 = 10_000;
const MAX_DECIMALS: u32 = 9;

/// That each number in a value is one that is forced as it is written.
pub(super) fn check_exact(value: &Value, at: &Place<'_>) -> Result<(), SchemaFault> {
    match value {
        Value::Number(number) => {
            let whole = number.as_i64().map(i64::unsigned_abs).or(number.as_u64());
            let inexact = match (whole, number.as_f64()) {
                (Some(whole), _) => whole > EXACT as u64,
                (None, Some(n)) => n.abs() >= EXACT || (n != 0.0 && n.abs() < SMALLEST_REAL),
                (None, None) => true,
            };
            let message = format!("the number {number} cannot be held to exactly");
            if inexact { Err(at.fault(message)) } else { Ok(()) }
        }
        Value::Array(list) => {
            list.iter().enumerate().try_for_each(|(i, value)| check_exact(value, &at.nth(i)))
        }
        Value::Object(object) => object.iter().try_for_each(|(key, value)| check_exact(value, &at.at(key))),
        _ => Ok(()),
    }
}

/// A bound that a number can be held to; draft 4's booleans are taken, `false` says nothing.
pub(super) fn bound(value: &Value, at: &Place<'_>) -> Result<Option<Value>, SchemaFault> {
    match value {
        Value::Bool(false) if at.last().is_some_and(|name| name.starts_with("exclusive")) => Ok(None),
        Value::Bool(true) if at.last().is_some_and(|name| name.starts_with("exclusive")) => {
            Ok(Some(value.clone()))
        }
        Value::Number(_) => Ok(Some(value.clone())),
        _ => Err(at.fault("must be a number")),
    }
}

/// Moves a schema's bounds inwards to where the library holds them exactly.
pub(super) fn hold_to_representable_bounds(
    schema: &mut Map<String, Value>,
    at: &Place<'_>,
) -> Result<(), SchemaFault> {
    // Draft 4: `exclusiveMinimum: true` is said of `minimum`.
    for (exclusive, plain) in [("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")] {
        if schema.get(exclusive) == Some(&Value::Bool(true)) {
            schema.remove(exclusive);
            if let Some(bound) = schema.remove(plain) {
                schema.insert(exclusive.into(), bound);
            }
        }
    }
    let types = match schema.get("type") {
        Some(Value::String(name)) => vec![name.as_str()],
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let is_whole = types.contains(&"integer") && !types.contains(&"number");
    let largest = if is_whole { LARGEST } else { LARGEST_REAL };
    for (name, sign) in
        [("minimum", 1.0), ("exclusiveMinimum", 1.0), ("maximum", -1.0), ("exclusiveMaximum", -1.0)]
    {
        let Some(value) = schema.get(name) else { continue };
        // `sign` turns a maximum round, so that inwards is upwards.
        let Some(n) = value.as_f64().map(|n| n * sign) else {
            return Err(at.at(name).fault("must be a number"));
        };
        if n >= largest {
            return Err(at.at(name).fault(format!("numbers beyond {value} cannot be held to")));
        }
        if n <= -largest {
            // No number that is written out is beyond it.
            schema.remove(name);
            continue;
        }
        if !is_whole && name.starts_with("exclusive") {
            // The library takes a bound with a zero more behind it for another number, so it is moved inwards.
            let inclusive = if sign > 0.0 { "minimum" } else { "maximum" };
            let other = schema.get(inclusive).and_then(Value::as_f64).map(|other| other * sign);
            let moved = n + (n.abs() * REAL_STEP).max(REAL_STEP);
            schema.remove(name);
            schema.insert(inclusive.into(), (other.map_or(moved, |other| other.max(moved)) * sign).into());
            continue;
        }
        let rounded = if is_whole { whole_inwards(value, sign) } else { n };
        let bound = rounded * sign;
        if is_whole && rounded.abs() >= EXACT {
            // Moved inwards it includes itself.
            let inclusive = if sign > 0.0 { "minimum" } else { "maximum" };
            let inwards = if name == inclusive { rounded } else { rounded.next_up() };
            schema.remove(name);
            schema.insert(inclusive.into(), (inwards * sign).into());
        } else if bound.fract() == 0.0 && bound.abs() < EXACT {
            schema.insert(name.into(), (bound as i64).into());
        }
    }
    if is_whole {
        // Digits without end begin where the library cannot count them.
        let is_large = |names: [&str; 2]| {
            let bounds = names.iter().filter_map(|name| schema.get(*name)?.as_f64());
            bounds.map(f64::abs).any(|n| n >= UNCOUNTED)
        };
        let has = |names: [&str; 2]| names.iter().any(|name| schema.contains_key(*name));
        let (low, high) = (["minimum", "exclusiveMinimum"], ["maximum", "exclusiveMaximum"]);
        let (needs_high, needs_low) = (is_large(low) && !has(high), is_large(high) && !has(low));
        if needs_high {
            schema.insert("maximum".into(), LARGEST.into());
        }
        if needs_low {
            schema.insert("minimum".into(), (-LARGEST).into());
        }
    }
    Ok(())
}

/// A whole number, or the floating-point number next to it on the side of `sign`, times `sign`.
fn whole_inwards(value: &Value, sign: f64) -> f64 {
    let Some(n) = value.as_f64() else { return 0.0 };
    let exact = value.as_i64().map(i128::from).or(value.as_u64().map(i128::from));
    let turned = n * sign;
    match exact {
        Some(exact) if n.abs() >= EXACT => {
            let exact = if sign > 0.0 { exact } else { -exact };
            if (turned as i128) < exact { turned.next_up() } else { turned }
        }
        _ => turned.ceil(),
    }
}

/// A divisor as a whole number and how many decimals it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Divisor {
    digits: u64,
    decimals: u32,
}

/// A divisor whose multiples can be told from other numbers by their digits; nothing for one with too many.
pub(super) fn divisor(value: &Value, at: &Place<'_>) -> Result<Option<Divisor>, SchemaFault> {
    let positive = value.as_f64().filter(|n| *n > 0.0 && n.is_finite());
    let mut n = positive.ok_or_else(|| at.fault("must be a number above 0"))?;
    // As the library counts decimals.
    let mut decimals = 0;
    while n.fract() != 0.0 && decimals < MAX_DECIMALS {
        n *= 10.0;
        decimals += 1;
    }
    let fits = n.fract() == 0.0 && n <= MAX_DIVISOR;
    Ok(fits.then_some(Divisor { digits: n as u64, decimals }))
}

/// Whether numbers could be held to multiples of all of these at once.
pub(super) fn can_meet(divisors: &[Divisor]) -> bool {
    let Some(first) = divisors.first() else { return true };
    let product = divisors.iter().try_fold(1u64, |product, divisor| product.checked_mul(divisor.digits));
    divisors.len() == 1
        || divisors.iter().all(|divisor| divisor.decimals == first.decimals)
            && product.is_some_and(|product| product <= MAX_COMMON_MULTIPLE)
}
