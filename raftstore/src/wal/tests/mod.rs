//! The log attacked: what it must hold on every disk, and through every crash.

mod crash;
mod damage;
mod failures;
mod images;
mod inspect;
mod model;
mod reading;
mod real;
mod restart;
mod space;
mod spill;
mod support;
