//! An implementation of the layer: the specification, or something that departs from it.

use std::cell::RefCell;

use fwpkm_reference::chunk::Stages;
use fwpkm_reference::{Rules, Scalar, Tables};

use crate::deviation::Deviation;
use crate::element::Element;
use crate::error::Result;
use crate::numbers::Numbers;
use crate::problem::Problem;
use crate::run::{Outputs, Plan};
use crate::walk::{Order, Walk, Walked};

/// The specification with some deviations.
#[derive(Clone, Debug, Default)]
pub struct Implementation {
    /// What it does otherwise.
    pub deviations: Vec<&'static Deviation>,
    /// Rules it follows whatever a case says.
    pub rules: Option<Rules>,
}

impl Implementation {
    /// The specification itself.
    pub fn specification() -> Self {
        Self::default()
    }

    /// With one deviation.
    pub fn deviating(deviation: &'static Deviation) -> Self {
        Self { deviations: vec![deviation], rules: None }
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
        let mut stages = Stages { keep: numbers.keep(), ..Stages::specification() };
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

    /// Whether its choice of slots is the specification's, given the scores.
    pub fn selects_as_specified(&self) -> bool {
        !self.deviations.iter().any(|deviation| deviation.change.is_of("select"))
    }

    /// Everything it computes of a case, in these numbers.
    ///
    /// # Errors   those of the interpreter
    pub fn run(&self, problem: &Problem, numbers: Numbers) -> Result<Outputs> {
        let problem = problem.rounded(numbers);
        let mut outputs = match numbers {
            Numbers::F64 => self.walked::<f64>(&problem, numbers),
            Numbers::F32 | Numbers::Bf16 | Numbers::F16 => self.walked::<f32>(&problem, numbers),
        }?;
        for deviation in &self.deviations {
            deviation.change.report(&mut outputs, &problem, &self.plan(&problem.plan));
        }
        Ok(outputs)
    }

    fn walked<S: Element>(&self, problem: &Problem, numbers: Numbers) -> Result<Outputs> {
        let plan = self.plan(&problem.plan);
        let walk = Walk { plan: &plan, stages: self.stages(numbers), order: self.order(), choices: None };
        if walk.order == Order::TablesPerSequence {
            return crate::outputs::of_sequences(problem, |problem| walk.run(problem), &plan);
        }
        if walk.order == Order::SequencesInTurn {
            let tables = RefCell::new(problem.tables.clone());
            let next = |problem: &Problem| {
                let given = Problem { tables: tables.borrow().clone(), ..problem.clone() };
                let walked: Walked<S> = walk.run(&given)?;
                let Tables { sub_keys, slot_values } = &walked.tables;
                tables.replace(Tables { sub_keys: sub_keys.mapv(S::to_f64), slot_values: slot_values.mapv(S::to_f64) });
                Ok(walked)
            };
            return crate::outputs::of_sequences(problem, next, &plan);
        }
        let walked: Walked<S> = walk.run(problem)?;
        crate::outputs::of_walk(&walked, problem, &plan)
    }
}
