//! What keys are for.

/// A part of the server that a key opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// The APIs that models answer by, and what these show of models and agents.
    Generate,
    /// Everything under `/admin`.
    Admin,
}

engine::names! {
    pub Scope, ALL {
        Generate => "generate",
        Admin => "admin",
    }
}

impl Scope {
    /// The one of this name.
    pub fn named(name: &str) -> Option<Scope> {
        Scope::ALL.into_iter().find(|scope| scope.name() == name)
    }

    /// The one that a path needs; some need a key, and any will do.
    pub(crate) fn of_path(path: &str) -> Option<Scope> {
        match path {
            "/metrics" | "/openapi.json" => None,
            "/admin" => Some(Scope::Admin),
            _ if path.starts_with("/admin/") => Some(Scope::Admin),
            _ => Some(Scope::Generate),
        }
    }
}
