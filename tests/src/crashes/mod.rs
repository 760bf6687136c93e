//! The log under every crash, flip and fault there is: `cargo run --release -p tests --bin crashes`.
//!
//! A *round* has a seed and does with it, one after the other:
//!
//! | chapter | what |
//! |---|---|
//! | `workload` | everything a log does, small, on a recorded simulated disk |
//! | `power` | a crash before every operation and inside every sync: all or many subsets of what is unsynced; killed processes; crashes during recovery; other batches over what was cut off |
//! | `images` | which subsets |
//! | `damage` | a log of 64 KiB: every bit flipped, sectors stale, zeroed, swapped, misdirected |
//! | `real` `seam` | the same on real files by each route, and what each moment of them may leave |
//! | `faults` | the k-th system call fails, for all k |
//! | `full` | a full tmpfs, once a run: an error, no SIGBUS, and service again when there is space |
//! | `model` `counts` | what a log should hold; how often each accident happened |
//!
//! What must hold for every image: it is recovered as exactly the log after some batch that was
//! appended by then, and not before the last that was synced; or if something durable was damaged,
//! it is refused by file and offset. The same seed gives the same round.
//!
//! ```no_run
//! use harness::crashes::{Counts, full, round};
//!
//! let (mut counts, what): (Counts, _) = round(7);
//! what?;
//! let (on_full_disk, what) = full::attack(&std::env::current_exe().map_err(|e| e.to_string())?);
//! what?;
//! counts.merge(on_full_disk);
//! println!("{} images of a disk, each recovered as it must be", counts.images());
//! // What the program calls itself for: full::fill(dir)
//! # Ok::<(), String>(())
//! ```

mod counts;
mod damage;
mod faults;
pub mod full;
mod images;
mod model;
mod power;
mod real;
mod seam;
mod workload;

use std::panic::{AssertUnwindSafe, catch_unwind};

pub use counts::Counts;

/// Does all of a seed's round; what it did, also if it found something. A panic is something found.
pub fn round(seed: u64) -> (Counts, Result<(), String>) {
    let mut counts = Counts::default();
    let all = || {
        power::attack(seed, &mut counts)?;
        damage::attack(seed, &mut counts)?;
        real::attack(seed, &mut counts)?;
        faults::attack(seed, &mut counts)
    };
    // What is counted stays counted.
    let result = catch_unwind(AssertUnwindSafe(all)).unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let said = said.or_else(|| panic.downcast_ref::<String>().cloned());
        Err(format!("a panic: {}", said.unwrap_or_default()))
    });
    counts.finish_round();
    (counts, result)
}
