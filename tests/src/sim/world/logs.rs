//! The log of a store, looked at when it has been cleaned up: how large it is, and what is in it.

use raftstore::wal::WalStats;
use raftstore::{RegionId, StoreId};

use super::{World, at};
use crate::sim::shadow::Group;
use crate::sim::{Failure, Subject};

impl<S: Subject> World<S> {
    /// The log of a store was synced, and what nobody needs was dropped.
    pub(super) fn judge_log(&mut self, id: StoreId, stats: WalStats) -> Result<(), Failure> {
        let judged = self.oracles.on_space(&stats, self.options.segment_bytes);
        judged.map_err(|why| self.failure(id, why))?;
        let host = &mut self.hosts[at(id)];
        // A damaged disk need not give everything back.
        let Some(process) = host.process.as_mut().filter(|_| host.rotten.is_none()) else {
            return Ok(());
        };
        let before = std::mem::replace(&mut process.collected, stats);
        if before.segments_dropped != stats.segments_dropped { self.read_log(id) } else { Ok(()) }
    }

    /// Reads everything that the log of a running store must have durably, of all groups.
    ///
    /// # Errors
    /// If something is not there, or not what was written.
    pub fn read_log(&mut self, id: StoreId) -> Result<(), Failure> {
        let Some(process) = &self.hosts[at(id)].process else { return Ok(()) };
        if process.wal.appended() != process.wal.durable() {
            // What is being written may replace what is durable.
            return Ok(());
        }
        let groups: Vec<(RegionId, Group)> =
            self.hosts[at(id)].shadow.groups().map(|(id, group)| (id, group.clone())).collect();
        let reader = process.wal.reader();
        for (region, group) in groups {
            let wrong = |why: String| format!("{region:?} is read back from the log: {why}");
            let range = group.compacted().index + 1..group.last() + 1;
            let count = range.end - range.start;
            let read = reader.entries(region, range, u64::MAX);
            let judged = read.map_err(|error| error.to_string()).and_then(|entries| {
                if entries.len() as u64 != count {
                    return Err(format!("{} entries of {count}", entries.len()));
                }
                let unlike = entries.iter().find(|entry| !group.has(entry.id));
                if let Some(entry) = unlike {
                    return Err(format!("{}, of {group:?}", entry.id));
                }
                let commit = group.commit();
                entries.iter().try_for_each(|entry| self.oracles.on_entry(region, entry, commit))
            });
            judged.map_err(|why| self.failure(id, wrong(why)))?;
        }
        Ok(())
    }
}
