//! Named other implementations, each the specification with something changed.
//!
//! Each names the clause that it breaks, or chooses otherwise, and says what it computes instead. They show that the
//! suite catches what it should, they say what a failing implementation computes, and the porting guide is made of them.
//!
//! A file stands for a stage. What a port gets wrong in its score or in its sub-keys is derived along: the gradient is
//! that of what it computes, as it would be with automatic differentiation.

mod address;
mod elsewhere;
mod maps;
mod marginal;
mod memorize;
mod memorize_sub_keys;
mod order;
mod output;
mod pairs;
mod project;
mod read;
mod report;
mod rules;
mod score;
mod select;
mod settings;
mod steps;
mod train;

use std::sync::LazyLock;

use fwpkm_reference::chunk::Stages;
use fwpkm_reference::{Rules, Scalar, Settings};
use fwpkm_spec::case::Operation;

use crate::problem::Problem;
use crate::run::{Outputs, Plan};
use crate::walk::Order;

/// One other implementation.
#[derive(Clone, Debug)]
pub struct Deviation {
    /// Unique, of small letters and hyphens; begins with the clause.
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
    /// How the text is fed.
    Plan(fn(&mut Plan)),
    /// What an operation between calls does: these in its place.
    Operation(fn(Operation) -> &'static [Operation]),
    /// When steps take effect.
    Order(Order),
    /// What a stage computes.
    Stage(Fault),
    /// What is reported of a run, after it.
    Report(fn(&mut Outputs, &Problem, &Plan)),
    /// More than one at once.
    Several(&'static [Change]),
}

/// What a stage computes otherwise, in any type of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// In norms and linear maps.
    Maps(maps::Fault),
    /// In the projections.
    Project(project::Fault),
    /// In the half scores.
    Score(score::Fault),
    /// In the choice of slots.
    Select(select::Fault),
    /// In weights and reads.
    Read(read::Fault),
    /// In the output.
    Output(output::Fault),
    /// In pairs and losses.
    Pairs(pairs::Fault),
    /// In read counts and value gradient.
    Memorize(memorize::Fault),
    /// In the memorization gradient of the sub-keys.
    MemorizeSubKeys(memorize_sub_keys::Fault),
    /// In the usage of the sub-keys.
    Marginal(marginal::Fault),
    /// In the gradient of the sub-keys.
    Address(address::Fault),
    /// In the two descents.
    Steps(steps::Fault),
    /// On the way back.
    Train(train::Fault),
}

macro_rules! each_fault {
    ($fault:expr, $inner:ident => $result:expr) => {
        match $fault {
            Fault::Maps($inner) => $result,
            Fault::Project($inner) => $result,
            Fault::Score($inner) => $result,
            Fault::Select($inner) => $result,
            Fault::Read($inner) => $result,
            Fault::Output($inner) => $result,
            Fault::Pairs($inner) => $result,
            Fault::Memorize($inner) => $result,
            Fault::MemorizeSubKeys($inner) => $result,
            Fault::Marginal($inner) => $result,
            Fault::Address($inner) => $result,
            Fault::Steps($inner) => $result,
            Fault::Train($inner) => $result,
        }
    };
}

impl Change {
    /// Changes settings, rules and calls.
    pub(crate) fn plan(self, plan: &mut Plan) {
        match self {
            Self::Settings(change) => change(&mut plan.settings),
            Self::Rules(change) => change(&mut plan.rules),
            Self::Plan(change) => change(plan),
            Self::Operation(instead) => {
                for operations in &mut plan.after_calls {
                    *operations = operations.iter().flat_map(|&operation| instead(operation)).copied().collect();
                }
            }
            Self::Several(changes) => changes.iter().for_each(|change| change.plan(plan)),
            Self::Order(_) | Self::Stage(_) | Self::Report(_) => {}
        }
    }

    /// Replaces stages.
    pub(crate) fn stages<S: Scalar>(self, stages: &mut Stages<S>) {
        match self {
            Self::Stage(fault) => each_fault!(fault, fault => fault.replace(stages)),
            Self::Several(changes) => changes.iter().for_each(|change| change.stages(stages)),
            _ => {}
        }
    }

    /// The order, where that is changed.
    pub(crate) fn order(self) -> Option<Order> {
        match self {
            Self::Order(order) => Some(order),
            Self::Several(changes) => changes.iter().find_map(|change| change.order()),
            _ => None,
        }
    }

    /// Changes what is reported.
    pub(crate) fn report(self, outputs: &mut Outputs, problem: &Problem, plan: &Plan) {
        match self {
            Self::Report(change) => change(outputs, problem, plan),
            Self::Several(changes) => changes.iter().for_each(|change| change.report(outputs, problem, plan)),
            _ => {}
        }
    }

    /// Whether it changes nothing of a choice of slots but their order.
    pub(crate) fn is_order_of_slots(self) -> bool {
        matches!(self, Self::Stage(Fault::Select(select::Fault::AnyOrder)))
    }

    /// Whether it replaces that stage, by the name it has in [`Stages`].
    pub fn is_of(self, stage: &str) -> bool {
        match self {
            Self::Stage(fault) => each_fault!(fault, fault => fault.is_of(stage)),
            Self::Several(changes) => changes.iter().any(|change| change.is_of(stage)),
            _ => false,
        }
    }
}

/// The catalogue, by stage.
pub fn all() -> &'static [Deviation] {
    static ALL: LazyLock<Vec<Deviation>> = LazyLock::new(|| {
        [
            maps::LIST,
            project::LIST,
            score::LIST,
            select::LIST,
            read::LIST,
            output::LIST,
            pairs::LIST,
            memorize::LIST,
            memorize_sub_keys::LIST,
            marginal::LIST,
            address::LIST,
            steps::LIST,
            train::OF_ORDER,
            train::LIST,
            order::LIST,
            report::LIST,
            settings::LIST,
            rules::LIST,
            elsewhere::LIST,
        ]
        .concat()
    });
    &ALL
}

/// No deviation: it changes nothing, and what it computes must be the specification's, bit for bit.
pub static CONTROL: Deviation = Deviation {
    name: "control",
    clause: "CHK-1",
    instead: "nothing else",
    source: "the specification",
    change: Change::Several(&[]),
};

/// The deviation of that name.
pub fn named(name: &str) -> Option<&'static Deviation> {
    all().iter().find(|deviation| deviation.name == name)
}

/// Seen in ports written from the paper.
const PORTS: &str = "seen in ports";
/// What the release computes.
const RELEASE: &str = "the release";
/// What the paper's text says, where a case follows the release.
const PAPER: &str = "the paper, where the release is meant";
/// Nobody has been seen to do it.
const SLIP: &str = "a plausible slip";

/// One file's faults: an enum of them, what each puts in the place of which stages, and its part of the catalogue.
macro_rules! faults {
    ($stage:ident { $(
        $fault:ident $name:literal $clause:literal
            $instead:literal $source:ident
            { $($field:ident: $function:expr),+ $(,)? }
    )+ }) => {
        /// What is computed otherwise.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Fault {
            $(#[doc = $instead] $fault),+
        }

        impl Fault {
            /// Puts its functions in the place of the specification's.
            pub(crate) fn replace<S: Scalar>(self, stages: &mut Stages<S>) {
                match self {
                    $(Self::$fault => { $(stages.$field = $function;)+ })+
                }
            }

            /// Whether it replaces the stage of that name.
            pub(crate) fn is_of(self, stage: &str) -> bool {
                match self {
                    $(Self::$fault => [$(stringify!($field)),+].contains(&stage),)+
                }
            }
        }

        pub(super) const LIST: &[Deviation] = &[$(Deviation {
            name: $name,
            clause: $clause,
            instead: $instead,
            source: $source,
            change: Change::Stage(super::Fault::$stage(Fault::$fault)),
        }),+];
    };
}
use faults;
