//! The machine, told from /proc: its processor, memory, kernel and load.

use std::fs;

/// Names and values; what cannot be read is left out.
pub fn describe() -> Vec<(&'static str, String)> {
    let mut said = Vec::new();
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    if let Some(model) = field(&cpuinfo, "model name") {
        said.push(("processor", model));
    }
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    said.push(("cores", cores.to_string()));
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    if let Some(total) = field(&memory, "MemTotal") {
        said.push(("memory", total));
    }
    if let Ok(kernel) = fs::read_to_string("/proc/sys/kernel/osrelease") {
        said.push(("kernel", kernel.trim().to_owned()));
    }
    if let Ok(load) = fs::read_to_string("/proc/loadavg") {
        let averages: Vec<_> = load.split_whitespace().take(3).collect();
        said.push(("load_at_start", averages.join(" ")));
    }
    said
}

/// What stands behind a name and a colon.
fn field(text: &str, name: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_what_stands_behind_its_colon() {
        let text = "model\t: 1\nmodel name\t: Some: thing\n";
        assert_eq!(field(text, "model name"), Some("Some: thing".to_owned()));
        assert_eq!(field(text, "stepping"), None);
    }
}
