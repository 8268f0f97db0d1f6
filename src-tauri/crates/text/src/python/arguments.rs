//! What a filter or a method is called with.

use minijinja::value::{Kwargs, Rest, from_args};
use minijinja::{Error, ErrorKind, Value};

/// Arguments by place and by name: at most as many as there are names, none of them twice. One whose name is empty can
/// be given by place alone.
///
/// # Errors
/// There are others.
pub(crate) fn bind<const N: usize>(
    method: &str,
    args: &[Value],
    names: [&str; N],
) -> Result<[Option<Value>; N], Error> {
    let (by_place, by_name): (Rest<Value>, Kwargs) = from_args(args)?;
    if by_place.len() > N {
        return Err(ErrorKind::TooManyArguments.into());
    }
    let mut bound = [const { None }; N];
    for (i, name) in names.iter().enumerate() {
        let named = by_name.get::<Option<Value>>(name)?;
        bound[i] = match (by_place.get(i), named) {
            (Some(_), Some(_)) => {
                let twice = format!("{method}: {name} is given twice");
                return Err(Error::new(ErrorKind::InvalidOperation, twice));
            }
            (Some(value), None) => Some(value.clone()),
            (None, named) => named,
        };
    }
    by_name.assert_all_used()?;
    Ok(bound)
}
