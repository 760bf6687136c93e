//! The client library over a cluster of the harness.

use std::time::Duration;

use kv::client::Link;
use kv::{Answer, Request};
use raftstore::StoreId;

use crate::cluster::Cluster;
use crate::sim::Time;

/// A way to the stores of a cluster, in its time.
pub struct ClusterLink<'a> {
    cluster: &'a mut Cluster,
}

impl<'a> ClusterLink<'a> {
    pub(super) fn new(cluster: &'a mut Cluster) -> ClusterLink<'a> {
        ClusterLink { cluster }
    }

    /// The cluster, to do something to it between two requests.
    pub fn cluster(&mut self) -> &mut Cluster {
        self.cluster
    }
}

fn time(duration: Duration) -> Time {
    Time::try_from(duration.as_micros()).unwrap_or(Time::MAX)
}

impl Link for ClusterLink<'_> {
    fn stores(&self) -> Vec<StoreId> {
        self.cluster.stores()
    }

    fn ask(&mut self, store: StoreId, request: &Request, within: Duration) -> Answer {
        self.cluster.call_within(store, request.clone(), time(within))
    }

    fn pause(&mut self, pause: Duration) {
        self.cluster.run_for(time(pause));
    }

    fn now(&self) -> Duration {
        Duration::from_micros(self.cluster.now())
    }
}
