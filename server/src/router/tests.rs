//! The first edge is the twin: it is given at once what the further one finds in its box.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use bytes::Bytes;
use holdfast_core::auth::TokenChange;
use holdfast_core::command::Command;
use holdfast_core::id::{
    ClusterId, Incarnation, LeaseId, MemberId, Position, RequestId, Revision, Term,
};
use holdfast_core::inspector::CompactionHashes;
use holdfast_core::limits::Limits;
use holdfast_core::machine::{self, Applied, Machine};
use holdfast_core::memory::AnswerMemory;
use holdfast_core::message::SnapshotMeta;
use holdfast_core::query::{AnswerBody, Query};
use holdfast_core::request::{DeleteRange, Identity, KeyRange, Op, Put, RangeEnd};
use holdfast_core::response::{Body, Member};
use holdfast_core::status::Role;
use holdfast_core::watch::{HubOptions, WatchCreate, WatchRequest, WatchStreamId};
use holdfast_net::call::StreamId;
use holdfast_storage::disk::MemoryDisk;
use holdfast_storage::engine::{Engine, EngineIdentity, EngineOptions};
use proptest::collection::vec;
use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

use super::*;
use crate::auth::vault::InlineVault;
use crate::auth::{AuthOptions, Credential};
use crate::edge::{Asked, HashChecks};
use crate::host::Event as Asking;

const MEMBER: MemberId = MemberId(1);
const NOW: Instant = Instant(1_000_000_000);

/// A box in the same thread.
struct LocalPost {
    mail: RefCell<Mail>,
    wakes: Cell<usize>,
}

impl Post for LocalPost {
    fn put(&self, put: &mut dyn FnMut(&mut Mail) -> bool) {
        let wake = put(&mut self.mail.borrow_mut());
        self.wakes.set(self.wakes.get() + usize::from(wake));
    }
}

/// A member with two edges; the driver is played by hand.
struct Rig {
    engine: Engine,
    machine: Machine,
    edges: [Edge; 2],
    post: Rc<LocalPost>,
    router: Router,
    inbox: Vec<Asking>,
    index: u64,
    status: Status,
}

fn config(edge: usize, bounds: MailBounds) -> EdgeConfig {
    EdgeConfig {
        answers: AnswerMemory::new(Limits::default().answer_bytes_max),
        member_id: |_| MemberId(9),
        member: MEMBER,
        incarnation: Incarnation(1),
        sequence_base: RequestId::first_of(edge),
        limits: Limits::default(),
        hub: HubOptions { log_bytes: bounds.events_bytes_max, ..HubOptions::default() },
        seed: 1,
        quota: 0,
        auto_compaction: None,
        hash_checks: HashChecks::default(),
        compaction_hashes: CompactionHashes::default(),
        auth: AuthOptions { tokens_max: bounds.tokens_max, ..AuthOptions::default() },
    }
}

impl Rig {
    fn new(bounds: MailBounds) -> Rig {
        let identity = EngineIdentity { cluster: ClusterId(1), member: MEMBER };
        let genesis = machine::genesis(&[Member { id: MEMBER, ..Member::default() }]);
        let at = Position::default();
        let meta = SnapshotMeta { at, voters: vec![MEMBER], learners: Vec::new() };
        let (disk, options) = (Arc::new(MemoryDisk::new()), EngineOptions::default());
        let mut engine = Engine::create(disk, identity, options, genesis, meta)
            .expect("an empty disk takes an engine");
        let machine = Machine::load(&Limits::default(), &engine);
        let edges = [0, 1].map(|number| {
            let vault = Box::new(InlineVault::new(number as u64));
            Edge::new(config(number, bounds), engine.publish(), vault)
        });
        let mail = Mail::new(MailBounds::of(&config(1, bounds)));
        let post = Rc::new(LocalPost { mail: RefCell::new(mail), wakes: Cell::new(0) });
        let router = Router::new(vec![post.clone()]);
        let (inbox, status) = (Vec::new(), Status::default());
        Rig { engine, machine, edges, post, router, inbox, index: 0, status }
    }

    fn roomy() -> Rig {
        Rig::new(MailBounds { events_bytes_max: 1 << 20, tokens_max: 100 })
    }

    /// One turn: these commands are applied, the state is published, who asked is answered.
    fn turn(&mut self, commands: Vec<(RequestId, Op)>, tokens: Vec<TokenChange>) {
        let (mut events, mut replies) = (Vec::new(), Vec::new());
        for (id, op) in commands {
            self.index += 1;
            let command = Command { id, identity: Identity::default(), op };
            let (at, mut applied) = (Position::new(self.index, 1), Applied::default());
            let done = self.machine.apply(at, &command, &mut self.engine, &mut applied);
            done.expect("memory works");
            events.extend(applied.events);
            let body = applied.result.expect("nothing here is refused");
            replies.push((id, Ok(Response { revision: applied.revision, term: Term(1), body })));
        }
        let snapshot = self.engine.publish();
        let publication = Publication { snapshot, events, tokens, restored: false };
        self.router.published(NOW, publication, &mut self.edges[0]);
        for reply in replies {
            self.router.replied(reply, &mut self.edges[0]);
        }
        self.end_turn(&[]);
    }

    fn end_turn(&mut self, facts: &[Fact]) {
        self.status.applied.index.0 = self.index;
        self.router.turned(self.status, facts, &mut self.edges[0]);
    }

    /// The further edge looks into its box.
    fn look(&mut self) {
        let mut letters = Letters::default();
        self.post.mail.borrow_mut().take(&mut letters);
        letters.deliver(NOW, &mut self.edges[1]);
    }

    /// An edge asks; gives what its requests ask the driver to apply.
    fn ask(&mut self, edge: usize, call: u64, query: Query) -> Vec<(RequestId, Op)> {
        let asked = Asked { call: StreamId(call), query, by: Credential::None };
        self.edges[edge].ask(NOW, asked, &mut self.inbox);
        let requests = self.inbox.drain(..).map(|event| match event {
            Asking::Request(request) => request,
            other => panic!("an edge only asks, not {other:?}"),
        });
        let ops = requests.map(|request| match request.ask {
            holdfast_core::request::Ask::Propose(op) => (request.id, op),
            other => panic!("only writes are asked here, not {other:?}"),
        });
        ops.collect()
    }

    fn watch(&mut self, edge: usize) {
        let (id, keys) = (WatchStreamId(1), KeyRange { start: "k".into(), end: RangeEnd::Open });
        self.edges[edge].watches().0.open(id, NOW);
        let create = WatchCreate {
            id: 7,
            keys,
            start: 0,
            progress_notify: false,
            no_put: false,
            no_delete: false,
            prev_kv: true,
            fragment: false,
        };
        self.edges[edge].watch(NOW, id, (WatchRequest::Create(create), &Credential::System));
    }

    /// All that an edge's watcher is told: pairs, and those before.
    fn told(&mut self, edge: usize) -> Vec<(Bytes, Option<Bytes>)> {
        let mut responses = Vec::new();
        for _ in 0..1000 {
            self.edges[edge].take_answers(NOW, &mut Vec::new());
            while let Some(stream) = self.edges[edge].next_watch() {
                self.edges[edge].poll_watch(stream, &mut responses).expect("memory is readable");
            }
        }
        let events = responses.into_iter().flat_map(|response| response.events);
        events.map(|event| (event.kv, event.prev_kv)).collect()
    }
}

fn put(key: usize) -> Op {
    Op::Put(Put {
        key: format!("k{key}").into(),
        value: Bytes::from_static(b"value"),
        lease: LeaseId::NONE,
        prev_kv: false,
        ignore_value: false,
        ignore_lease: false,
    })
}

proptest! {
    /// Whatever the box has had to leave out, and whenever its edge looks.
    #[test]
    fn a_watcher_of_a_further_edge_is_told_the_same(
        steps in vec((0..6u8, 0..4usize, any::<bool>()), 1..60),
        events_bytes_max in 0..20_000usize,
    ) {
        let mut rig = Rig::new(MailBounds { events_bytes_max, tokens_max: 2 });
        rig.watch(0);
        rig.watch(1);
        for (kind, key, attentive) in steps {
            match kind {
                0 => rig.look(),
                1 => drop(rig.post.mail.borrow_mut().rest(attentive)),
                _ => {
                    let commands = (0..kind).map(|n| (RequestId::default(), put(key + usize::from(n))));
                    rig.turn(commands.collect(), vec![TokenChange::Cleared; key / 2]);
                }
            }
            let mail = rig.post.mail.borrow();
            prop_assert!(mail.events_bytes <= events_bytes_max && mail.tokens <= 2);
        }
        rig.look();
        let (first, further) = (rig.told(0), rig.told(1));
        prop_assert_eq!(first, further);
    }
}

/// The state that an answer is read from is its own turn's: a later one has forgotten what it names.
#[test]
fn an_answer_is_read_from_the_state_of_its_own_turn() {
    let mut rig = Rig::roomy();
    rig.turn(vec![(RequestId::default(), put(1))], Vec::new());
    rig.look();
    let query = Query::DeleteRange(DeleteRange { keys: KeyRange::single("k1"), prev_kv: true });
    let asked = rig.ask(1, 5, query);
    assert_eq!(asked[0].0.sequence, RequestId::first_of(1) + 1);
    rig.turn(asked, Vec::new());
    rig.turn(vec![(RequestId::default(), Op::Compact { revision: Revision(3) })], Vec::new());
    while rig.machine.compaction_pending() {
        rig.machine.compact_slice(&mut rig.engine).expect("memory works");
        rig.turn(Vec::new(), Vec::new());
    }
    rig.look();
    let mut answers = Vec::new();
    rig.edges[1].take_answers(NOW, &mut answers);
    let [(StreamId(5), Ok(answer))] = &answers[..] else { panic!("one answer, not {answers:?}") };
    let AnswerBody::DeleteRange(deleted) = &answer.body else { panic!("not {answer:?}") };
    assert_eq!((deleted.deleted, deleted.prev_kvs.len()), (1, 1));
}

#[test]
fn an_edge_is_woken_once_and_only_for_what_concerns_it() {
    let mut rig = Rig::roomy();
    let wakes = |rig: &Rig| rig.post.wakes.get();
    rig.turn(vec![(RequestId::default(), put(1))], Vec::new());
    assert_eq!(wakes(&rig), 0, "nobody watches there");
    assert!(!rig.post.mail.borrow().is_empty(), "but the state is there");
    rig.look();
    assert!(rig.post.mail.borrow_mut().rest(true));
    for _ in 0..3 {
        rig.turn(vec![(RequestId::default(), put(1))], Vec::new());
        assert_eq!(wakes(&rig), 1, "somebody watches");
    }
    assert!(!rig.post.mail.borrow_mut().rest(false), "it was woken and has not looked");
    rig.look();
    assert!(rig.post.mail.borrow_mut().rest(false));
    rig.end_turn(&[]);
    assert!(rig.post.mail.borrow().is_empty(), "a turn without news opens no box");
    rig.status.role = Role::Leader;
    rig.end_turn(&[]);
    assert_eq!((wakes(&rig), rig.post.mail.borrow().is_empty()), (2, false), "it leads");
    rig.look();
    rig.end_turn(&[Fact::CompactionFinished { revision: Revision(1) }]);
    assert_eq!(wakes(&rig), 3, "somebody may wait for it");
    rig.look();
    for _ in 0..STATES_UNSEEN_MAX {
        assert_eq!(wakes(&rig), 3);
        rig.turn(vec![(RequestId::default(), put(1))], Vec::new());
    }
    assert_eq!(wakes(&rig), 4, "it keeps an old state for too long");
    assert_eq!(rig.post.mail.borrow().letters.items.len(), 1, "the others are one");
    let asked = rig.ask(1, 1, Query::LeaseGrant { id: LeaseId(3), ttl: 9 });
    rig.look();
    rig.turn(asked, Vec::new());
    assert_eq!(wakes(&rig), 5, "an answer");
}

/// States that wait are put together, but never across an answer.
#[test]
fn what_waits_is_bounded_by_the_answers_that_wait() {
    let mut rig = Rig::new(MailBounds { events_bytes_max: 10_000, tokens_max: 3 });
    assert!(rig.post.mail.borrow_mut().rest(true));
    let mut asked = Vec::new();
    for call in 0..3 {
        asked.push(rig.ask(1, call, Query::LeaseGrant { id: LeaseId(1 + call as i64), ttl: 9 }));
    }
    for asked in asked {
        (0..50).for_each(|key| rig.turn(vec![(RequestId::default(), put(key))], Vec::new()));
        rig.turn(asked, vec![TokenChange::Cleared]);
    }
    (0..50).for_each(|key| rig.turn(vec![(RequestId::default(), put(key))], Vec::new()));
    let mail = rig.post.mail.borrow();
    let states = mail.letters.items.iter().filter(|item| !matches!(item, Item::Reply(_)));
    // Of the last ones some are whole.
    assert!(states.count() <= 4 + 10_000 / STATE_BYTES, "{}", mail.letters.items.len());
}

#[test]
fn changes_of_tokens_that_do_not_fit_void_all_tokens() {
    let mut rig = Rig::new(MailBounds { events_bytes_max: 10_000, tokens_max: 3 });
    for _ in 0..4 {
        rig.turn(Vec::new(), vec![TokenChange::Cleared]);
    }
    {
        let mail = rig.post.mail.borrow();
        let [Item::Bare(state)] = &mail.letters.items[..] else { panic!("they are one state") };
        assert!(state.restored && state.tokens.is_empty());
    }
    rig.turn(Vec::new(), vec![TokenChange::Cleared]);
    let mail = rig.post.mail.borrow();
    let [Item::Bare(state)] = &mail.letters.items[..] else { panic!("they are one state") };
    assert!(state.restored && state.tokens.len() == 1, "what came afterwards counts");
}

#[test]
fn a_reply_to_a_number_that_nobody_gave_is_dropped() {
    let mut rig = Rig::roomy();
    let nobody = RequestId { sequence: RequestId::first_of(9) + 1, ..RequestId::default() };
    let response = Response { revision: Revision(1), term: Term(1), body: Body::ReadIndex };
    rig.router.replied((nobody, Ok(response)), &mut rig.edges[0]);
    rig.end_turn(&[]);
}

#[test]
fn connections_go_where_there_are_fewest() {
    assert_eq!(least_loaded([3, 1, 1]), 1);
    assert_eq!(least_loaded([0, 0]), 0);
    assert_eq!(least_loaded([]), 0);
}
