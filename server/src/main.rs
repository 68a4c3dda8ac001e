//! The binary `holdfast`: the server, and its command-line client as `holdfast ctl`.

use std::process::ExitCode;
use std::time::Duration;

use holdfast_server::config::{self, Command, Config};
use holdfast_server::ctl;
use holdfast_server::launch;
use holdfast_server::logging;
use holdfast_server::process::Ended;

/// How long the log's last lines may take.
const FLUSH: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    // Text that is not UTF-8 is refused by the server's own reading; the client's arguments may hold any.
    let mut args = std::env::args_os().map(|arg| arg.to_string_lossy().into_owned());
    let program = args.next().unwrap_or_default();
    let args: Vec<String> = args.collect();
    if let Some(args) = ctl::requested(&program, &args) {
        let variables = std::env::vars_os();
        let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        let env = variables.map(|(name, value)| (text(name), text(value))).collect();
        std::process::exit(ctl::main(args, env));
    }
    match config::from_process() {
        Ok(Command::Run(config)) => {
            keep_freed_memory();
            run(&config)
        }
        Ok(Command::Help(text) | Command::Version(text)) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{}", error.message);
            ExitCode::from(error.exit_code)
        }
    }
}

/// glibc's allocator learns from a large block that is freed that such blocks come and go (mallopt(3), "dynamic
/// mmap threshold"): from then on it gives the system back only what is more than twice as large. Otherwise every
/// large answer takes page faults for all its bytes. The price is at most so much of resident memory.
fn keep_freed_memory() {
    drop(std::hint::black_box(Vec::<u8>::with_capacity(8 << 20)));
}

fn run(config: &Config) -> ExitCode {
    let logging = match logging::install(config.log_level, &config.log_outputs) {
        Ok(logging) => logging,
        Err(cause) => {
            eprintln!("the log cannot be opened: {cause}");
            return ExitCode::FAILURE;
        }
    };
    let code = match launch::serve(config) {
        Ok(Ended::Signal(signal)) => {
            tracing::info!(signal, "stopped");
            logging.flush(FLUSH);
            die_by(signal)
        }
        Ok(Ended::Fault(fault)) | Err(fault) => launch::report(&fault),
    };
    logging.flush(FLUSH);
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

/// etcd raises the signal that ended it again, so that its parent sees a death by signal; as the first
/// process of a container it exits with 0 instead.
fn die_by(signal: i32) -> i32 {
    if std::process::id() == 1 {
        return 0;
    }
    // The process's handlers would only take note: the default action is what ends it.
    drop(signal_hook::low_level::emulate_default_handler(signal));
    1
}
