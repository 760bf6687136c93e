//! The heap, in a process where nobody else allocates: its account, and what an idle node may take
//! of it.

use benches::memory::{heap_bytes, heap_per_node};

/// One test, so that nothing else allocates meanwhile.
#[test]
fn the_heap_grows_by_what_is_allocated_and_an_idle_node_takes_little() {
    the_account_is_right();
    // A checked build remembers what it saw at the last check.
    let more = if cfg!(debug_assertions) { 64 } else { 0 };
    for (leaders, bytes_max) in [(false, 1024 + more), (true, 1536 + more)] {
        let bytes = heap_per_node(2000, leaders).expect("the C library keeps account");
        println!("{bytes} B of an idle node, leading: {leaders}");
        assert!((500..=bytes_max).contains(&bytes), "{bytes} B, leading: {leaders}");
    }
}

fn the_account_is_right() {
    let before = heap_bytes().expect("the C library keeps account");
    let kept: Vec<Vec<u8>> = (0..1000).map(|_| Vec::with_capacity(1000)).collect();
    let grown = heap_bytes().expect("the C library keeps account") - before;
    assert!((1_000_000..1_200_000).contains(&grown), "{grown}");
    drop(kept);
}
