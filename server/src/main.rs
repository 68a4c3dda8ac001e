//! The binary `holdfast`: the server.

use std::process::ExitCode;
use std::time::Duration;

use holdfast_server::config::{Command, Config};
use holdfast_server::launch;
use holdfast_server::logging;
use holdfast_server::process::Ended;

/// How long the log's last lines may take.
const FLUSH: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let env: Vec<(String, String)> = std::env::vars().collect();
    match Config::parse(&args, &env) {
        Ok(Command::Run(config)) => run(&config),
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
