//! `fwpkm judge` and `fwpkm identify`: folders of recorded outputs, sound, wrong and hostile.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use fwpkm::deviation;
use fwpkm::implementation::Implementation;
use fwpkm::judge::{Declaration, Distance};
use fwpkm::judging::{built_in, report};
use fwpkm::numbers::Numbers;
use fwpkm::run::Outputs;
use fwpkm::vectors::collection::{FOLDER, Vector, vectors};
use fwpkm_spec::{Data, Tensor, tensor_file};
use serde_json::Value;
use tempfile::TempDir;

use super::{fwpkm, status, stderr, stdout};

fn recorded_vectors() -> Vec<Vector> {
    let mut all = vectors(Path::new(FOLDER)).unwrap();
    all.retain(|vector| vector.name.starts_with("paper/mem") || vector.name.starts_with("both/sel"));
    all
}

/// Outputs of an implementation in f32, one file per vector.
fn record(implementation: &Implementation) -> TempDir {
    let folder = TempDir::new().unwrap();
    for vector in recorded_vectors() {
        let outputs = implementation.run(&vector.problem, Numbers::F32).unwrap();
        write(folder.path(), &vector.name, &outputs);
    }
    folder
}

fn write(folder: &Path, name: &str, outputs: &Outputs) {
    let path = folder.join(name).with_extension("safetensors");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let tensors: Vec<(&String, &Tensor)> = outputs.iter().collect();
    tensor_file::write(&path, &[].into(), &tensors).unwrap();
}

/// Runs the command on a folder; its status and its JSON document.
fn judged(job: &str, folder: &Path) -> (i32, Value) {
    let output = fwpkm(&[job.as_ref(), folder.as_os_str(), "--json".as_ref()]);
    let document: Value = serde_json::from_str(&stdout(&output)).unwrap_or_else(|_| panic!("{}", stderr(&output)));
    valid(fwpkm_spec::REPORT_SCHEMA, &document);
    (status(&output), document["reports"][0].clone())
}

/// Fails with every place where a document is not as its schema says.
fn valid(schema: &str, document: &Value) {
    let validator = jsonschema::validator_for(&serde_json::from_str(schema).unwrap()).unwrap();
    let wrong: Vec<String> =
        validator.iter_errors(document).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn documents_are_as_their_schemas_say() {
    let wrong = deviation::all().iter().find(|deviation| deviation.name == "mem-4-sum-instead-of-division").unwrap();
    let (status, report) = judged("identify", record(&Implementation::deviating(wrong)).path());
    assert_eq!(status, 1);
    assert_eq!(report["identification"]["consistent_with"][0]["deviations"][0], wrong.name);
    let output = fwpkm(&["check", "--json", "--case", "paper/mem_4_heads_and_sequences"]);
    valid(fwpkm_spec::REPORT_SCHEMA, &serde_json::from_str(&stdout(&output)).unwrap());
    let folder = TempDir::new().unwrap();
    let exported = folder.path().join("exported");
    assert_eq!(super::status(&fwpkm(&["vectors".as_ref(), "export".as_ref(), exported.as_os_str()])), 0);
    let index = std::fs::read_to_string(exported.join("index.json")).unwrap();
    valid(fwpkm_spec::INDEX_SCHEMA, &serde_json::from_str(&index).unwrap());
}

/// What the schema of a declaration allows is read, and nothing else.
#[test]
fn schema_and_reader_agree_on_declarations() {
    let folder = TempDir::new().unwrap();
    let schema = serde_json::from_str(fwpkm_spec::DECLARATION_SCHEMA).unwrap();
    let version = serde_json::to_string(fwpkm_spec::version()).unwrap();
    let (mut good, mut bad) = (0, 0);
    for key in ["name", "spec", "numbers", "distance", "colour"] {
        for value in ["null", "1", "[]", "{}", "true", "\"f32\"", "\"bf16\"", "\"F32\"", "\"expanded\"", &version] {
            let text = format!("{{\"{key}\": {value}}}");
            std::fs::write(folder.path().join("declaration.json"), &text).unwrap();
            let document: Value = serde_json::from_str(&text).unwrap();
            // That it is this version is not for the schema to say.
            let other_version = key == "spec" && document[key].is_string() && value != version;
            let valid = jsonschema::is_valid(&schema, &document) && !other_version;
            assert_eq!(fwpkm::recording::Recording::open(folder.path()).is_ok(), valid, "{text}");
            *(if valid { &mut good } else { &mut bad }) += 1;
        }
    }
    assert!(good >= 10 && bad >= 20, "{good} {bad}");
}

#[test]
fn judge_of_the_specification_conforms() {
    let folder = record(&Implementation::specification());
    let (status, report) = judged("judge", folder.path());
    assert_eq!((status, report["cases"].as_array().unwrap().len()), (0, recorded_vectors().len()));
    assert_eq!(report["not_recorded"].as_array().unwrap().len() + recorded_vectors().len(), 240);
}

#[test]
fn judge_says_clause_requirement_numbers_and_what_is_computed_instead() {
    let wrong = deviation::all().iter().find(|deviation| deviation.name == "sel-3-slot-transposed").unwrap();
    let folder = record(&Implementation::deviating(wrong));
    let output = fwpkm(&["judge".as_ref(), folder.path().as_os_str()]);
    let text = stdout(&output);
    assert_eq!(super::status(&output), 1, "{text}");
    for part in ["SEL-3", "requires", "expected", "actual", "rerun", "consistent with", wrong.name, wrong.instead] {
        assert!(text.contains(part), "no {part} in\n{text}");
    }
    let rerun = text.lines().find_map(|line| line.trim().strip_prefix("rerun     fwpkm ")).unwrap();
    let words: Vec<&str> = rerun.split(' ').collect();
    assert_eq!(super::status(&fwpkm(&words)), 1, "{rerun}");
    let output = fwpkm(&["identify".as_ref(), folder.path().as_os_str()]);
    assert_eq!(super::status(&output), 1);
    assert!(stdout(&output).contains(wrong.name), "{}", stdout(&output));
}

#[test]
fn judge_names_what_is_wrong_with_a_file_and_judges_the_rest() {
    let folder = record(&Implementation::specification());
    let names: Vec<String> = recorded_vectors().into_iter().map(|vector| vector.name).collect();
    let path = |number: usize| folder.path().join(&names[number]).with_extension("safetensors");
    std::fs::write(path(0), [255; 40]).unwrap();
    std::fs::remove_file(path(1)).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", path(1)).unwrap();
    std::fs::remove_file(path(2)).unwrap();
    let mut outputs = Implementation::specification().run(&recorded_vectors()[3].problem, Numbers::F32).unwrap();
    let reads = outputs.get_mut("out.reads").unwrap();
    reads.data = Data::F32(vec![f32::NAN; reads.data.len()]);
    outputs.insert("out.\u{1b}[31mred".into(), Tensor { shape: vec![], data: Data::I64(vec![1]) });
    write(folder.path(), &names[3], &outputs);
    let output = fwpkm(&["judge".as_ref(), folder.path().as_os_str()]);
    let text = stdout(&output);
    assert_eq!(super::status(&output), 2, "{text}");
    for part in [&names[0], &names[1], "a link that leads out of the folder", "is not finite", "2 could not be judged"]
    {
        assert!(text.contains(part), "no {part} in\n{text}");
    }
    assert!(text.contains("red") && !text.contains('\u{1b}'), "{text}");
    let (_, report) = judged("judge", folder.path());
    let count =
        |part: &str| report[part].as_array().map_or(report[part].as_object().map_or(0, serde_json::Map::len), Vec::len);
    assert_eq!((count("errors"), count("cases")), (2, names.len() - 3));
}

#[test]
fn judge_refuses_a_folder_without_outputs_and_a_declaration_it_cannot_read() {
    let folder = TempDir::new().unwrap();
    let output = fwpkm(&["judge".as_ref(), folder.path().as_os_str()]);
    assert_eq!(super::status(&output), 2);
    assert!(stderr(&output).contains("the first is expected at"), "{}", stderr(&output));
    for (declaration, said) in [
        ("{\"numbers\": \"f8\"}", "f8"),
        ("{\"spec\": \"0.0.0\"}", "made for specification 0.0.0"),
        ("{\"colour\": 1}", "colour"),
        ("{", "EOF"),
    ] {
        std::fs::write(folder.path().join("declaration.json"), declaration).unwrap();
        let output = fwpkm(&["judge".as_ref(), folder.path().as_os_str()]);
        assert_eq!(super::status(&output), 2, "{declaration}");
        assert!(stderr(&output).contains(said), "{declaration}: {}", stderr(&output));
    }
}

// What Ctrl-C does: it sets this flag (`run_stopped_by_ctrl_c_can_be_gone_on_with` sends the signal itself).
#[test]
fn a_stopped_report_holds_what_was_judged() {
    let declared = Declaration { numbers: Numbers::F32, distance: Distance::Direct };
    let (stop, done) = (AtomicBool::new(false), AtomicUsize::new(0));
    let implementation = Implementation::specification();
    let stop_after_three = || {
        if done.fetch_add(1, Ordering::SeqCst) == 2 {
            stop.store(true, Ordering::SeqCst);
        }
    };
    let vectors = recorded_vectors();
    let report = report("x", declared, &vectors, &built_in(&implementation, declared), true, &stop, &stop_after_three);
    assert!(report.stopped && report.cases.len() >= 3 && report.cases.len() < vectors.len());
    let document: Value = serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap();
    assert_eq!(document["stopped"], true);
    assert_eq!(document["cases"].as_array().unwrap().len(), report.cases.len());
}
