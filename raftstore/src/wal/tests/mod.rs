//! The log attacked: what it must hold on every disk, and through every crash.

mod crash;
mod images;
mod model;
mod support;
