//! A little of what `cargo run --release -p tests --bin nemesis` does much of.

use harness::processes::faults::KINDS;
use harness::processes::nemesis::{Options, run};

/// One fault of each kind.
#[test]
fn what_clients_were_told_is_true_whatever_is_done_to_processes() {
    let options = Options { faults: KINDS.len(), ..Options::new(1) };
    let report =
        run(&options, &mut |line| eprintln!("{line}")).unwrap_or_else(|why| panic!("{why}"));
    report.print(&mut std::io::stderr()).unwrap();
    assert_eq!(report.faults(), KINDS.len() as u64);
    assert_eq!(report.undecided, 0);
    assert!(report.kills > 5 && report.pauses > 5 && report.stops > 1);
    assert!(report.tally.answered > 1000 && report.kept > 1000);
}
