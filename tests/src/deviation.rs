//! Named other implementations, each the specification with one thing changed.
//!
//! Each names the clause that it breaks and says what it computes instead. They show that the suite catches what it should,
//! and they say what a failing implementation computes.

use fwpkm_reference::chunk::Stages;
use fwpkm_reference::{Rules, Scalar, Settings};

use crate::run::Plan;
use crate::walk::Order;

/// One other implementation.
#[derive(Clone, Debug)]
pub struct Deviation {
    /// Unique, of small letters and hyphens.
    pub name: &'static str,
    /// The clause it breaks, or chooses otherwise.
    pub clause: &'static str,
    /// What it computes, after "consistent with: ".
    pub instead: &'static str,
    /// Where it has been seen, or why it is to be expected.
    pub source: &'static str,
    /// The change.
    pub change: Change,
}

/// What is changed.
#[derive(Clone, Copy, Debug)]
pub enum Change {
    /// A choice of the run.
    Settings(fn(&mut Settings)),
    /// A reading of the text.
    Rules(fn(&mut Rules)),
    /// When steps take effect.
    Order(Order),
}

impl Change {
    /// Changes settings and rules.
    pub(crate) fn plan(self, plan: &mut Plan) {
        match self {
            Self::Settings(change) => change(&mut plan.settings),
            Self::Rules(change) => change(&mut plan.rules),
            Self::Order(_) => {}
        }
    }

    /// Replaces stages.
    pub(crate) fn stages<S: Scalar>(self, _stages: &mut Stages<S>) {}

    /// The order, where that is changed.
    pub(crate) fn order(self) -> Option<Order> {
        match self {
            Self::Order(order) => Some(order),
            _ => None,
        }
    }

    /// Whether it replaces that stage.
    pub(crate) fn is_of(self, _stage: &str) -> bool {
        false
    }
}
