//! Deadlines of a test, in the time of its cluster.

use crate::sim::{Time, ms};

/// How long things may take, in the time of the back end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// One request to one store.
    pub request: Time,
    /// Anything that must come to pass in the end.
    pub must: Time,
    /// From one look to the next at something that is waited for.
    pub poll: Time,
}

impl Default for Patience {
    /// A second a request and twenty for what must be: elections take a fifth of a second.
    fn default() -> Patience {
        Patience { request: ms(1000), must: ms(20_000), poll: ms(2) }
    }
}
