//! CPU time and memory of processes, from `/proc`.

use std::{collections::HashMap, time::Duration};

/// `/proc` counts CPU time in hundredths of a second on every Linux.
const TICK: Duration = Duration::from_millis(10);

/// CPU time of processes since they started: user and system.
pub fn cpu(processes: &[u32]) -> Duration {
    TICK * processes.iter().filter_map(|id| ticks(*id)).sum::<u32>()
}

/// CPU time of a process and of all that it has started, those that have ended included.
pub fn cpu_with_children(process: u32) -> Duration {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for (id, stat) in ids.filter_map(|id| Some((id, Stat::of(id)?))) {
        children.entry(stat.parent).or_default().push(id);
    }
    let (mut all, mut ticks) = (vec![process], 0);
    while let Some(id) = all.pop() {
        ticks += Stat::of(id).map_or(0, |stat| stat.own + stat.ended_children);
        all.extend(children.remove(&id).unwrap_or_default());
    }
    TICK * ticks
}

fn ticks(process: u32) -> Option<u32> {
    Some(Stat::of(process)?.own)
}

/// What `/proc/<id>/stat` tells; times in ticks.
struct Stat {
    parent: u32,
    own: u32,
    /// Of children that have ended and were waited for.
    ended_children: u32,
}

impl Stat {
    fn of(process: u32) -> Option<Self> {
        let text = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        // The program's name may have spaces; the fields after its parenthesis do not. Two fields are before them.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u32>().ok();
        Some(Self { parent: field(4)?, own: field(14)? + field(15)?, ended_children: field(16)? + field(17)? })
    }
}

/// The resident memory of processes, in MiB.
pub fn memory(processes: &[u32]) -> f64 {
    let kib = |id: &u32| {
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
        status.lines().find_map(|text| text.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse::<f64>().ok())
    };
    processes.iter().filter_map(kib).sum::<f64>() / 1_024.0
}
