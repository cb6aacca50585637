//! What processes cost: CPU time and memory, from `/proc`.

use std::time::Duration;

/// `/proc` counts CPU time in hundredths of a second on every Linux.
const TICK: Duration = Duration::from_millis(10);

/// CPU time of processes since they began, user's and system's.
pub fn cpu(processes: &[u32]) -> Duration {
    TICK * processes.iter().filter_map(|id| ticks(*id)).sum::<u32>()
}

fn ticks(process: u32) -> Option<u32> {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name may hold spaces; what follows its parenthesis does not.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    // The 14th and 15th of all fields, of which two are before the parenthesis.
    Some(fields.get(11)?.parse::<u32>().ok()? + fields.get(12)?.parse::<u32>().ok()?)
}

/// Memory of processes at present, in MiB: the resident set.
pub fn memory(processes: &[u32]) -> f64 {
    let kib = |id: &u32| {
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
        status.lines().find_map(|text| text.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse::<f64>().ok())
    };
    processes.iter().filter_map(kib).sum::<f64>() / 1_024.0
}
