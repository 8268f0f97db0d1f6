//! What Python's methods and attributes give and Jinja in Rust has no value for: views of a dict, and methods that are
//! not called.

use std::fmt;
use std::sync::Arc;

use minijinja::value::{DynObject, Enumerator, Object, ObjectRepr, Tuple, ValueKind};
use minijinja::{Error, State, Value};

/// `dict.items()`, `dict.keys()` or `dict.values()`.
#[derive(Debug)]
pub(crate) struct View {
    dict: DynObject,
    of: Of,
}

/// What a view shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Of {
    Items,
    Keys,
    Values,
}

impl View {
    pub(crate) fn new(dict: DynObject, of: Of) -> View {
        View { dict, of }
    }

    /// What stands around it when it is printed.
    pub(crate) fn brackets(&self) -> (&'static str, &'static str) {
        match self.of {
            Of::Items => ("dict_items([", "])"),
            Of::Keys => ("dict_keys([", "])"),
            Of::Values => ("dict_values([", "])"),
        }
    }
}

/// Whether this is a list or a tuple, or one that is made as it is read.
pub(crate) fn is_list(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable)
        && value.downcast_object_ref::<View>().is_none()
        && value.downcast_object_ref::<Generator>().is_none()
}

impl Object for View {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Iterable
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        let pairs = self.dict.try_iter_pairs().into_iter().flatten();
        let of = self.of;
        Enumerator::Values(
            pairs
                .map(|(key, value)| match of {
                    Of::Items => Value::from(Tuple::from([key, value])),
                    Of::Keys => key,
                    Of::Values => value,
                })
                .collect(),
        )
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        self.dict.enumerator_len()
    }
}

/// A method that is read and not called, which counts as true.
#[derive(Debug)]
pub(crate) struct Method {
    pub(crate) of: Value,
    pub(crate) name: String,
}

impl Object for Method {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call(self: &Arc<Self>, state: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
        self.of.call_method(state, &self.name, args)
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<built-in method {} of dict object>", self.name)
    }
}

/// What filters give that go through a list in Python: it has no length, counts as true though it is empty, and is
/// nothing that JSON knows.
#[derive(Debug)]
pub(crate) struct Generator(pub(crate) Value);

impl Object for Generator {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Iterable
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        match self.0.try_iter() {
            Ok(items) => Enumerator::Iter(Box::new(items)),
            Err(error) => Enumerator::Values(vec![Value::from(error)]),
        }
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        None
    }

    fn is_true(self: &Arc<Self>) -> bool {
        true
    }
}
