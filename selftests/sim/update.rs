// SPDX-License-Identifier: GPL-2.0

//! Random sequences of operations over several updates, with memory that runs out in every way.

use proptest::prelude::*;

use super::kernel::Ledger;
use super::world::{an_op, Op, World};
use crate::sys::faults::{Faults, Rate};
use crate::sys::machine::with;

/// Applies an operation while allocations fail; if that makes it fail, it must have changed
/// nothing, and work when tried again.
fn try_with(world: &mut World, op: &Op, faults: Faults) -> Faults {
    let before = Ledger::open();
    with(|m| m.faults = faults);
    let result = world.apply(op);
    let after = with(|m| std::mem::take(&mut m.faults));
    if result.is_err() {
        before.close();
        world.audit();
        world.apply(op).expect("it works when tried again");
    }
    after
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_sequence(ops in prop::collection::vec(an_op(), 1..40)) {
        let mut world = World::new();
        for op in &ops {
            world.apply(op).expect("memory suffices");
        }
        world.update();
        world.finish();
    }

    #[test]
    fn any_allocation_may_fail(ops in prop::collection::vec(an_op(), 1..12), nth in 0u64..60) {
        let mut world = World::new();
        let from = with(|m| m.allocations());
        for op in ops.iter().filter(|op| !matches!(op, Op::Update)) {
            try_with(&mut world, op, Faults { nth: Some(from + nth), ..Faults::default() });
        }
        world.update();
        world.finish();
    }

    #[test]
    fn one_allocation_in_a_few_fails(
        ops in prop::collection::vec(an_op(), 1..30), seed in any::<u64>(), one_in in 1u64..20,
    ) {
        let mut world = World::new();
        let mut rate = Some(Rate::new(seed, one_in));
        for op in ops {
            if matches!(op, Op::Update) {
                world.update();
            } else {
                rate = try_with(&mut world, &op, Faults { rate, ..Faults::default() }).rate;
            }
        }
        world.update();
        world.finish();
    }

    #[test]
    fn large_allocations_fail(ops in prop::collection::vec(an_op(), 1..20), above in 0u32..5) {
        let mut world = World::new();
        for op in ops {
            if matches!(op, Op::Update) {
                world.update();
            } else {
                try_with(&mut world, &op, Faults { above: Some(above), ..Faults::default() });
            }
        }
        world.update();
        world.finish();
    }

    #[test]
    fn kho_itself_needs_single_pages_only(ops in prop::collection::vec(an_op(), 1..20)) {
        let mut world = World::new();
        world.fragmented = true;
        for op in &ops {
            world.apply(op).expect("no order above 0 is asked for");
        }
        world.update();
        world.finish();
    }

    #[test]
    fn ten_updates_in_a_row(rounds in prop::collection::vec(
        prop::collection::vec(an_op(), 1..8), 10..=10,
    )) {
        let mut world = World::new();
        for ops in rounds {
            for op in ops.iter().filter(|op| !matches!(op, Op::Update)) {
                world.apply(op).expect("memory suffices");
                world.audit();
            }
            world.update();
        }
        world.finish();
    }
}
