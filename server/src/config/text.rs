//! What `--help` and `--version` print.

use std::fmt::Write;

use super::flags::{FLAGS, Standing};

/// The etcd release whose surface this is.
pub const ETCD_VERSION: &str = "3.7.1";

/// The source this was built from, when the build was told (`HOLDFAST_GIT_SHA`).
pub const GIT_SHA: &str = match option_env!("HOLDFAST_GIT_SHA") {
    Some(sha) => sha,
    None => "not recorded",
};

/// etcd's four lines, which tools parse, and one of our own. No Go is involved: its line names what
/// this was built with instead.
pub fn version() -> String {
    format!(
        "etcd Version: {ETCD_VERSION}\n\
         Git SHA: {GIT_SHA}\n\
         Go Version: none (Rust)\n\
         Go OS/Arch: {}/{}\n\
         Holdfast Version: {} ({})\n",
        std::env::consts::OS,
        go_arch(),
        env!("CARGO_PKG_VERSION"),
        if cfg!(debug_assertions) { "debug" } else { "release" },
    )
}

/// The flags that are served, with their defaults.
pub fn help() -> String {
    let mut text = String::from(HEAD);
    for flag in FLAGS.iter().filter(|flag| flag.standing == Standing::Served) {
        let _ = writeln!(text, "  --{} '{}'\n    {}", flag.name, flag.default, flag.help);
    }
    text.push_str("\nAccepted with a warning until they take effect:\n");
    for flag in FLAGS.iter().filter(|flag| flag.standing == Standing::Accepted) {
        let _ = writeln!(text, "  --{} '{}'", flag.name, flag.default);
    }
    text
}

fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

const HEAD: &str = "Usage:

  holdfast [flags]
    Start a member.

  holdfast ctl [command]
    Speak to a cluster, with etcdctl's commands.

  holdfast --version
    Show the version.

  holdfast -h | --help
    Show this.

Each flag is also an environment variable: --data-dir is ETCD_DATA_DIR. One dash is as good as two.

Flags, with their defaults:
";
