//! The names of an enum's values: one list beside the enum, from which everything that names them is made.

/// Gives an enum its names in the API: `name()` of a value and `NAMES` of all, and with `ALL` the values themselves,
/// where they hold nothing. A value that the list lacks does not compile.
#[macro_export]
macro_rules! names {
    ($vis:vis $enum:ident { $($value:ident => $name:expr,)+ }) => {
        impl $enum {
            /// The name of each, in the order of the enum.
            $vis const NAMES: [&'static str; [$($name),+].len()] = [$($name),+];

            /// Its name, one of [`Self::NAMES`].
            $vis const fn name(&self) -> &'static str {
                match self {
                    $($enum::$value { .. } => $name,)+
                }
            }
        }
    };
    ($vis:vis $enum:ident, ALL { $($value:ident => $name:expr,)+ }) => {
        $crate::names! { $vis $enum { $($value => $name,)+ } }

        impl $enum {
            /// Each of them, in the order of the enum.
            $vis const ALL: [$enum; [$($name),+].len()] = [$($enum::$value),+];
        }
    };
}
