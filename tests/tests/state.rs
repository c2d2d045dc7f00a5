//! State files: going on gives the same bits, and what cannot be gone on from is refused.

#[path = "state/run.rs"]
mod run;

use std::collections::BTreeMap;
use std::path::Path;

use fwpkm::state_file::{Saved, load, save};
use fwpkm_reference::settings::{Border, Settings};
use fwpkm_reference::{Memory, Rules, Tables, Tokens};
use fwpkm_spec::{Data, Tensor, TensorFile, tensor_file};
use ndarray::{Array2, Array3};
use ndarray_rand::rand::{SeedableRng, rngs::StdRng};
use ndarray_rand::{RandomExt, rand_distr::StandardNormal};
use tempfile::TempDir;

fn settings(border: Border) -> Settings {
    Settings {
        heads: 2,
        sub_keys: 5,
        key_dim: 4,
        value_dim: 3,
        top_k: 2,
        chunk: 4,
        lookahead: 2,
        border,
        ..Settings::paper()
    }
}

/// Two sequences of 13 tokens, with gates and a mask: three whole chunks and one token.
struct Text {
    tables: Tables<f32>,
    queries: Array3<f32>,
    values: Array3<f32>,
    gates: Array2<f32>,
    mask: Array2<bool>,
}

const TOKENS: usize = 13;

impl Text {
    fn new(settings: &Settings) -> Self {
        let mut rng = StdRng::seed_from_u64(5);
        let tables = Tables::random(settings, &mut rng).unwrap();
        let queries = Array3::random_using((2, TOKENS, 8), StandardNormal, &mut rng);
        let values = Array3::random_using((2, TOKENS, 3), StandardNormal, &mut rng);
        let gates = Array2::from_shape_fn((2, TOKENS), |(b, t)| 0.1 + 0.03 * (b * TOKENS + t) as f32);
        let mask = Array2::from_shape_fn((2, TOKENS), |(b, t)| (b + t) % 5 != 0);
        Self { tables, queries, values, gates, mask }
    }

    fn tokens(&self, from: usize, to: usize) -> Tokens<'_, f32> {
        use ndarray::s;
        Tokens {
            queries: self.queries.slice(s![.., from..to, ..]),
            values: self.values.slice(s![.., from..to, ..]),
            gates: Some(self.gates.slice(s![.., from..to])),
            mask: Some(self.mask.slice(s![.., from..to])),
        }
    }
}

/// Stopped after every token in turn, with the queue at every length it can have.
#[test]
fn bat_5_a_memory_goes_on_from_its_file_with_the_same_bits() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("state.safetensors");
    for border in [Border::Drop, Border::Carry] {
        let settings = settings(border);
        let text = Text::new(&settings);
        let mut whole = Memory::new(settings.clone(), Rules::paper(), text.tables.clone()).unwrap();
        let expected = whole.feed(&text.tokens(0, TOKENS)).unwrap();
        whole.flush().unwrap();
        for stop in 0..=TOKENS {
            let mut memory = Memory::new(settings.clone(), Rules::paper(), text.tables.clone()).unwrap();
            memory.feed(&text.tokens(0, stop)).unwrap();
            let saved = Saved { state: memory.into_state(), tokens: stop };
            save(&path, &saved).unwrap();
            let loaded = load::<f32>(&path).unwrap();
            assert_eq!(loaded, saved);
            let mut memory = Memory::from_state(loaded.state).unwrap();
            let rest = memory.feed(&text.tokens(stop, TOKENS)).unwrap();
            assert_eq!(rest.reads, expected.reads.slice(ndarray::s![.., stop.., ..]));
            memory.flush().unwrap();
            assert_eq!(memory.into_state(), whole.clone().into_state(), "stopped after {stop}");
        }
    }
}

/// Writes a state file with another text, checksum or tensor than it should have.
fn altered(path: &Path, change: impl Fn(&mut BTreeMap<String, String>, &mut BTreeMap<String, Tensor>)) {
    let file = TensorFile::open(path).unwrap();
    let mut metadata = file.metadata().clone();
    let mut tensors: BTreeMap<String, Tensor> =
        file.names().map(|name| (name.to_string(), file.tensor(name).unwrap())).collect();
    change(&mut metadata, &mut tensors);
    let tensors: Vec<(&String, &Tensor)> = tensors.iter().collect();
    tensor_file::write(path, &metadata, &tensors).unwrap();
}

type Change = Box<dyn Fn(&mut BTreeMap<String, String>, &mut BTreeMap<String, Tensor>)>;

fn edit(from: &'static str, to: &'static str) -> Change {
    Box::new(move |metadata, _| {
        let text = metadata.get_mut("state").unwrap();
        assert!(text.contains(from), "{text}");
        *text = text.replace(from, to);
    })
}

#[test]
fn bat_5_files_of_another_kind_or_altered_ones_are_refused_by_name() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("state.safetensors");
    let settings = settings(Border::Carry);
    let text = Text::new(&settings);
    let changes: Vec<(Change, &str)> = vec![
        (edit("\"format\":1", "\"format\":2"), "a state of format 2; this program reads format 1"),
        (edit("\"spec\":\"", "\"spec\":\"9."), "a state of specification 9."),
        (edit("\"steps\":1", "\"steps\":2"), "the checksum does not fit"),
        (edit("\"top_k\":2", "\"top_k\":1"), "the checksum does not fit"),
        (edit("\"temperature\"", "\"warmth\""), "unknown field `warmth`"),
        (Box::new(|metadata, _| drop(metadata.remove("state"))), "not a state file"),
        (Box::new(|metadata, _| drop(metadata.remove("checksum"))), "not a state file"),
        (
            Box::new(|_, tensors| {
                let Some(Data::F32(numbers)) = tensors.get_mut("state.slot_values").map(|tensor| &mut tensor.data)
                else {
                    panic!("no slot values")
                };
                numbers[7] = f32::from_bits(numbers[7].to_bits() ^ 1);
            }),
            "the checksum does not fit",
        ),
        (Box::new(|_, tensors| drop(tensors.remove("state.queue.gates"))), "the checksum does not fit"),
        (Box::new(|_, tensors| drop(tensors.remove("state.sub_keys"))), "state.sub_keys"),
    ];
    for (change, words) in changes {
        let mut memory = Memory::new(settings.clone(), Rules::paper(), text.tables.clone()).unwrap();
        memory.feed(&text.tokens(0, 7)).unwrap();
        save(&path, &Saved { state: memory.into_state(), tokens: 7 }).unwrap();
        altered(&path, change);
        let error = load::<f32>(&path).unwrap_err().to_string();
        assert!(error.contains(words), "expected {words:?}: {error}");
    }
    let mut memory = Memory::new(settings, Rules::paper(), text.tables.clone()).unwrap();
    memory.feed(&text.tokens(0, 7)).unwrap();
    save(&path, &Saved { state: memory.into_state(), tokens: 7 }).unwrap();
    let error = load::<f64>(&path).unwrap_err().to_string();
    assert!(error.contains("a state of element type F32; this run computes in F64"), "{error}");
    let whole = std::fs::read(&path).unwrap();
    for length in [0, 7, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&path, &whole[..length]).unwrap();
        assert!(load::<f32>(&path).is_err(), "cut to {length} bytes");
    }
}

#[test]
fn bat_5_queued_tokens_that_cannot_have_been_queued_are_refused() {
    let settings = settings(Border::Drop);
    let text = Text::new(&settings);
    let state = || {
        let mut memory = Memory::new(settings.clone(), Rules::paper(), text.tables.clone()).unwrap();
        memory.feed(&text.tokens(0, 3)).unwrap();
        memory.into_state()
    };
    assert!(Memory::from_state(state()).is_ok());
    let mut due = state();
    due.settings.chunk = 3;
    assert!(Memory::from_state(due).unwrap_err().to_string().contains("queue has shape [3, 2, 8]"));
    let mut widths = state();
    widths.queued.as_mut().unwrap().values = Array3::zeros((3, 2, 4));
    assert!(Memory::from_state(widths).unwrap_err().to_string().contains("values has shape"));
    let mut gates = state();
    gates.queued.as_mut().unwrap().gates = Some(Array2::zeros((2, 2)));
    assert!(Memory::from_state(gates).is_err());
    let mut nan = state();
    nan.queued.as_mut().unwrap().queries[[0, 0, 0]] = f32::NAN;
    assert!(Memory::from_state(nan).unwrap_err().to_string().contains("not finite"));
}
