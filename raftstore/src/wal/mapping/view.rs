//! What readers have of a mapping.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use memmap2::Advice;

use super::{Mapping, lend};
use crate::disk::LogView;

#[derive(Debug)]
struct View(Arc<Mapping>);

pub(super) fn of(mapping: Arc<Mapping>) -> Arc<dyn LogView> {
    Arc::new(View(mapping))
}

impl LogView for View {
    fn len(&self) -> u64 {
        self.0.fixed.load(Ordering::Acquire) as u64
    }

    fn bytes(&self, range: Range<u64>) -> Option<Bytes> {
        lend(&self.0, range)
    }

    fn read_ahead(&self, range: Range<u64>) {
        let range = range.start as usize..(range.end as usize).min(self.0.map.len());
        // Kernels before 5.14 don't know it; then the pages come when they are needed.
        let _ = self.0.map.advise_range(Advice::PopulateRead, range.start, range.len());
    }

    fn is_lent(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}
