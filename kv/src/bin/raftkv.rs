//! raftkv.
fn main() {}
