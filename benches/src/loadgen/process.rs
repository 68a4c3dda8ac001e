//! CPU time of processes, from /proc.

/// CPU seconds so far: of the server, and of this process.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sample {
    pub server: f64,
    pub own: f64,
}

impl Sample {
    pub fn take(server: Option<u32>) -> Result<Sample, String> {
        let server = server.map_or(Ok(0.0), |pid| cpu_seconds(&pid.to_string()))?;
        Ok(Sample { server, own: cpu_seconds("self")? })
    }

    pub fn since(&self, earlier: &Sample) -> Sample {
        Sample { server: self.server - earlier.server, own: self.own - earlier.own }
    }
}

fn cpu_seconds(process: &str) -> Result<f64, String> {
    let path = format!("/proc/{process}/stat");
    let stat = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    // Fields are counted from behind the command's name, which may hold spaces and brackets.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks = |nth| fields.split_whitespace().nth(nth)?.parse::<f64>().ok();
    match (ticks(11), ticks(12)) {
        (Some(user), Some(system)) => {
            Ok((user + system) / rustix::param::clock_ticks_per_second() as f64)
        }
        _ => Err(format!("{path}: not what the manual says")),
    }
}
