//! State files: going on gives the same bits, and what cannot be gone on from is refused.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

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

fn fwpkm(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_fwpkm")).args(arguments).output().unwrap()
}

fn release(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../spec/vectors/release").join(format!("{name}.safetensors"))
}

fn joined(parts: &[&Path], tensor: &str) -> Vec<u64> {
    let bits = |path: &&Path| TensorFile::open(path).unwrap().tensor(tensor).unwrap().data.to_f64();
    parts.iter().flat_map(bits).map(f64::to_bits).collect()
}

/// A layer and a bare memory, cut in the middle of a chunk (8 tokens) and at its border.
#[test]
fn run_saved_and_gone_on_gives_the_tables_of_one_run() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name);
    for (case, cut) in [("base", "13"), ("base", "16"), ("layer_base", "5")] {
        let case = release(case);
        let case = case.to_str().unwrap();
        let [whole, first, second, state] = ["whole", "first", "second", "state"].map(path);
        let names = [&whole, &first, &second, &state].map(|path| path.to_str().unwrap());
        let done = |output: Output| assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        done(fwpkm(&["run", case, "-o", names[0]]));
        done(fwpkm(&["run", case, "-o", names[1], "--until", cut, "--save", names[3]]));
        done(fwpkm(&["run", case, "-o", names[2], "--state", names[3], "--from", cut]));
        for tensor in ["out.slot_values", "out.sub_keys"] {
            assert_eq!(joined(&[&whole], tensor), joined(&[&second], tensor), "{case} at {cut}: {tensor}");
        }
        for tensor in ["out.reads", "out.weights", "out.indices", "out.mem_losses"] {
            assert_eq!(joined(&[&whole], tensor), joined(&[&first, &second], tensor), "{case} at {cut}: {tensor}");
        }
    }
}

#[test]
fn run_refuses_a_state_that_is_not_of_its_case() {
    let folder = TempDir::new().unwrap();
    let state = folder.path().join("state.safetensors");
    let state = state.to_str().unwrap();
    let base = release("base");
    assert!(fwpkm(&["run", base.to_str().unwrap(), "--until", "9", "--save", state]).status.success());
    for (case, words) in [
        ("topk1", "its setting top_k is 3, the case has 1"),
        ("learning_rate", "its setting learning_rate is 1.0, the case has 0.3"),
    ] {
        let output = fwpkm(&["run", release(case).to_str().unwrap(), "--state", state]);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(error.contains(words), "{error}");
    }
    let output = fwpkm(&["run", base.to_str().unwrap(), "--state", state, "--element", "f32"]);
    assert!(
        String::from_utf8(output.stderr).unwrap().contains("a state of element type F64; this run computes in F32")
    );
    let output = fwpkm(&["run", base.to_str().unwrap(), "--state", base.to_str().unwrap()]);
    assert!(String::from_utf8(output.stderr).unwrap().contains("not a state file"));
}

#[test]
fn run_that_cannot_save_leaves_the_previous_state() {
    let folder = TempDir::new().unwrap();
    let state = folder.path().join("state.safetensors");
    std::fs::write(&state, "previous").unwrap();
    let broken = folder.path().join("broken.safetensors");
    let file = TensorFile::open(release("base")).unwrap();
    let mut tensors: BTreeMap<String, Tensor> =
        file.names().map(|name| (name.to_string(), file.tensor(name).unwrap())).collect();
    let Data::F64(numbers) = &mut tensors.get_mut("in.values").unwrap().data else { panic!("not f64") };
    // Token 20 of 32: two chunks of 8 are done before it is met.
    numbers[20 * 6] = f64::NAN;
    tensor_file::write(&broken, file.metadata(), &tensors.iter().collect::<Vec<_>>()).unwrap();
    let output = fwpkm(&["run", broken.to_str().unwrap(), "--save", state.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("values[0, 20, 0] is NaN"));
    assert_eq!(std::fs::read_to_string(&state).unwrap(), "previous");
}

/// A bare memory of `tokens` tokens that takes a while.
fn long_case(path: &Path, tokens: usize) {
    let case = format!(
        r#"{{"batch":1,"tokens":{tokens},"n_subkeys":64,"d_k":64,"d_v":16,"heads":1,"topk":4,"chunk":64,"lookahead":1,
        "score":"idw","nonlinear":"softmax","temperature":1.0,"learning_rate":1.0,"weight_decay":0.0,
        "mem_grad_to_values_only":true,"grad_clip":false,"addr_loss":"me","addr_loss_weight":1.0,"mode":"one_shot",
        "rules":"paper"}}"#
    );
    let mut rng = StdRng::seed_from_u64(9);
    let mut tensor = |shape: &[usize]| {
        let numbers = ndarray::Array1::<f32>::random_using(shape.iter().product::<usize>(), StandardNormal, &mut rng);
        Tensor::new(shape, Data::F32(numbers.to_vec())).unwrap()
    };
    let tensors = [
        ("in.queries", tensor(&[1, tokens, 64])),
        ("in.values", tensor(&[1, tokens, 16])),
        ("in.sub_keys", tensor(&[1, 2, 64, 32])),
        ("in.slot_values", tensor(&[64 * 64, 16])),
    ];
    tensor_file::write(path, &BTreeMap::from([("case".to_string(), case)]), &tensors).unwrap();
}

/// Ctrl-C: status 130, the results and the state of the tokens done, and the rest gives the tables of one run.
#[cfg(unix)]
#[test]
fn run_stopped_by_ctrl_c_can_be_gone_on_with() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let (case, state, first, second, whole) =
        (path("case"), path("state"), path("first"), path("second"), path("whole"));
    let mut tokens = 20_000;
    let document = loop {
        long_case(Path::new(&case), tokens);
        let child = Command::new(env!("CARGO_BIN_EXE_fwpkm"))
            .args(["run", &case, "--save", &state, "-o", &first, "--json"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(300));
        Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
        let output = child.wait_with_output().unwrap();
        // A fast machine may be done before the signal; then the text is made longer.
        if output.status.code() == Some(130) {
            break serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap();
        }
        assert_eq!(output.status.code(), Some(0));
        tokens *= 4;
    };
    let reached = document["tokens"][1].as_u64().unwrap();
    assert!(reached > 0 && reached < tokens as u64);
    assert_eq!(TensorFile::open(&first).unwrap().shape("out.reads"), Some(&[1, reached as usize, 16][..]));
    let from = reached.to_string();
    assert!(fwpkm(&["run", &case, "--state", &state, "--from", &from, "-o", &second]).status.success());
    assert!(fwpkm(&["run", &case, "-o", &whole]).status.success());
    let [first, second, whole] = [&first, &second, &whole].map(Path::new);
    assert_eq!(joined(&[whole], "out.slot_values"), joined(&[second], "out.slot_values"));
    assert_eq!(joined(&[whole], "out.reads"), joined(&[first, second], "out.reads"));
}
