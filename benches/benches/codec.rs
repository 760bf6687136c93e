//! The one encoding of entries, on the wire and on disk: the message that most bytes travel in, and
//! the one that is sent most.

use std::hint::black_box;
use std::time::Duration;

use benches::cells::noise;
use bytes::{Bytes, BytesMut};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use raft::{Body, Entries, Entry, LogId, Message, NodeId, Run};
use raftstore::codec::frame::{decode_frame, encode_messages};
use raftstore::codec::message::PeerMessage;
use raftstore::{Epoch, RegionId};

/// Length and checksum, before what they are of.
const FRAME_HEADER_BYTES: usize = 8;

fn message(body: Body) -> PeerMessage {
    let id = |n| NodeId::new(n).expect("not zero");
    PeerMessage {
        region: RegionId::FIRST,
        epoch: Epoch { version: 1, conf_ver: 1 },
        message: Message { from: id(1), to: id(2), term: 7, body },
    }
}

fn append(entries: usize, payload: usize) -> PeerMessage {
    let run = vec![Entry::normal(Bytes::from(noise(payload, 1))); entries];
    let entries = Run::new(7, 101, run).map(Entries::from).unwrap_or_default();
    message(Body::AppendEntries { prev: LogId { term: 7, index: 100 }, entries, commit: 100 })
}

fn codec(c: &mut Criterion) {
    let mut group = c.benchmark_group("codec");
    let cases = [
        ("heartbeat", 1, message(Body::Heartbeat { commit: 100, read: 3 })),
        ("append-p256-e1", 1, append(1, 256)),
        ("append-p256-e64", 64, append(64, 256)),
        ("append-p4096-e64", 64, append(64, 4096)),
    ];
    for (name, elements, message) in cases {
        let messages = [message];
        let mut frame = BytesMut::new();
        encode_messages(&messages, &mut frame);
        let bytes = frame.len() as u64;
        group.throughput(Throughput::ElementsAndBytes { elements, bytes });
        let mut out = BytesMut::with_capacity(frame.len());
        group.bench_function(BenchmarkId::new("encode", name), |b| {
            b.iter(|| {
                out.clear();
                encode_messages(black_box(&messages), &mut out);
            });
        });
        let frame = frame.freeze();
        let sum = u32::from_le_bytes([frame[4], frame[5], frame[6], frame[7]]);
        let content = frame.slice(FRAME_HEADER_BYTES..);
        group.bench_function(BenchmarkId::new("decode", name), |b| {
            b.iter(|| decode_frame(black_box(content.clone()), sum).expect("it was encoded"));
        });
    }
    group.finish();
}

criterion_group! {
    name = codecs;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(800))
        .sample_size(20);
    targets = codec
}
criterion_main!(codecs);
