//! What the machine's disks and memory say of themselves.

use std::path::Path;

/// Bytes written to all disks since the machine started: whole devices, as the kernel counts them.
/// 0 where it does not say.
#[must_use]
pub fn bytes_written() -> u64 {
    const SECTOR: u64 = 512;
    let text = std::fs::read_to_string("/proc/diskstats").unwrap_or_default();
    let rows = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let is_disk =
        |name: &str| Path::new("/sys/block").join(name).exists() && !name.starts_with("zram");
    let disks = rows.filter(|row| row.len() > 9 && is_disk(row[2]));
    disks.filter_map(|row| row[9].parse::<u64>().ok()).sum::<u64>() * SECTOR
}

/// Writes back what the page cache holds and drops it, so that what is read next comes from the
/// disk. Whether that was possible: it needs root.
#[must_use]
pub fn drop_caches() -> bool {
    // Without `sync` the dirty pages would stay.
    let synced = std::process::Command::new("sync").status();
    synced.is_ok_and(|status| status.success())
        && std::fs::write("/proc/sys/vm/drop_caches", "3").is_ok()
}
