//! A run whose results go to a file as they come.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::Ordering;

use fwpkm_spec::{Case, Tensor};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use super::super::judging::stop_flag;
use super::opened::Opened;
use super::{Arguments, Document, Entry};
use crate::element::Element;
use crate::error::{Error, Result};
use crate::inputs::Inputs;
use crate::run::{Outputs, Plan, Session, Totals, token_outputs};
use crate::settings_file::{RulesFile, SettingsFile};
use crate::state_file::{Saved, save};
use crate::store::{FileStore, Store, add, place};
use crate::{trace, train};

/// A run whose results go to a file as they come.
pub(super) struct LongRun<S> {
    pub(super) plan: Plan,
    pub(super) session: Session<S>,
    pub(super) totals: Totals<S>,
    pub(super) store: Option<FileStore>,
    pub(super) from: usize,
    pub(super) reached: usize,
}

impl<S: Element> LongRun<S> {
    /// Feeds up to token `to`; true if it was stopped before.
    pub(super) fn feed(&mut self, inputs: &Inputs, to: usize) -> Result<bool> {
        let interrupted = stop_flag();
        let bar = progress(to.saturating_sub(self.from));
        let Self { plan, session, totals, store, from, reached } = self;
        let asked = to.saturating_sub(*from);
        let result = session.feed(plan, inputs, (*from, to), &mut |at, done| {
            let length = done.fed.reads.dim().1;
            totals.add(&done.fed);
            if let Some(store) = store {
                place(store, at - *from, asked, &token_outputs(&done, plan.trace)?)?;
            }
            *reached = at + length;
            bar.inc(length as u64);
            let stop = interrupted.load(Ordering::SeqCst) && *reached < to;
            Ok(if stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        });
        bar.finish_and_clear();
        result.map(|()| self.reached < to)
    }

    pub(super) fn finish(
        mut self,
        inputs: &Inputs,
        arguments: &Arguments,
        opened: &Opened,
        stopped: bool,
    ) -> Result<Document> {
        if self.plan.flush && !stopped {
            self.totals.add_step(self.session.flush()?);
        }
        let mut small = Outputs::new();
        self.totals.outputs(self.plan.settings.slots(), inputs.sequences(), &mut small)?;
        let stat = |name: &str| small.get(name).and_then(|tensor| tensor.data.to_f64().first().copied()).unwrap_or(0.0);
        let (collision_rate, coverage) = (stat("out.stats.collision_rate"), stat("out.stats.coverage"));
        let divergence = stat("out.stats.divergence");
        let (mut tensors, mut refused) = (Vec::new(), None);
        if let Some(store) = self.store.take() {
            if self.has_gradients(arguments, inputs) {
                match self.gradients(inputs) {
                    Ok(gradients) => small.extend(gradients),
                    // What was read is kept; the error is still the result.
                    Err(error) => refused = Some(error),
                }
            }
            tensors = self.write(store, small, inputs, opened)?;
        }
        let steps = self.totals.steps();
        let loss = |step: &fwpkm_reference::StepReport<S>| {
            let losses = step.pair_losses.iter().fold(0.0, |sum, loss| sum + loss.to_f64());
            (!step.pair_losses.is_empty()).then(|| losses / step.pair_losses.len() as f64)
        };
        let losses: Vec<f64> = steps.iter().filter_map(loss).collect();
        let document = Document {
            spec: fwpkm_spec::version(),
            element: S::TYPE.name(),
            tokens: (self.from, self.reached),
            stopped,
            steps: steps.len(),
            mean_loss: (!losses.is_empty()).then(|| losses.iter().sum::<f64>() / losses.len() as f64),
            mean_loss_of_last_step: steps.last().and_then(loss),
            addressing_loss_of_last_step: steps.last().map(|step| step.addressing_loss.to_f64()),
            collision_rate,
            coverage,
            divergence,
            output: arguments.output.clone(),
            tensors,
            state: arguments.save.clone(),
        };
        if let Some(path) = &arguments.save {
            self.save(path)?;
        }
        refused.map_or(Ok(document), Err)
    }

    /// Whether all of the text was read, from the file's own tables.
    fn has_gradients(&self, arguments: &Arguments, inputs: &Inputs) -> bool {
        arguments.state.is_none() && self.from == 0 && self.reached == inputs.tokens()
    }

    /// `grad.*` of a whole text with `cotangent.*`, which is read once more for them.
    fn gradients(&self, inputs: &Inputs) -> Result<Outputs> {
        let cotangents = inputs.cotangents::<S>()?;
        cotangents.map_or_else(|| Ok(Outputs::new()), |cotangents| train::gradients(&self.plan, inputs, &cotangents))
    }

    /// Completes the output file.
    fn write(&self, mut store: FileStore, small: Outputs, inputs: &Inputs, opened: &Opened) -> Result<Vec<Entry>> {
        let mut rest = small;
        if let Some(trace) = self.session.trace() {
            trace::outputs(trace, inputs.sequences(), &mut rest)?;
        }
        store.shorten(self.reached - self.from)?;
        for (name, Tensor { shape, data }) in &rest {
            store.declare(name, data.element_type(), shape)?;
            store.write(name, 0, data)?;
        }
        let tables = self.session.memory().tables();
        add(&mut store, "out.slot_values", tables.slot_values.view(), S::data, &mut |_| ())?;
        add(&mut store, "out.sub_keys", tables.sub_keys.view(), S::data, &mut |_| ())?;
        let entries = store.shapes();
        store.finish(&metadata(&self.plan, opened.case())?)?;
        Ok(entries.into_iter().map(|(name, shape)| Entry { name, shape }).collect())
    }

    pub(super) fn save(self, path: &Path) -> Result<()> {
        save(path, &Saved { state: self.session.into_memory().into_state(), tokens: self.reached })
    }
}

fn progress(tokens: usize) -> ProgressBar {
    let target =
        if std::io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(Some(tokens as u64), target);
    let template = "{bar:24} {pos}/{len} tokens  {rate}  {eta} left";
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.with_style(style.with_key("rate", |state: &ProgressState, out: &mut dyn Write| {
        let _ = write!(out, "{:.0} tokens/s", state.per_sec());
    }))
}

/// The version of the specification, the settings and the rules, so that the results can be made again.
fn metadata(plan: &Plan, case: Option<&Case>) -> Result<BTreeMap<String, String>> {
    let mut metadata = case.map_or_else(|| Ok(BTreeMap::new()), |case| case.metadata(None))?;
    let json = |e: serde_json::Error| Error::Usage { reason: e.to_string() };
    metadata.insert("spec".into(), fwpkm_spec::version().into());
    metadata.insert("source".into(), format!("fwpkm {}", env!("CARGO_PKG_VERSION")));
    metadata.insert("settings".into(), serde_json::to_string(&SettingsFile::from(&plan.settings)).map_err(json)?);
    metadata.insert("rules".into(), serde_json::to_string(&RulesFile::from(&plan.rules)).map_err(json)?);
    Ok(metadata)
}
