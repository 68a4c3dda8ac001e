//! The window search is shown to reject histories that no register could have: each file of
//! `tests/illegal/` states in its first line what is wrong with it, and each becomes legal when its
//! last return is lost and the access may never have happened.

use std::path::Path;

use holdfast_sim::history::register::{Action, Verdict, parse, search};

#[test]
fn every_committed_illegal_history_is_rejected() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/illegal");
    let mut rejected = 0;
    for file in std::fs::read_dir(folder).expect("the folder is there") {
        let path = file.expect("its files can be listed").path();
        let text = std::fs::read_to_string(&path).expect("they can be read");
        assert!(text.starts_with('#'), "{} begins with its claim", path.display());
        let accesses = parse(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let verdict = search(&accesses);
        let illegal = matches!(verdict, Verdict::Illegal(_));
        assert!(illegal, "{} is found {verdict:?}", path.display());
        rejected += 1;
    }
    println!("{rejected} illegal histories rejected");
    assert!(rejected >= 15, "only {rejected} histories are there");
}

/// The search must not reject everything either: the same events with the answers of a real register.
#[test]
fn histories_of_a_real_register_are_legal() {
    let mut rng = holdfast_core::rng::Rng::new(7);
    for round in 0..200 {
        let mut value = None;
        let mut accesses = Vec::new();
        for n in 0..40 {
            let new = round * 1000 + n;
            let action = match rng.below(4) {
                0 => Action::Read(value),
                1 => {
                    value = Some(new);
                    Action::Write(new)
                }
                2 => Action::Delete(Some(value.take().is_some())),
                _ => {
                    let old = if rng.chance(50) { value } else { Some(1) };
                    let done = old == value;
                    if done {
                        value = Some(new);
                    }
                    Action::Swap { old, new, done: Some(done) }
                }
            };
            // Takes effect at 10 n; began before and ended after, so that neighbours overlap.
            let invoked = 1_000 + 10 * n - rng.below(40);
            let returned = Some(1_000 + 10 * n + rng.below(40));
            let client = n % 8;
            accesses.push(holdfast_sim::history::register::Access {
                client,
                action,
                invoked,
                returned,
            });
        }
        assert_eq!(search(&accesses), Verdict::Legal, "round {round}");
    }
}
