//! The commands, their flags, and which of them a command line means.
//!
//! Leaves out what a command does (kv.rs, lease.rs, ...). Laws: 1. a word names a command exactly, or
//! by a prefix that no other command of that level has; 2. flags may stand before, between and after
//! the words; 3. the global flags belong to every command, a group's shared flags to its members.
//!
//! Worked example: `--hex mem li -w json` is the command `member list` with `hex` true, `write-out`
//! json and no operand.

use super::Exit;
use super::auth::Verb;
use super::flags::{Flag, FlagError, Flags, Kind, Operands};

/// What a command line asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Reads keys.
    Get,
    /// Writes a key.
    Put,
    /// Deletes keys.
    Del,
    /// Runs a transaction from the standard input.
    Txn,
    /// Follows changes.
    Watch,
    /// Drops history.
    Compaction,
    /// Makes a lease.
    LeaseGrant,
    /// Ends a lease.
    LeaseRevoke,
    /// Shows a lease.
    LeaseTimeToLive,
    /// Shows all leases.
    LeaseList,
    /// Renews a lease.
    LeaseKeepAlive,
    /// Asks each endpoint whether it can commit.
    EndpointHealth,
    /// Asks each endpoint about itself.
    EndpointStatus,
    /// Asks each endpoint for the hash of its keys.
    EndpointHashKv,
    /// Shows the alarms that are up.
    AlarmList,
    /// Clears them.
    AlarmDisarm,
    /// Asks members to give back space.
    Defrag,
    /// Hands leadership over.
    MoveLeader,
    /// Saves a copy of a member's data.
    SnapshotSave,
    /// Judges how fast the cluster is.
    CheckPerf,
    /// Judges what data takes in memory.
    CheckDatascale,
    /// Takes a lock and holds it.
    Lock,
    /// Campaigns, or observes.
    Elect,
    /// Shows the members.
    MemberList,
    /// Looks after users and roles.
    Auth(Verb),
    /// Adds a member.
    MemberAdd,
    /// Removes a member.
    MemberRemove,
    /// Gives a member other peer URLs.
    MemberUpdate,
    /// Gives a learner its vote.
    MemberPromote,
    /// Shows this program's version.
    Version,
    /// Shows the global flags.
    Options,
}

/// A command or a group of commands.
#[derive(Debug)]
pub struct Command {
    /// Its word.
    pub name: &'static str,
    /// Its operands, for the help page.
    usage: &'static str,
    /// What it does, for the help page.
    help: &'static str,
    /// Its own flags.
    flags: &'static [Flag],
    /// Flags of every command below it.
    shared: &'static [Flag],
    /// The commands below it.
    below: &'static [Command],
    /// What it asks for; a group asks for nothing.
    action: Option<Action>,
}

/// A command line, understood.
#[derive(Debug)]
pub struct Invocation {
    /// What to do.
    pub action: Action,
    /// The values of all its flags.
    pub flags: Flags,
    /// Which flags the environment may set.
    pub inherited: Vec<&'static str>,
    /// The rest.
    pub operands: Operands,
}

/// What a command line comes to.
#[derive(Debug)]
pub enum Parsed {
    /// A command to run.
    Run(Invocation),
    /// A page to print.
    Help(String),
}

/// Understands a command line.
pub fn parse(args: &[Vec<u8>]) -> Result<Parsed, Exit> {
    let (path, rest) = find(args)?;
    let command = path[path.len() - 1];
    let inherited: Vec<Flag> =
        path[..path.len() - 1].iter().flat_map(|above| above.shared).copied().collect();
    let own = command.flags.iter().chain(command.shared).copied();
    let mut flags = Flags::new(own.chain(inherited.iter().copied()).collect());
    let operands = match flags.parse(&rest) {
        Ok(operands) => operands,
        Err(FlagError::Help) => return Ok(Parsed::Help(help(&path))),
        Err(FlagError::Bad(text)) => {
            return Err(Exit::with_usage(text, usage(&path)));
        }
    };
    let Some(action) = command.action else { return Ok(Parsed::Help(help(&path))) };
    let inherited = inherited.iter().map(|flag| flag.name).collect();
    Ok(Parsed::Run(Invocation { action, flags, inherited, operands }))
}

/// The flags and operands of a line of a transaction: `put`, `get` or `del` without global flags.
pub fn parse_op(words: &[Vec<u8>]) -> Option<(Action, Flags, Operands)> {
    let word = std::str::from_utf8(words.first()?).ok()?;
    let ops = ROOT
        .below
        .iter()
        .filter(|command| matches!(command.action, Some(Action::Get | Action::Put | Action::Del)));
    let command = pick(ops, word)?;
    let mut flags = Flags::new(command.flags.to_vec());
    let operands = flags.parse(&words[1..]).ok()?;
    Some((command.action?, flags, operands))
}

/// The flags of a line of an interactive watch.
pub fn watch_flags() -> Flags {
    Flags::new(WATCH_FLAGS.to_vec())
}

/// The page that lists the global flags.
pub fn options() -> String {
    format!("The following options can be passed to any command:\n\n{}", table(GLOBAL))
}

/// The commands from the root to the one that is meant, and the arguments without their words.
fn find(args: &[Vec<u8>]) -> Result<(Vec<&'static Command>, Vec<Vec<u8>>), Exit> {
    let mut path: Vec<&'static Command> = vec![&ROOT];
    let mut rest = args.to_vec();
    loop {
        let here = path[path.len() - 1];
        let Some(at) = first_word(&path, &rest) else { return Ok((path, rest)) };
        if here.below.is_empty() {
            return Ok((path, rest));
        }
        let word = String::from_utf8_lossy(&rest[at]).into_owned();
        match pick(here.below.iter(), &word) {
            Some(command) => {
                rest.remove(at);
                path.push(command);
            }
            None if path.len() > 1 => return Ok((path, rest)),
            None if word == "help" => {
                rest.remove(at);
                rest.push(b"--help".to_vec());
            }
            None => {
                let text = format!("unknown command {} for \"{NAME}\"", super::go::quote(&word));
                return Err(Exit::with_usage(text, format!("Run '{NAME} --help' for usage.")));
            }
        }
    }
}

/// Where the first argument stands that is neither a flag nor a flag's value.
fn first_word(path: &[&'static Command], args: &[Vec<u8>]) -> Option<usize> {
    let known = || path.iter().flat_map(|command| command.flags.iter().chain(command.shared));
    let takes_next = |arg: &[u8]| match arg {
        [b'-', b'-', name @ ..] => {
            let switch = known().find(|flag| flag.name.as_bytes() == name);
            !name.contains(&b'=')
                && name != b"help"
                && switch.is_none_or(|flag| flag.kind != Kind::Switch)
        }
        [b'-', letter] => {
            let flag = known().find(|flag| flag.short == Some(char::from(*letter)));
            *letter != b'h' && flag.is_none_or(|flag| flag.kind != Kind::Switch)
        }
        _ => false,
    };
    let mut at = 0;
    while at < args.len() {
        match args[at].as_slice() {
            b"--" => return None,
            arg if takes_next(arg) => at += 2,
            [b'-', _, ..] => at += 1,
            _ => return Some(at),
        }
    }
    None
}

fn pick(
    mut commands: impl Iterator<Item = &'static Command> + Clone,
    word: &str,
) -> Option<&'static Command> {
    if let Some(exact) = commands.clone().find(|command| command.name == word) {
        return Some(exact);
    }
    let found = commands.find(|command| command.name.starts_with(word))?;
    let other = commands.any(|command| command.name.starts_with(word));
    (!other && !word.is_empty()).then_some(found)
}

fn help(path: &[&'static Command]) -> String {
    let command = path[path.len() - 1];
    let hint = format!("Use \"{NAME} options\" for the options of every command.\n");
    format!("{}\n\n{}{hint}", command.help, usage(path))
}

fn usage(path: &[&'static Command]) -> String {
    let command = path[path.len() - 1];
    let words: Vec<&str> = path.iter().map(|command| command.name).collect();
    let words = words.join(" ");
    let mut out = match command.action {
        Some(_) if command.usage.is_empty() => format!("Usage:\n  {words} [flags]\n"),
        Some(_) => format!("Usage:\n  {words} {} [flags]\n", command.usage),
        None => format!("Usage:\n  {words} [command]\n"),
    };
    if !command.below.is_empty() {
        let width = command.below.iter().map(|below| below.name.len()).max().unwrap_or(0);
        out.push_str("\nAvailable Commands:\n");
        for below in command.below {
            out.push_str(&format!("  {:width$} {}\n", below.name, below.help));
        }
    }
    let own: Vec<Flag> = command.flags.to_vec();
    out.push_str(&format!("\nFlags:\n{}\n", table(&own)));
    out
}

fn table(flags: &[Flag]) -> String {
    let mut rows: Vec<(String, String)> = flags.iter().map(row).collect();
    rows.push(("  -h, --help".to_owned(), "show this page".to_owned()));
    rows.sort_by(|a, b| a.0[6..].cmp(&b.0[6..]));
    let width = rows.iter().map(|(left, _)| left.len()).max().unwrap_or(0);
    rows.iter().map(|(left, right)| format!("{left:width$}   {right}\n")).collect()
}

fn row(flag: &Flag) -> (String, String) {
    let kind = match flag.kind {
        Kind::Switch => "",
        Kind::Number => " int",
        Kind::Text => " string",
        Kind::Span => " duration",
        Kind::List => " strings",
    };
    let short = flag.short.map_or("    ".to_owned(), |letter| format!("-{letter}, "));
    let default = match (flag.kind, flag.default) {
        (_, "") => String::new(),
        (Kind::Text, text) => format!(" (default \"{text}\")"),
        (_, text) => format!(" (default {text})"),
    };
    (format!("  {short}--{}{kind}", flag.name), format!("{}{default}", flag.help))
}

/// The program's name in messages: scripts compare them.
pub const NAME: &str = "etcdctl";

const NONE: &[Flag] = &[];

const ROOT: Command = Command {
    name: NAME,
    usage: "",
    help: "Reads, writes and watches keys, and looks after a cluster.",
    flags: NONE,
    shared: GLOBAL,
    below: &[
        group("alarm", "Shows and clears alarms", NONE, ALARM),
        group("check", "Judges a cluster by a load of puts", NONE, CHECK),
        leaf(
            "compaction",
            "[options] <revision>",
            "Drops history",
            COMPACTION_FLAGS,
            Action::Compaction,
        ),
        leaf(
            "del",
            "[options] <key> [range_end]",
            "Deletes a key or a range",
            DEL_FLAGS,
            Action::Del,
        ),
        group("auth", "Switches authentication on and off", NONE, AUTH),
        leaf("defrag", "", "Gives back space", CLUSTER_FLAGS, Action::Defrag),
        leaf(
            "elect",
            "<election-name> [proposal]",
            "Campaigns and leads, or observes with -l",
            ELECT_FLAGS,
            Action::Elect,
        ),
        group("endpoint", "Asks single endpoints", CLUSTER_FLAGS, ENDPOINT),
        leaf(
            "get",
            "[options] <key> [range_end]",
            "Reads a key or a range",
            GET_FLAGS,
            Action::Get,
        ),
        group("lease", "Makes, renews and ends leases", NONE, LEASE),
        leaf(
            "lock",
            "<lockname> [exec-command arg1 arg2 ...]",
            "Takes a lock and holds it until a signal or the end of the command",
            LOCK_FLAGS,
            Action::Lock,
        ),
        group("member", "Looks after the members", NONE, MEMBER),
        leaf(
            "move-leader",
            "<transferee-member-id>",
            "Hands leadership over",
            NONE,
            Action::MoveLeader,
        ),
        group("role", "Makes roles, and says what they may do", NONE, ROLE),
        group("user", "Makes users, and grants them roles", NONE, USER),
        leaf("options", "", "Lists the options of every command", NONE, Action::Options),
        leaf(
            "put",
            "[options] <key> <value>",
            "Writes a key; without a value reads it from the standard input",
            PUT_FLAGS,
            Action::Put,
        ),
        group("snapshot", "Saves a member's data", NONE, SNAPSHOT),
        leaf(
            "txn",
            "[options]",
            "Reads compares, then operations for both outcomes, from the standard input, and runs them as one",
            TXN_FLAGS,
            Action::Txn,
        ),
        leaf("version", "", "Shows the version", NONE, Action::Version),
        leaf(
            "watch",
            "[options] [key or prefix] [range_end] [--] [exec-command arg1 arg2 ...]",
            "Shows changes as they happen",
            WATCH_FLAGS,
            Action::Watch,
        ),
    ],
    action: None,
};

const ALARM: &[Command] = &[
    leaf("disarm", "", "Clears all alarms", NONE, Action::AlarmDisarm),
    leaf("list", "", "Shows all alarms", NONE, Action::AlarmList),
];

const SNAPSHOT: &[Command] =
    &[leaf("save", "<filename>", "Saves a snapshot to a file", NONE, Action::SnapshotSave)];

const CHECK: &[Command] = &[
    leaf(
        "datascale",
        "[options]",
        "Tells what data takes in the first endpoint's memory",
        DATASCALE_FLAGS,
        Action::CheckDatascale,
    ),
    leaf("perf", "[options]", "Tells whether the cluster is fast", PERF_FLAGS, Action::CheckPerf),
];

const LOAD: Flag = Flag::text("load", "s", "s(mall), m(edium), l(arge) or xl (xLarge)");
const AUTO_COMPACT: Flag = Flag::switch("auto-compact", "drop the history of it in the end");
const AUTO_DEFRAG: Flag = Flag::switch("auto-defrag", "give back its space in the end");

const PERF_FLAGS: &[Flag] = &[
    LOAD,
    Flag::text("prefix", "/etcdctl-check-perf/", "where keys are written"),
    AUTO_COMPACT,
    AUTO_DEFRAG,
];

const DATASCALE_FLAGS: &[Flag] = &[
    LOAD,
    Flag::text("prefix", "/etcdctl-check-datascale/", "where keys are written"),
    AUTO_COMPACT,
    AUTO_DEFRAG,
];

const ELECT_FLAGS: &[Flag] = &[Flag::switch("listen", "show who leads, and every change").or('l')];

const LOCK_FLAGS: &[Flag] = &[Flag {
    name: "ttl",
    short: None,
    kind: Kind::Number,
    default: "10",
    help: "seconds that the lock outlives its holder",
}];

const HASH_FLAGS: &[Flag] = &[Flag::number("rev", "hash up to this revision (0: the newest)")];

const ENDPOINT: &[Command] = &[
    leaf(
        "hashkv",
        "",
        "Shows the hash of each endpoint's keys",
        HASH_FLAGS,
        Action::EndpointHashKv,
    ),
    leaf("health", "", "Tells whether each endpoint can commit", NONE, Action::EndpointHealth),
    leaf("status", "", "Shows what each endpoint says of itself", NONE, Action::EndpointStatus),
];

const LEASE: &[Command] = &[
    leaf("grant", "<ttl>", "Makes a lease", NONE, Action::LeaseGrant),
    leaf(
        "keep-alive",
        "[options] <leaseID>",
        "Renews a lease",
        KEEP_ALIVE_FLAGS,
        Action::LeaseKeepAlive,
    ),
    leaf("list", "", "Shows all leases", NONE, Action::LeaseList),
    leaf("revoke", "<leaseID>", "Ends a lease and deletes its keys", NONE, Action::LeaseRevoke),
    leaf("timetolive", "<leaseID> [options]", "Shows a lease", TTL_FLAGS, Action::LeaseTimeToLive),
];

const MEMBER: &[Command] = &[
    leaf("add", "<memberName> [options]", "Adds a member", MEMBER_ADD_FLAGS, Action::MemberAdd),
    leaf("list", "", "Shows the members", MEMBER_LIST_FLAGS, Action::MemberList),
    leaf("promote", "<memberID>", "Gives a learner its vote", NONE, Action::MemberPromote),
    leaf("remove", "<memberID>", "Removes a member", NONE, Action::MemberRemove),
    leaf(
        "update",
        "<memberID> [options]",
        "Gives a member other peer URLs",
        MEMBER_UPDATE_FLAGS,
        Action::MemberUpdate,
    ),
];

const AUTH: &[Command] = &[
    leaf("disable", "", "Switches authentication off", NONE, Action::Auth(Verb::Disable)),
    leaf("enable", "", "Switches authentication on", NONE, Action::Auth(Verb::Enable)),
    leaf("status", "", "Tells whether it is on", NONE, Action::Auth(Verb::Status)),
];

const USER: &[Command] = &[
    leaf(
        "add",
        "<user name or user:password> [options]",
        "Makes a user",
        USER_ADD_FLAGS,
        Action::Auth(Verb::UserAdd),
    ),
    leaf("delete", "<user name>", "Removes a user", NONE, Action::Auth(Verb::UserDelete)),
    leaf(
        "get",
        "<user name> [options]",
        "Shows a user's roles",
        USER_GET_FLAGS,
        Action::Auth(Verb::UserGet),
    ),
    leaf(
        "grant-role",
        "<user name> <role name>",
        "Gives a user a role",
        NONE,
        Action::Auth(Verb::UserGrantRole),
    ),
    leaf("list", "", "Shows all users", NONE, Action::Auth(Verb::UserList)),
    leaf(
        "passwd",
        "<user name> [options]",
        "Changes a user's password",
        PASSWD_FLAGS,
        Action::Auth(Verb::UserPasswd),
    ),
    leaf(
        "revoke-role",
        "<user name> <role name>",
        "Takes a role from a user",
        NONE,
        Action::Auth(Verb::UserRevokeRole),
    ),
];

const ROLE: &[Command] = &[
    leaf("add", "<role name>", "Makes a role", NONE, Action::Auth(Verb::RoleAdd)),
    leaf("delete", "<role name>", "Removes a role", NONE, Action::Auth(Verb::RoleDelete)),
    leaf("get", "<role name>", "Shows what a role may do", NONE, Action::Auth(Verb::RoleGet)),
    leaf(
        "grant-permission",
        "[options] <role name> <permission type> <key> [endkey]",
        "Lets a role read or write keys",
        PERMISSION_FLAGS,
        Action::Auth(Verb::RoleGrantPermission),
    ),
    leaf("list", "", "Shows all roles", NONE, Action::Auth(Verb::RoleList)),
    leaf(
        "revoke-permission",
        "<role name> <key> [endkey]",
        "Takes keys from a role",
        PERMISSION_FLAGS,
        Action::Auth(Verb::RoleRevokePermission),
    ),
];

const INTERACTIVE: Flag = Flag {
    name: "interactive",
    short: None,
    kind: Kind::Switch,
    default: "true",
    help: "ask for the password on the terminal instead of the standard input",
};

const USER_ADD_FLAGS: &[Flag] = &[
    INTERACTIVE,
    Flag::text("new-user-password", "", "the password"),
    Flag::switch("no-password", "a user that only a certificate can identify"),
];

const PASSWD_FLAGS: &[Flag] = &[INTERACTIVE];

const USER_GET_FLAGS: &[Flag] = &[Flag::switch("detail", "show what each role may do")];

const PERMISSION_FLAGS: &[Flag] = &[
    Flag::switch("prefix", "all keys that start with the key"),
    Flag::switch("from-key", "all keys from the key on"),
];

const fn leaf(
    name: &'static str,
    usage: &'static str,
    help: &'static str,
    flags: &'static [Flag],
    action: Action,
) -> Command {
    Command { name, usage, help, flags, shared: NONE, below: &[], action: Some(action) }
}

const fn group(
    name: &'static str,
    help: &'static str,
    shared: &'static [Flag],
    below: &'static [Command],
) -> Command {
    Command { name, usage: "<subcommand>", help, flags: NONE, shared, below, action: None }
}

const GET_FLAGS: &[Flag] = &[
    Flag::text("consistency", "l", "l: linearizable, s: serializable"),
    Flag::text("order", "", "ASCEND or DESCEND"),
    Flag::text("sort-by", "", "CREATE, KEY, MODIFY, VALUE or VERSION"),
    Flag::number("limit", "at most so many keys"),
    Flag::switch("prefix", "all keys that start with the key"),
    Flag::switch("from-key", "all keys from the key on"),
    Flag::number("rev", "read at this revision"),
    Flag::switch("keys-only", "leave the values out"),
    Flag::switch("count-only", "answer only how many there are"),
    Flag::switch("print-value-only", "print only values, with --write-out=simple"),
    Flag::number("min-create-rev", "created at or after this revision"),
    Flag::number("max-create-rev", "created at or before this revision"),
    Flag::number("min-mod-rev", "last written at or after this revision"),
    Flag::number("max-mod-rev", "last written at or before this revision"),
    Flag::switch("stream", "take the answer in pieces, by RangeStream"),
];

const PUT_FLAGS: &[Flag] = &[
    Flag::text("lease", "0", "lease to attach the key to, in hexadecimal"),
    Flag::switch("prev-kv", "answer what was there before"),
    Flag::switch("ignore-value", "keep the value that is there"),
    Flag::switch("ignore-lease", "keep the lease that is there"),
];

const DEL_FLAGS: &[Flag] = &[
    Flag::switch("prefix", "all keys that start with the key"),
    Flag::switch("prev-kv", "answer what was there before"),
    Flag::switch("from-key", "all keys from the key on"),
    Flag::switch("range", "two operands are a range: do not wait before deleting it"),
];

const TXN_FLAGS: &[Flag] = &[Flag::switch("interactive", "say what is read next").or('i')];

const WATCH_FLAGS: &[Flag] = &[
    Flag::switch("interactive", "read watch and progress commands from the standard input").or('i'),
    Flag::switch("prefix", "all keys that start with the key"),
    Flag::number("rev", "start at this revision"),
    Flag::switch("prev-kv", "show what was there before each change"),
    Flag::switch("progress-notify", "show the server's progress from time to time"),
];

const COMPACTION_FLAGS: &[Flag] = &[Flag::switch("physical", "wait until the space is free")];

const PEER_URLS: Flag = Flag::text("peer-urls", "", "comma-separated peer URLs of the member");

const MEMBER_ADD_FLAGS: &[Flag] = &[PEER_URLS, Flag::switch("learner", "without a vote at first")];

const MEMBER_UPDATE_FLAGS: &[Flag] = &[PEER_URLS];

const CLUSTER_FLAGS: &[Flag] = &[Flag::switch("cluster", "ask every member of the cluster")];

const KEEP_ALIVE_FLAGS: &[Flag] = &[Flag::switch("once", "renew once and end")];

const TTL_FLAGS: &[Flag] = &[Flag::switch("keys", "show the attached keys")];

const MEMBER_LIST_FLAGS: &[Flag] =
    &[Flag::text("consistency", "l", "l: linearizable, s: serializable")];

const GLOBAL: &[Flag] = &[
    Flag {
        name: "endpoints",
        short: None,
        kind: Kind::List,
        default: "127.0.0.1:2379",
        help: "servers to talk to",
    },
    Flag::switch("debug", "print the options in use"),
    Flag::text("write-out", "simple", "output format: json or simple").or('w'),
    Flag::switch("hex", "print bytes, and member ids in json, in hexadecimal"),
    Flag::span("dial-timeout", "2s", "how long one attempt to connect may take"),
    Flag::span("command-timeout", "5s", "how long a command may take; watch has no end"),
    Flag::span("keepalive-time", "2s", "how often to ask whether the connection lives"),
    Flag::span("keepalive-timeout", "6s", "how long to wait for the answer"),
    Flag::number("max-request-bytes", "largest request to send (0: 2 MiB)"),
    Flag::number("max-recv-bytes", "largest answer to take (0: 2 GiB)"),
    Flag {
        name: "insecure-transport",
        short: None,
        kind: Kind::Switch,
        default: "true",
        help: "talk without TLS",
    },
    Flag {
        name: "insecure-discovery",
        short: None,
        kind: Kind::Switch,
        default: "true",
        help: "accept endpoints without TLS from DNS",
    },
    Flag::switch("insecure-skip-tls-verify", "do not check the server's certificate"),
    Flag::text("cert", "", "certificate to show to the server"),
    Flag::text("key", "", "key of that certificate"),
    Flag::text("cacert", "", "who may have signed the server's certificate"),
    Flag::text("auth-jwt-token", "", "token to authenticate with"),
    Flag::text("user", "", "name[:password] to authenticate with"),
    Flag::text("password", "", "password of the user"),
    Flag::text("discovery-srv", "", "domain whose SRV records name the endpoints").or('d'),
    Flag::text("discovery-srv-name", "", "service name in those records"),
];
