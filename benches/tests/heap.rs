//! The account of the heap, in a process where nobody else allocates.

use benches::memory::heap_bytes;

#[test]
fn the_heap_grows_by_what_is_allocated() {
    let before = heap_bytes().expect("the C library keeps account");
    let kept: Vec<Vec<u8>> = (0..1000).map(|_| Vec::with_capacity(1000)).collect();
    let grown = heap_bytes().expect("the C library keeps account") - before;
    assert!((1_000_000..1_200_000).contains(&grown), "{grown}");
    drop(kept);
}
