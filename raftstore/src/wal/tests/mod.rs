//! The log attacked: what it must hold on every disk, and through every crash.

mod model;
mod support;
