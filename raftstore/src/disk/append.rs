//! Log files that are written through the page cache: by positioned writes, or by stores through
//! the map.

use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::{Flush, LogFile, LogView, Route};
use crate::wal::mapping::Map;

/// The only writer of a log file.
#[derive(Debug)]
pub(super) struct Appender {
    file: Arc<fs::File>,
    map: Map,
    route: Route,
}

impl Appender {
    /// Writes `file` from its start; it must have its final length and all its blocks.
    pub(super) fn new(file: fs::File, route: Route) -> io::Result<Appender> {
        let map = Map::new(&file, route == Route::Mapped)?;
        Ok(Appender { file: Arc::new(file), map, route })
    }
}

impl LogFile for Appender {
    fn len(&self) -> u64 {
        self.map.len()
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.route == Route::Mapped {
            return self.map.store(bytes);
        }
        let at = self.map.fixed();
        if bytes.len() as u64 > self.map.len() - at {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.file.write_all_at(bytes, at)?;
        self.map.fix(at + bytes.len() as u64);
        Ok(())
    }

    fn flush(&mut self) -> Box<dyn Flush> {
        Box::new(SyncFile(Arc::clone(&self.file)))
    }

    fn seal(&mut self) -> io::Result<()> {
        self.map.seal()
    }

    fn view(&self) -> Arc<dyn LogView> {
        self.map.view()
    }
}

/// A sync of the whole file, through the handle that wrote it.
#[derive(Debug)]
struct SyncFile(Arc<fs::File>);

impl Flush for SyncFile {
    fn run(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}
