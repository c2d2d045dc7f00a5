//! An implementation of the layer: the specification, or something that departs from it.

use std::cell::RefCell;

use fwpkm_reference::chunk::Stages;
use fwpkm_reference::{Rules, Scalar, Tables};

use crate::deviation::Deviation;
use crate::element::Element;
use crate::error::Result;
use crate::gradients::gradients;
use crate::judge::Distance;
use crate::numbers::Numbers;
use crate::outputs::{of_sequences, of_walk};
use crate::problem::Problem;
use crate::reverse::Reverse;
use crate::run::{Outputs, Plan};
use crate::walk::{Order, Walk, Walked};

/// The specification with some deviations.
#[derive(Clone, Debug, Default)]
pub struct Implementation {
    /// What it does otherwise.
    pub deviations: Vec<&'static Deviation>,
    /// Rules it follows whatever a case says.
    pub rules: Option<Rules>,
    /// How it takes distances.
    pub distance: Distance,
}

impl Implementation {
    /// The specification itself.
    pub fn specification() -> Self {
        Self::default()
    }

    /// With one deviation.
    pub fn deviating(deviation: &'static Deviation) -> Self {
        Self { deviations: vec![deviation], ..Self::default() }
    }

    /// What it makes of a case's plan.
    pub fn plan(&self, plan: &Plan) -> Plan {
        let mut plan = plan.clone();
        if let Some(rules) = &self.rules {
            plan.rules.clone_from(rules);
        }
        for deviation in &self.deviations {
            deviation.change.plan(&mut plan);
        }
        plan
    }

    /// Its stages.
    pub fn stages<S: Scalar>(&self, numbers: Numbers) -> Stages<S> {
        self.stages_with(numbers, self.distance)
    }

    /// The same with distances taken so, where no deviation says otherwise.
    pub fn stages_with<S: Scalar>(&self, numbers: Numbers, distance: Distance) -> Stages<S> {
        let mut stages = distance.stages(Stages { keep: numbers.keep(), ..Stages::specification() });
        for deviation in &self.deviations {
            deviation.change.stages(&mut stages);
        }
        stages
    }

    /// When its steps take effect.
    pub fn order(&self) -> Order {
        let mut orders = self.deviations.iter().filter_map(|deviation| deviation.change.order());
        orders.next_back().unwrap_or(Order::Specification)
    }

    /// Whether the slots it chooses are the specification's, given the scores; in whatever order.
    pub fn selects_as_specified(&self) -> bool {
        let mut changes = self.deviations.iter().map(|deviation| deviation.change);
        !changes.any(|change| change.is_of("select") && !change.is_order_of_slots())
    }

    /// Whether it gives slots best first.
    pub fn orders_slots(&self) -> bool {
        !self.deviations.iter().any(|deviation| deviation.change.is_order_of_slots())
    }

    /// Everything it computes of a case, in these numbers.
    ///
    /// # Errors   those of the interpreter
    pub fn run(&self, problem: &Problem, numbers: Numbers) -> Result<Outputs> {
        let problem = problem.rounded(numbers);
        let mut outputs = match numbers {
            Numbers::F64 => self.run_with::<f64>(&problem, self.stages(numbers)),
            Numbers::F32 | Numbers::Bf16 | Numbers::F16 => self.run_with::<f32>(&problem, self.stages(numbers)),
        }?;
        outputs.extend(match numbers {
            Numbers::F64 => self.gradients::<f64>(&problem)?,
            Numbers::F32 => self.gradients::<f32>(&problem)?,
            Numbers::Bf16 | Numbers::F16 => Outputs::new(),
        });
        Ok(outputs)
    }

    /// `grad.*` of a case with cotangents; none where sequences are run one by one.                        [GRD-1]
    fn gradients<S: Element>(&self, problem: &Problem) -> Result<Outputs> {
        if problem.cotangents.is_none() || self.runs_sequences_alone() {
            return Ok(Outputs::new());
        }
        let (plan, stages) = (self.plan(&problem.plan), self.stages::<Reverse<S>>(Numbers::F64));
        let walk = Walk { plan: &plan, stages, order: self.order(), choices: None, exchanged: &[], as_specified: true };
        gradients(&walk, &walk.events(problem.tokens)?, problem, |_, x| x)
    }

    /// The same with its stages as given.
    ///
    /// # Errors   those of the interpreter
    pub fn run_with<S: Element>(&self, problem: &Problem, stages: Stages<S>) -> Result<Outputs> {
        let plan = self.plan(&problem.plan);
        let walk = Walk { plan: &plan, stages, order: self.order(), choices: None, exchanged: &[], as_specified: true };
        let mut outputs = match walk.order {
            Order::TablesPerSequence => of_sequences(problem, |problem| walk.run(problem), &plan),
            Order::SequencesInTurn => {
                let tables = RefCell::new(problem.tables.clone());
                let next = |problem: &Problem| {
                    let given = Problem { tables: tables.borrow().clone(), ..problem.clone() };
                    let walked: Walked<S> = walk.run(&given)?;
                    let Tables { sub_keys, slot_values } = &walked.tables;
                    let (sub_keys, slot_values) = (sub_keys.mapv(S::to_f64), slot_values.mapv(S::to_f64));
                    tables.replace(Tables { sub_keys, slot_values });
                    Ok(walked)
                };
                of_sequences(problem, next, &plan)
            }
            _ => of_walk(&walk.run(problem)?, problem, &plan),
        }?;
        self.report(&mut outputs, problem, &plan);
        Ok(outputs)
    }

    /// Whether sequences are run one by one, so that there is no one walk.
    pub fn runs_sequences_alone(&self) -> bool {
        matches!(self.order(), Order::TablesPerSequence | Order::SequencesInTurn)
    }

    /// What it reports otherwise than it computes it.
    pub fn report(&self, outputs: &mut Outputs, problem: &Problem, plan: &Plan) {
        for deviation in &self.deviations {
            deviation.change.report(outputs, problem, plan);
        }
    }
}
