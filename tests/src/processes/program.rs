//! One process of the program, and what can be done to it from outside.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;

use rustix::process::{Pid, Signal, kill_process};

/// Where `raftkv` is, built like the program that asks (in release mode or not) if need be.
///
/// ```no_run
/// let program = harness::processes::program::raftkv()?;
/// assert!(program.ends_with("raftkv"));
/// # Ok::<(), String>(())
/// ```
///
/// # Errors
/// If it cannot be built.
pub fn raftkv() -> Result<PathBuf, String> {
    static BUILT: Mutex<Option<PathBuf>> = Mutex::new(None);
    let mut built = BUILT.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(path) = &*built {
        return Ok(path.clone());
    }
    let this = std::env::current_exe().map_err(|e| format!("where this program is: {e}"))?;
    let mut folder = this.parent().ok_or("this program is nowhere")?;
    if folder.ends_with("deps") {
        folder = folder.parent().ok_or("tests are built into some folder")?;
    }
    let target = folder.parent().ok_or("there is no target folder")?;
    let mut build = Command::new(option_env!("CARGO").unwrap_or("cargo"));
    build.args(["build", "--quiet", "-p", "kv", "--bin", "raftkv", "--target-dir"]).arg(target);
    build.current_dir(env!("CARGO_MANIFEST_DIR"));
    if folder.ends_with("release") {
        build.arg("--release");
    }
    let done = build.status().map_err(|e| format!("cargo: {e}"))?;
    if !done.success() {
        return Err("raftkv cannot be built".to_owned());
    }
    Ok(built.insert(folder.join("raftkv")).clone())
}

/// A process that is killed with its handle.
///
/// ```
/// use harness::processes::program::Process;
///
/// let dir = tempfile::tempdir()?;
/// let mut sleep = Process::start("sleep".as_ref(), &["60".into()], &dir.path().join("log"))?;
/// sleep.pause()?;
/// assert_eq!(sleep.ended(), None);
/// sleep.resume()?;
/// sleep.kill()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Process(Child);

impl Process {
    /// Starts `program`; what it says is added to the file `log`.
    ///
    /// # Errors
    /// If the system does not start it.
    pub fn start(program: &Path, args: &[String], log: &Path) -> Result<Process, String> {
        let wrong = |e: std::io::Error| format!("{}: {e}", program.display());
        let out = File::options().create(true).append(true).open(log).map_err(wrong)?;
        let both = out.try_clone().map_err(wrong)?;
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::null()).stdout(both).stderr(out);
        command.spawn().map(Process).map_err(wrong)
    }

    fn signal(&self, signal: Signal) -> Result<(), String> {
        let pid = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw);
        let sent = pid.map(|pid| kill_process(pid, signal));
        match sent {
            Some(Ok(())) => Ok(()),
            other => Err(format!("process {} takes no {signal:?}: {other:?}", self.0.id())),
        }
    }

    /// `kill -9`: nothing of it runs any more when this returns.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn kill(&mut self) -> Result<(), String> {
        let ended = self.0.kill().and_then(|()| self.0.wait());
        ended.map(drop).map_err(|e| format!("process {}: {e}", self.0.id()))
    }

    /// `kill -STOP`: it stays, and does nothing.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn pause(&self) -> Result<(), String> {
        self.signal(Signal::STOP)
    }

    /// `kill -CONT`: it goes on as if no time had passed.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn resume(&self) -> Result<(), String> {
        self.signal(Signal::CONT)
    }

    /// `kill -TERM`: asks it to end, and waits for that.
    ///
    /// # Errors
    /// If the system refuses, or it ends otherwise than by exit code 0.
    pub fn stop(&mut self) -> Result<(), String> {
        self.signal(Signal::TERM)?;
        match self.0.wait() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(format!("told to stop, it ended with {status}")),
            Err(e) => Err(format!("process {}: {e}", self.0.id())),
        }
    }

    /// How it has ended by itself, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().ok().flatten()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Also of one that is stopped; it may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
