//! A4: a watch is judged when it is created, by the tables of the member that was asked, and never again:
//! it is created if they let its user read the range, and refused for the reason that they have.
//!
//! A member may be behind the log, so that its tables are those of some moment between the asking and
//! the answer in its own life: what it had published then. In most cases that is one state.
//!
//! Leaves out that a watch that lives is told of everything although its user has lost the right: that
//! is V5's and W3's, for whom rights do not exist.
//!
//! Worked example: `u1` asks m2 for `k/`; m2 has applied 40 when it is asked and 44 when the answer is
//! there; at 42 `r1` lost `k/`: both answers are right. At 45 only a refusal is.

use std::collections::{BTreeMap, VecDeque};

use holdfast_core::id::Index;
use holdfast_core::rejection::Rejection;
use holdfast_core::store::View;

use super::{Checker, Scene, Seen};
use crate::model::auth::Users;
use crate::workload::watch::{Notice, WatchSpec};

/// What was asked and is not judged yet.
struct Asked {
    spec: WatchSpec,
    member: usize,
    user: Option<String>,
    /// The oldest state that it may be judged by.
    since: Index,
}

/// See the module.
#[derive(Default)]
pub(super) struct RightToWatch {
    /// What each member has published.
    published: BTreeMap<usize, Index>,
    /// By client: its present stream, and what it has asked there, in order.
    asked: BTreeMap<usize, (u64, VecDeque<Asked>)>,
}

impl Checker for RightToWatch {
    fn id(&self) -> &'static str {
        "A4"
    }

    fn see(&mut self, scene: &Scene<'_>, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Published { member, view, .. } => {
                self.published.insert(*member, view.mark().applied.index);
            }
            Seen::Booted { member, view, .. } => self.booted(*member, *view),
            Seen::WatchAsked { spec, stream, member, user } => {
                let since = self.published.get(member).copied().unwrap_or_default();
                let asked = self.asked.entry(spec.id.0).or_default();
                if asked.0 != *stream {
                    *asked = (*stream, VecDeque::new());
                }
                let (spec, user) = ((*spec).clone(), user.map(str::to_owned));
                asked.1.push_back(Asked { spec, member: *member, user, since });
            }
            Seen::Noticed { spec, notice: Notice::Created { .. } } => {
                return self.judged(scene, spec, None);
            }
            Seen::Noticed { spec, notice: Notice::Refused(reason) } => {
                return self.judged(scene, spec, Some(reason));
            }
            _ => {}
        }
        Ok(())
    }
}

impl RightToWatch {
    /// A member that restarts may be at an older entry than it had been.
    fn booted(&mut self, member: usize, view: &dyn View) {
        let index = view.mark().applied.index;
        self.published.insert(member, index);
        let waiting = self.asked.values_mut().flat_map(|(_, asked)| asked);
        for asked in waiting.filter(|asked| asked.member == member) {
            asked.since = asked.since.min(index);
        }
    }

    fn judged(
        &mut self,
        scene: &Scene<'_>,
        spec: &WatchSpec,
        refusal: Option<&str>,
    ) -> Result<(), String> {
        let first = self.asked.get_mut(&spec.id.0).and_then(|(_, asked)| asked.pop_front());
        let Some(asked) = first.filter(|asked| asked.spec == *spec) else {
            return Err(format!("{:?} is judged and was not asked for", spec.id));
        };
        let steps = |index: Index| {
            let entry = scene.log.get((index.0 as usize).wrapping_sub(1));
            entry.map_or(0, |entry| entry.steps_after)
        };
        let until = self.published.get(&asked.member).copied().unwrap_or_default();
        let mut states = scene.model.users_between(steps(asked.since), steps(until));
        let user = asked.user.as_deref();
        scene.compared();
        if states.any(|users| is_right(users, (user, spec), refusal)) {
            return Ok(());
        }
        let (since, who) = (asked.since, user.unwrap_or("nobody"));
        let verdict = refusal.unwrap_or("nothing against it");
        Err(format!(
            "{:?} of {who} on {:?} is answered by member {} with {verdict:?}, which is at no state from \
             {since} to {until} right",
            spec.id, spec.keys, asked.member
        ))
    }
}

/// Whether a judgement is what these tables say. Whether a token is still good is the member's own to
/// know; that it must be, and who has one, is not.
fn is_right(
    users: &Users,
    (user, spec): (Option<&str>, &WatchSpec),
    refusal: Option<&str>,
) -> bool {
    let Some(reason) = refusal else {
        return users.may_read(user.unwrap_or_default(), &spec.keys);
    };
    let is = |rejection: Rejection| reason.ends_with(rejection.text());
    users.enabled()
        && match user {
            None => is(Rejection::UserEmpty),
            Some(user) => {
                is(Rejection::InvalidAuthToken)
                    || is(Rejection::PermissionDenied) && !users.may_read(user, &spec.keys)
            }
        }
}

#[cfg(test)]
mod tests {
    use holdfast_core::auth::{AuthOp, Permission, PermissionType};
    use holdfast_core::request::{KeyRange, Op};

    use super::*;
    use crate::model::Model;

    fn with_reader(enabled: bool) -> Model {
        let mut model = Model::default();
        let name = |name: &str| name.to_owned();
        let user = |user: &str| AuthOp::UserAdd {
            name: name(user),
            password: Default::default(),
            no_password: true,
        };
        let permission =
            Permission { key: "k/".into(), range_end: "k0".into(), kind: PermissionType::READ };
        let permission = Some(permission);
        let calls = [
            user("root"),
            AuthOp::UserGrantRole { user: name("root"), role: name("root") },
            user("u"),
            AuthOp::RoleAdd { name: name("r") },
            AuthOp::RoleGrantPermission { role: name("r"), permission },
            AuthOp::UserGrantRole { user: name("u"), role: name("r") },
        ];
        let enable = enabled.then_some(AuthOp::Enable);
        for op in calls.into_iter().chain(enable) {
            assert!(model.apply(&Op::Auth(op)).verdict.is_ok());
        }
        model
    }

    #[test]
    fn a_refusal_needs_a_reason_and_a_watch_needs_none() {
        let single = |key: &'static str| WatchSpec {
            id: (0, 0),
            keys: KeyRange::single(key),
            no_put: false,
            no_delete: false,
            prev_kv: false,
            progress_notify: false,
            fragment: false,
        };
        let (may, may_not) = (single("k/1"), single("x"));
        let denied =
            Some("rpc error: code = PermissionDenied desc = etcdserver: permission denied");
        let nameless = Some("etcdserver: user name is empty");
        let (on, off) = (with_reader(true), with_reader(false));
        for (model, user, spec, refusal, right) in [
            (&on, Some("u"), &may, None, true),
            (&on, Some("u"), &may, denied, false),
            (&on, Some("u"), &may_not, None, false),
            (&on, Some("u"), &may_not, denied, true),
            (&on, None, &may, None, false),
            (&on, None, &may, nameless, true),
            (&on, Some("u"), &may, nameless, false),
            (&off, None, &may_not, None, true),
            (&off, Some("u"), &may_not, denied, false),
        ] {
            let found = is_right(model.users(), (user, spec), refusal);
            assert_eq!(found, right, "{user:?} {:?} {refusal:?}", spec.keys);
        }
    }
}
