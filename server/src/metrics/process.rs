//! What Linux knows of this process, under the names of Prometheus' process collector.
//!
//! Elsewhere, and where `/proc` is closed, the series are missing rather than wrong.

use std::fs;

use super::series::Page;

/// Appends the series that can be read now.
pub fn render(page: &mut Page<'_>) {
    if let Some(stat) = fs::read_to_string("/proc/self/stat").ok().as_deref().and_then(Stat::parse)
    {
        page.counter("process_cpu_seconds_total", "CPU time, user and system.")
            .value(stat.cpu_seconds);
        let booted = fs::read_to_string("/proc/stat").ok().as_deref().and_then(boot_seconds);
        if let Some(booted) = booted {
            page.gauge("process_start_time_seconds", "Start, in seconds since 1970.")
                .value(booted + stat.start_seconds);
        }
    }
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    if let Some(bytes) = kib(&status, "VmRSS:") {
        page.gauge("process_resident_memory_bytes", "Resident memory.").value(bytes);
    }
    if let Some(bytes) = kib(&status, "VmSize:") {
        page.gauge("process_virtual_memory_bytes", "Virtual memory.").value(bytes);
    }
    descriptors(page);
}

fn descriptors(page: &mut Page<'_>) {
    if let Ok(entries) = fs::read_dir("/proc/self/fd") {
        // The one that reads the directory is not the process's.
        let open = entries.count().saturating_sub(1);
        page.gauge("process_open_fds", "Open file descriptors.").value(open);
        page.gauge("os_fd_used", "Open file descriptors.").value(open);
    }
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    if let Some(limit) = limit {
        page.gauge("process_max_fds", "Most file descriptors.").value(limit);
        page.gauge("os_fd_limit", "Most file descriptors.").value(limit);
    }
}

/// The parts of `/proc/self/stat` that are used.
#[derive(Debug, PartialEq)]
struct Stat {
    cpu_seconds: f64,
    /// After the machine's start.
    start_seconds: f64,
}

impl Stat {
    /// The process's name, in parentheses, may hold anything; fields are counted after it.
    fn parse(text: &str) -> Option<Stat> {
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = |at: usize| fields.get(at)?.parse::<u64>().ok();
        let seconds = |ticks: u64| ticks as f64 / TICKS_PER_SECOND;
        Some(Stat {
            cpu_seconds: seconds(ticks(11)? + ticks(12)?),
            start_seconds: seconds(ticks(19)?),
        })
    }
}

fn boot_seconds(stat: &str) -> Option<f64> {
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

fn kib(status: &str, key: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix(key))?;
    value.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

/// Linux shows times to programs in hundredths on every architecture that we build for.
const TICKS_PER_SECOND: f64 = 100.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_is_read_whatever_the_process_is_called() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194560 9 0 0 0 150 50 0 0 20 0 1 0 12345 1 1";
        assert_eq!(Stat::parse(stat), Some(Stat { cpu_seconds: 2.0, start_seconds: 123.45 }));
        for bad in ["", "7 (x", "7 (x) S 1", "7 (x) S 1 7 7 0 -1 4 9 0 0 0 a b 0 0 20 0 1 0 1"] {
            assert_eq!(Stat::parse(bad), None, "{bad:?}");
        }
        assert_eq!(boot_seconds("cpu 1\nbtime 1700000000\n"), Some(1.7e9));
        assert_eq!(kib("VmSize:\t 10 kB\nVmRSS:\t     2 kB\n", "VmRSS:"), Some(2048));
        assert_eq!(kib("VmRSS:\t 2 MB", "VmRSS:"), None);
    }
}
