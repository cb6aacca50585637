//! Child processes that end with us, whatever happens.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process_group};

/// How long a process may take to end by itself.
const GRACE: Duration = Duration::from_secs(30);

/// A child process in a process group of its own; ended when this is dropped.
///
/// Ctrl-C therefore reaches only us, and we end the children in order. Should we be killed, the kernel tells them
/// (`setpriv --pdeathsig`). For the kernel our death is that of the thread which started the child, so start children
/// on a thread that lives as long as they should.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    goodbye: Signal,
}

impl Process {
    /// Starts `program` with its output in `log`.
    pub fn start(name: &str, program: &Path, log: &Path, prepare: impl FnOnce(&mut Command)) -> Result<Self> {
        use std::os::unix::process::CommandExt;
        let output = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM", "--"]).arg(program);
        prepare(&mut command);
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).process_group(0);
        let child = command.spawn().with_context(|| format!("cannot start {name} ({})", program.display()))?;
        Ok(Self { name: name.to_owned(), child, log: log.to_owned(), goodbye: Signal::TERM })
    }

    /// The same, but it is asked to end with this signal.
    #[must_use]
    pub fn ending_with(mut self, goodbye: Signal) -> Self {
        self.goodbye = goodbye;
        self
    }

    /// What it wrote so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The last `count` lines of it.
    pub fn last_lines(&self, count: usize) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(count)..].join("\n")
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// An error with the end of its log, if it has ended.
    pub fn still_runs(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => {
                anyhow::bail!("{} ended with {status}; its last words:\n{}", self.name, self.last_lines(15))
            }
        }
    }

    /// Sends a signal to it and its children.
    pub fn signal(&self, signal: Signal) {
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // It may be gone already.
            let _ = kill_process_group(group, signal);
        }
    }

    /// Asks it to end and waits; `true` when it did so by itself within `grace`.
    pub fn stop(&mut self, grace: Duration) -> bool {
        self.signal(self.goodbye);
        let started = Instant::now();
        while started.elapsed() < grace {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.kill();
        false
    }

    /// Kills it without asking.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.stop(GRACE);
        }
        // Whatever it left behind in its group.
        self.signal(Signal::KILL);
    }
}
