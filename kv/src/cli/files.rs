//! Open files: each client is one, and the log must never be the one that gets none.
//!
//! A system gives a process 1024 at a time unless it asks for more. A store whose clients have taken all
//! of them can neither begin a segment of its log nor a checkpoint, and a log that fails ends the
//! store. So the program asks for what its clients and its stores may need, and takes fewer clients
//! where the system gives less.

use rustix::process::{Resource, getrlimit, setrlimit};

/// What a store needs beside its clients, generously: segments of the log, checkpoints, snapshots,
/// connections to the other stores.
const RESERVED: u64 = 1024;

/// How many clients each of `stores` stores in this process can have, at most `asked`. Raises what the
/// system allows this process, as far as it may.
pub(crate) fn clients_for(asked: usize, stores: usize) -> usize {
    let (asked64, stores) = (asked as u64, (stores as u64).max(1));
    let mut limit = getrlimit(Resource::Nofile);
    let Some(current) = limit.current else { return asked };
    let wanted = asked64.saturating_add(RESERVED).saturating_mul(stores);
    let raised = limit.maximum.unwrap_or(wanted).min(wanted);
    let mut allowed = current;
    if raised > current {
        limit.current = Some(raised);
        match setrlimit(Resource::Nofile, limit) {
            Ok(()) => allowed = raised,
            Err(e) => log::warn!("can't have more than {current} open files: {e}"),
        }
    }
    let clients = share(allowed, asked64, stores);
    if clients < asked64 {
        log::warn!(
            "{allowed} open files are allowed: each store takes {clients} clients, not {asked}"
        );
    }
    usize::try_from(clients).unwrap_or(asked)
}

/// Of `allowed` open files, the clients of each store. Where all is little, half of it is theirs.
fn share(allowed: u64, asked: u64, stores: u64) -> u64 {
    let reserved = RESERVED.saturating_mul(stores).min(allowed / 2);
    ((allowed - reserved) / stores).min(asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stores_come_first_and_clients_get_what_is_left() {
        assert_eq!(share(20_000, 10_000, 1), 10_000);
        assert_eq!(share(11_024, 10_000, 1), 10_000);
        assert_eq!(share(11_023, 10_000, 1), 9_999);
        assert_eq!(share(1024, 10_000, 1), 512);
        assert_eq!(share(4096, 10_000, 3), 682);
        assert_eq!(share(256, 10_000, 1), 128);
        assert_eq!(share(0, 10_000, 1), 0);
        assert_eq!(share(u64::MAX, u64::MAX, u64::MAX), 0);
    }

    #[test]
    fn this_process_can_have_a_few() {
        assert_eq!(clients_for(10, 1), 10);
        assert_eq!(clients_for(0, 3), 0);
    }
}
