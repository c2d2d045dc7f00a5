//! A run of the interpreter as a recorded case file, and what `verify` must say of it.

use fwpkm_reference::Settings;
use fwpkm_reference::settings::{Activation, Border, Score, WeightsOver};
use fwpkm_spec::case::{self, AddressingLoss, Mode, Nonlinear};
use fwpkm_spec::tensor_file::to_bytes;
use fwpkm_spec::{Case, CaseFile, Data, Tensor, TensorFile};
use ndarray::{ArrayView, Dimension};

use super::bytes::Bytes;
use super::judge::Judge;
use super::scene::{Most, Scene};
use crate::element::real;
use crate::inputs::Inputs;
use crate::run::{Outputs, Plan, run};
use crate::settings_file::{RulesFile, rules_of_case, settings_of_case};
use crate::verify::{Verdict, verify_file};

const MOST: Most = Most { heads: 2, sub_keys: 3, half_dim: 2, value_dim: 2, sequences: 2, tokens: 5 };

/// A case with its inputs.
#[derive(Debug)]
pub(super) struct RecordedRun {
    scene: Scene,
    case: Case,
}

impl RecordedRun {
    pub(super) fn choose(bytes: &mut Bytes) -> Self {
        let border = bytes.one_of(&[Border::Drop, Border::Carry]);
        let chunk = bytes.count(1, 4);
        let lookahead = bytes.count(0, if border == Border::Carry { chunk + 2 } else { chunk - 1 });
        let (mode, flush) = (bytes.one_of(&[Mode::OneShot, Mode::Streaming]), bytes.flag());
        let cut = bytes.count(0, MOST.tokens);
        let mut scene = Scene::choose(bytes, MOST);
        scene.settings = Settings { border, chunk, lookahead, ..scene.settings };
        let tokens = scene.text.shape().1;
        let cut = cut.min(tokens);
        let splits = (mode == Mode::Streaming).then(|| vec![cut, 0, tokens - cut]);
        Self { case: case_of(&scene, mode, splits, flush), scene }
    }

    /// Records the run, and holds against itself both what was recorded and that with one number changed. Returns the file with
    /// some bytes changed.
    pub(super) fn holds(&self, bytes: &mut Bytes) -> Vec<u8> {
        let judge = Judge::new::<f64>(self);
        let settings = settings_of_case(&self.case);
        let same = settings.as_ref().is_ok_and(|settings| *settings == self.scene.settings);
        judge.claim("the settings of the case", same, || format!("{settings:?}"));
        let rules = rules_of_case(&self.case);
        judge.claim("the rules of the case", rules.as_ref().is_ok_and(|rules| *rules == self.scene.rules), || {
            format!("{rules:?}")
        });
        let inputs = self.inputs();
        let read = TensorFile::from_bytes("run", &self.file(&inputs)).and_then(CaseFile::of_file);
        judge.claim("the case written", read.as_ref().is_ok_and(|read| read.case == self.case), || format!("{read:?}"));
        let Some(outputs) = self.outputs(&inputs) else {
            let nothing = Tensor { shape: vec![0], data: Data::F64(Vec::new()) };
            let file = self.file(&[inputs, vec![("out.reads".to_string(), nothing)]].concat());
            verdict_is(&judge, &file, Verdict::Error, "a run that fails");
            return file;
        };
        let file = self.file(&[inputs.clone(), outputs.clone()].concat());
        verdict_is(&judge, &file, Verdict::Conforms, "its own results");
        let mut changed = outputs;
        let place = bytes.count(0, changed.len() - 1);
        if change(&mut changed[place].1, bytes) {
            let file = self.file(&[inputs, changed].concat());
            verdict_is(&judge, &file, Verdict::Differs, "a changed number");
        }
        damaged(file, bytes)
    }

    fn inputs(&self) -> Vec<(String, Tensor)> {
        let Scene { tables, text, .. } = &self.scene;
        let mut inputs = vec![
            named("in.queries", text.queries.view()),
            named("in.values", text.values.view()),
            named("in.sub_keys", tables.sub_keys.view()),
            named("in.slot_values", tables.slot_values.view()),
        ];
        inputs.extend(text.gates.as_ref().map(|gates| named("in.gates", gates.view())));
        inputs.extend(text.mask.as_ref().map(|mask| {
            let data = Data::Bool(mask.iter().copied().collect());
            ("in.mask".to_string(), Tensor { shape: mask.shape().to_vec(), data })
        }));
        inputs
    }

    /// What the run gives, if it does not fail
    fn outputs(&self, inputs: &[(String, Tensor)]) -> Option<Vec<(String, Tensor)>> {
        let file = TensorFile::from_bytes("inputs", &self.file(inputs)).and_then(CaseFile::of_file).ok()?;
        let plan = Plan::of_case(&file.case, None).ok()?;
        let outputs: Outputs = run::<f64>(&plan, &Inputs::of_case(&file).ok()?).ok()?;
        Some(outputs.into_iter().collect())
    }

    fn file(&self, tensors: &[(String, Tensor)]) -> Vec<u8> {
        let written = self
            .case
            .metadata(None)
            .map_err(|error| error.to_string())
            .and_then(|metadata| to_bytes("run", &metadata, tensors).map_err(|error| error.to_string()));
        written.unwrap_or_else(|error| panic!("a case that cannot be written: {error}\n{self:#?}"))
    }
}

fn case_of(scene: &Scene, mode: Mode, splits: Option<Vec<usize>>, flush: bool) -> Case {
    let Scene { settings, rules, text, .. } = scene;
    Case {
        batch: text.shape().0,
        tokens: text.shape().1,
        n_subkeys: settings.sub_keys,
        d_k: settings.key_dim,
        d_v: settings.value_dim,
        heads: settings.heads,
        topk: settings.top_k,
        chunk: settings.chunk,
        lookahead: settings.lookahead,
        score: match settings.score {
            Score::InverseDistance { .. } => case::Score::Idw,
            Score::DotProduct => case::Score::DotProduct,
        },
        nonlinear: match settings.activation {
            Activation::Softmax => Nonlinear::Softmax,
            Activation::Silu => Nonlinear::Silu,
            Activation::Relu => Nonlinear::Relu,
        },
        temperature: settings.temperature,
        learning_rate: settings.learning_rate,
        weight_decay: settings.weight_decay,
        mem_grad_to_values_only: !settings.memory_gradient_to_sub_keys,
        grad_clip: false,
        addr_loss: (settings.addressing_weight > 0.0).then_some(AddressingLoss::MarginalEntropy),
        addr_loss_weight: settings.addressing_weight,
        mode,
        splits,
        after_calls: None,
        layer: None,
        gates: Some(text.gates.is_some()),
        mask: Some(text.mask.is_some()),
        train: None,
        seed: None,
        query_scale: None,
        key_scale: None,
        spec: Some(fwpkm_spec::version().to_string()),
        epsilon: match settings.score {
            Score::InverseDistance { epsilon } => epsilon,
            Score::DotProduct => case::DEFAULT_EPSILON,
        },
        rules: serde_json::to_value(RulesFile::from(rules)).ok(),
        border: Some(match settings.border {
            Border::Drop => case::Border::Drop,
            Border::Carry => case::Border::Carry,
        }),
        flush: Some(flush),
        writes: Some(settings.writes),
        weights_over: Some(match settings.weights_over {
            WeightsOver::AllHeads => case::WeightsOver::AllHeads,
            WeightsOver::EachHead => case::WeightsOver::EachHead,
        }),
        gradient_clip: settings.gradient_clip,
        unknown: Vec::new(),
    }
}

fn named<D: Dimension>(name: &str, numbers: ArrayView<f64, D>) -> (String, Tensor) {
    (name.to_string(), real(numbers))
}

fn verdict_is(judge: &Judge, file: &[u8], expected: Verdict, of: &str) {
    let file = TensorFile::from_bytes("run", file).and_then(CaseFile::of_file);
    let report = file.map(|file| verify_file(&file, None));
    let is = report.as_ref().is_ok_and(|report| report.verdict == expected);
    judge.claim("the verdict", is, || format!("of {of} is not {expected:?}: {report:?}"));
}

/// Adds to one element more than rounding could; false where there is none
fn change(tensor: &mut Tensor, bytes: &mut Bytes) -> bool {
    let element = usize::from(bytes.byte());
    match &mut tensor.data {
        Data::F64(numbers) if !numbers.is_empty() => {
            let more = numbers.iter().fold(1.0, |largest: f64, number| largest.max(number.abs()));
            let element = element % numbers.len();
            numbers[element] += more;
            true
        }
        Data::I64(numbers) if !numbers.is_empty() => {
            let element = element % numbers.len();
            numbers[element] += 1;
            true
        }
        _ => false,
    }
}

/// The file with up to seven bytes changed, and maybe without its end
fn damaged(mut file: Vec<u8>, bytes: &mut Bytes) -> Vec<u8> {
    let mut place = |length: usize| usize::from(u16::from_le_bytes([bytes.byte(), bytes.byte()])) % length.max(1);
    let (changes, cut) = (place(8), place(4));
    for _ in 0..changes {
        let (at, byte) = (place(file.len()), place(256));
        file[at] = u8::try_from(byte).unwrap_or(0);
    }
    if cut == 3 {
        file.truncate(place(file.len()));
    }
    file
}
