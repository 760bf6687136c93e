//! Measurements: what the criterion groups and the binary `figures` share.
//!
//! * [`cluster`]: three (or any number of) cores in one thread, moved by hand.
//! * [`cells`]: cells that are measured in turn, and how their figures are printed.
//! * [`device`]: what the disks say of themselves.
//! * [`core`], [`idle`], [`memory`], [`wal`], [`recovery`], [`e2e`], [`floor`], [`catchup`]: the
//!   workloads of `figures`, one subcommand each.
//!
//! The workloads are those that other Raft libraries are measured with, so that every figure can
//! be quoted as a ratio taken in the same minutes on the same machine. A figure is one line:
//! `name<TAB>metric<TAB>value<TAB>unit`.

pub mod catchup;
pub mod cells;
pub mod cluster;
pub mod core;
pub mod device;
pub mod e2e;
pub mod floor;
pub mod idle;
pub mod memory;
pub mod options;
pub mod recovery;
pub mod wal;
