//! `fwpkm run` stopped and gone on with.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use fwpkm_spec::{Data, Tensor, TensorFile, tensor_file};
use ndarray_rand::rand::{SeedableRng, rngs::StdRng};
use ndarray_rand::{RandomExt, rand_distr::StandardNormal};
use tempfile::TempDir;

fn fwpkm(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_fwpkm")).args(arguments).output().unwrap()
}

fn release(name: &str) -> PathBuf {
    vector(&format!("release/{name}"))
}

fn vector(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../spec/vectors").join(format!("{name}.safetensors"))
}

fn joined(parts: &[&Path], tensor: &str) -> Vec<u64> {
    let bits = |path: &&Path| TensorFile::open(path).unwrap().tensor(tensor).unwrap().data.to_f64();
    parts.iter().flat_map(bits).map(f64::to_bits).collect()
}

/// A layer and a bare memory, cut in the middle of a chunk (8 tokens) and at its border; texts with operations between their calls,
/// cut where they come and elsewhere.
#[test]
fn run_saved_and_gone_on_gives_the_tables_of_one_run() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (flushed, resets) = ("certified/paper/str_4_flush_between_carry", "certified/release/bat_2_resets_moving");
    let operated = [(flushed, "7"), (flushed, "9"), (resets, "8"), (resets, "10"), (resets, "14"), (resets, "0")];
    let plain = [("release/base", "13"), ("release/base", "16"), ("release/layer_base", "5")];
    for (case, cut) in plain.into_iter().chain(operated) {
        let case = vector(case);
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
