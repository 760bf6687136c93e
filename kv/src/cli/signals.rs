//! Being told to stop: by Ctrl-C, `kill`, or whoever runs services.
//!
//! The first signal asks; the second, of whichever kind, ends the process at once, from within the
//! signal's handler, whatever hangs.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::TERM_SIGNALS;
use signal_hook::flag;
use signal_hook::iterator::Signals;

/// Exit code after the second signal: that of a program killed by Ctrl-C.
const IMPATIENT: i32 = 130;

/// Calls `stop` on a thread of its own when the first signal comes.
///
/// # Errors
/// If the system takes no handlers, or gives no thread.
pub(crate) fn on_first(stop: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let asked = Arc::new(AtomicBool::new(false));
    for &signal in TERM_SIGNALS {
        // In this order: the first signal finds the flag unset, and sets it.
        flag::register_conditional_shutdown(signal, IMPATIENT, Arc::clone(&asked))?;
        flag::register(signal, Arc::clone(&asked))?;
    }
    let mut signals = Signals::new(TERM_SIGNALS)?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        if signals.forever().next().is_some() {
            stop();
        }
    })?;
    Ok(())
}
