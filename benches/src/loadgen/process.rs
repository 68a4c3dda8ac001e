//! What processes used, from /proc: CPU time, memory, bytes sent to disk.
//!
//! Prices: the kernel counts CPU time in ticks of 10 ms, so a measured second knows it to a few per cent
//! of one core at best; `write_bytes` counts pages when they become dirty, not when they reach the disk.

use std::fs;

/// What some processes together have used so far, and this one.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// CPU seconds of the servers.
    pub cpu: f64,
    /// Resident bytes of the servers now.
    pub resident: u64,
    /// Bytes that the servers have sent to disk.
    pub written: u64,
    /// CPU seconds of this process.
    pub own_cpu: f64,
    /// CPU seconds of the whole machine, idle and waiting aside.
    pub machine_cpu: f64,
}

impl Usage {
    /// Reads the counters now.
    ///
    /// # Errors
    /// A process that is not there, or whose counters cannot be read.
    pub fn of(servers: &[u32]) -> Result<Usage, String> {
        let mut usage = Usage {
            own_cpu: cpu_seconds(&read("self", "stat")?)?,
            machine_cpu: busy_seconds(&read("", "stat")?)?,
            ..Usage::default()
        };
        for server in servers {
            let process = server.to_string();
            usage.cpu += cpu_seconds(&read(&process, "stat")?)?;
            usage.resident += counter(&read(&process, "status")?, "VmRSS:")? << 10;
            usage.written += counter(&read(&process, "io")?, "write_bytes:")?;
        }
        Ok(usage)
    }

    /// What was used since an earlier reading; memory is what it is now.
    pub(super) fn since(&self, earlier: &Usage) -> Usage {
        Usage {
            cpu: (self.cpu - earlier.cpu).max(0.0),
            resident: self.resident,
            written: self.written.saturating_sub(earlier.written),
            own_cpu: (self.own_cpu - earlier.own_cpu).max(0.0),
            machine_cpu: (self.machine_cpu - earlier.machine_cpu).max(0.0),
        }
    }
}

fn read(process: &str, file: &str) -> Result<String, String> {
    let path = format!("/proc/{process}/{file}").replace("//", "/");
    fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))
}

/// User and system time in a `stat`.
fn cpu_seconds(stat: &str) -> Result<f64, String> {
    // Fields are counted from behind the command's name, which may hold spaces and brackets.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks = |nth| fields.split_whitespace().nth(nth)?.parse::<u64>().ok();
    match (ticks(11), ticks(12)) {
        (Some(user), Some(system)) => {
            Ok((user + system) as f64 / rustix::param::clock_ticks_per_second() as f64)
        }
        _ => Err(format!("/proc: not a process's stat: {stat}")),
    }
}

/// What all processors were busy, in the machine's `stat`; what a host took away (steal) counts too.
fn busy_seconds(stat: &str) -> Result<f64, String> {
    let all = stat.lines().find_map(|line| line.strip_prefix("cpu "));
    let ticks: Option<Vec<u64>> =
        all.map(|all| all.split_whitespace().map_while(|ticks| ticks.parse().ok()).collect());
    match ticks.as_deref() {
        Some([user, nice, system, _idle, _waiting, interrupts, soft, steal, ..]) => {
            let busy = user + nice + system + interrupts + soft + steal;
            Ok(busy as f64 / rustix::param::clock_ticks_per_second() as f64)
        }
        _ => Err("/proc/stat: no line of all processors".to_owned()),
    }
}

/// The number behind a name at the start of a line, as `status` and `io` have them.
fn counter(text: &str, name: &str) -> Result<u64, String> {
    let value = text.lines().find_map(|line| line.strip_prefix(name));
    let number = value.and_then(|value| value.split_whitespace().next()?.parse().ok());
    number.ok_or_else(|| format!("/proc: no {name} in a process's counters; has it ended?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_brackets_moves_no_field() {
        let stat = "17 (a) b (c)) S 1 17 17 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 4 0 99 1 2";
        let seconds = cpu_seconds(stat).expect("a stat");
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        assert!((seconds - 300.0 / ticks).abs() < 1e-9);
        assert!(cpu_seconds("17 (a) S 1").is_err());
    }

    #[test]
    fn idle_and_waiting_are_not_busy() {
        let ticks = rustix::param::clock_ticks_per_second();
        let stat = format!("cpu  {ticks} 0 {ticks} 999 999 0 0 {ticks} 0 0\ncpu0 1 2 3\n");
        assert!((busy_seconds(&stat).expect("a stat") - 3.0).abs() < 1e-9);
        assert!(busy_seconds("intr 5\n").is_err());
    }

    #[test]
    fn counters_are_found_by_their_whole_name() {
        let io = "wchar: 7\nread_bytes: 1\nwrite_bytes: 4096\ncancelled_write_bytes: 5\n";
        assert_eq!(counter(io, "write_bytes:"), Ok(4096));
        assert_eq!(counter("VmHWM:\t 9 kB\nVmRSS:\t  12 kB\n", "VmRSS:"), Ok(12));
        assert!(counter("Name: zombie\n", "VmRSS:").is_err());
    }

    #[test]
    fn this_process_has_used_something() {
        let usage = Usage::of(&[std::process::id()]).expect("our own counters");
        assert!(usage.resident > 1 << 20);
        assert!(Usage::of(&[u32::MAX]).is_err());
    }
}
