//! Child processes that end when their owner ends.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process_group};

/// How long a process may take to end after it was asked to.
const GRACE: Duration = Duration::from_secs(30);

/// A child process in a process group of its own; ended when this is dropped.
///
/// Ctrl-C therefore reaches only the parent, which ends the children in order. If the parent is killed, the kernel sends
/// the children SIGTERM (`setpriv --pdeathsig`). For the kernel the parent's death is that of the thread which started the
/// child, so start children on a thread that lives as long as they should.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    stop_signal: Signal,
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
        Ok(Self { name: name.to_owned(), child, log: log.to_owned(), stop_signal: Signal::TERM })
    }

    /// The same process, but stopped with this signal instead of SIGTERM.
    #[must_use]
    pub fn stopped_with(mut self, signal: Signal) -> Self {
        self.stop_signal = signal;
        self
    }

    /// The output so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The last `count` lines of the output.
    pub fn last_lines(&self, count: usize) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(count)..].join("\n")
    }

    /// The name that [`Process::start`] was given.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Fails with the end of the output if the process has ended.
    pub fn still_runs(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => {
                anyhow::bail!("{} ended with {status}; the end of its output:\n{}", self.name, self.last_lines(15))
            }
        }
    }

    /// Sends a signal to the process and its children.
    pub fn signal(&self, signal: Signal) {
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // Fails when the process has ended already.
            let _ = kill_process_group(group, signal);
        }
    }

    /// Sends the stop signal and waits. `false`: it did not end within `grace` and was killed.
    pub fn stop(&mut self, grace: Duration) -> bool {
        self.signal(self.stop_signal);
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

    /// Kills the process and its children (SIGKILL).
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
        // Children of the process may be left in its group.
        self.signal(Signal::KILL);
    }
}
