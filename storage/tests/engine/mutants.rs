//! The deliberate bugs of this crate do what their names say.

use holdfast_core::mutant;
use holdfast_core::rng::Rng;
use holdfast_storage::engine::EngineEvent;

use super::rig::Rig;

#[test]
fn m28_reports_a_checkpoint_before_it_is_durable() {
    let rng = &mut Rng::new(1);
    let mut rig = Rig::new(1, rng);
    rig.absorb(rng);
    rig.publish();
    mutant::activate(28);
    let mut ops = Vec::new();
    let at = rig.twin.mark.applied;
    assert!(rig.engine.begin_checkpoint(super::rig::meta(at), &mut ops));
    let error = std::io::ErrorKind::StorageFull.into();
    let events = rig.engine.completed(ops[0].0.number, Err(error), &mut Vec::new());
    mutant::activate(0);
    assert_eq!(events[0], EngineEvent::Flushed { at });
    assert!(rig.engine.checkpoint().0.at < at);
}
