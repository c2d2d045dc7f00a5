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

use super::{fwpkm, status, stderr, stdout, valid};

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
    assert_eq!(report["not_recorded"].as_array().unwrap().len() + recorded_vectors().len(), 278);
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
        ("[]", "expected one JSON object"),
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

/// The first vectors, as a port might record them.
fn recorded_as(folder: &Path, change: impl Fn(&mut Outputs)) {
    for vector in recorded_vectors() {
        let mut outputs = Implementation::specification().run(&vector.problem, Numbers::F32).unwrap();
        outputs.retain(|name, _| name.starts_with("out."));
        change(&mut outputs);
        write(folder, &vector.name, &outputs);
    }
}

fn as_type(tensor: &mut Tensor, numbers: Numbers) {
    let wide = tensor.data.to_f64();
    tensor.data = match numbers {
        Numbers::F64 => Data::F64(wide),
        Numbers::F32 => Data::F32(wide.into_iter().map(|x| x as f32).collect()),
        Numbers::Bf16 => Data::Bf16(wide.into_iter().map(half::bf16::from_f64).collect()),
        Numbers::F16 => Data::F16(wide.into_iter().map(half::f16::from_f64).collect()),
    };
}

/// Numbers are those of the reads; of several types, the report says which was taken.
#[test]
fn judge_takes_the_type_of_the_reads() {
    let real = |tensor: &Tensor| !matches!(tensor.data, Data::I64(_));
    let losses = ["out.addr_loss_mean", "out.mem_losses"];
    for (reads, rest, taken) in [
        (
            Some(Numbers::F32),
            Numbers::F64,
            "judged as f32, the type of out.reads; there are also f64 (out.addr_loss_mean)",
        ),
        (
            Some(Numbers::F16),
            Numbers::F32,
            "judged as f16, the type of out.reads; there are also f32 (out.addr_loss_mean)",
        ),
        (
            None,
            Numbers::F64,
            "judged as f32, the narrowest type of any tensor; there are also f64 (out.addr_loss_mean)",
        ),
    ] {
        let folder = TempDir::new().unwrap();
        let kept = reads.unwrap_or(Numbers::F32);
        for vector in recorded_vectors() {
            let mut outputs = Implementation::specification().run(&vector.problem, kept).unwrap();
            outputs.retain(|name, _| name.starts_with("out.") && (reads.is_some() || name != "out.reads"));
            for (name, tensor) in outputs.iter_mut().filter(|(_, tensor)| real(tensor)) {
                as_type(tensor, if losses.contains(&name.as_str()) { rest } else { kept });
            }
            write(folder.path(), &vector.name, &outputs);
        }
        let (status, report) = judged("judge", folder.path());
        assert_eq!((status, &report["declared"]["numbers"]), (0, &Value::from(kept.name())), "{reads:?}");
        assert!(report["taken_from"].as_str().unwrap().starts_with(taken), "{}", report["taken_from"]);
        let output = fwpkm(&["judge".as_ref(), folder.path().as_os_str()]);
        assert!(stdout(&output).contains(taken), "{}", stdout(&output));
        let numbers: [&std::ffi::OsStr; 2] = ["--numbers".as_ref(), kept.name().as_ref()];
        let output = fwpkm(&["judge".as_ref(), folder.path().as_os_str(), numbers[0], numbers[1]]);
        assert!(!stdout(&output).contains("there are also"), "{}", stdout(&output));
    }
}

#[test]
fn judge_says_what_was_not_recorded() {
    let folder = TempDir::new().unwrap();
    recorded_as(folder.path(), |outputs| outputs.retain(|name, _| name == "out.reads"));
    let judge = |more: &[&str]| {
        let mut arguments = vec!["judge", folder.path().to_str().unwrap()];
        arguments.extend(more);
        fwpkm(&arguments)
    };
    let output = judge(&[]);
    let (text, count) = (stdout(&output), recorded_vectors().len());
    assert_eq!(super::status(&output), 0, "{text}");
    assert!(text.contains(&format!("out.slot_values ({count} vectors)")), "{text}");
    let line = |clause: &str| text.lines().find(|line| line.starts_with(clause)).unwrap().to_string();
    assert!(line("MEM-5").ends_with("nothing recorded") && line("RD-1").ends_with("nothing recorded"), "{text}");
    assert!(line("RD-3").contains(&format!(" {count} ")), "{text}");
    assert!(line("NUM-8").ends_with("no vector"), "{text}");
    assert_eq!(super::status(&judge(&["--require", "all"])), 1);
    // One vector with every result is complete, although no stage is recorded.
    recorded_as(folder.path(), |_| ());
    let case = recorded_vectors()[0].name.clone();
    assert_eq!(super::status(&judge(&["--require", "all", "--case", &case])), 0);
    assert_eq!(super::status(&judge(&["--require", "all"])), 1);
}

#[test]
fn judge_says_once_that_names_are_without_out() {
    let folder = TempDir::new().unwrap();
    recorded_as(folder.path(), |outputs| {
        *outputs = std::mem::take(outputs).into_iter().map(|(name, it)| (name[4..].to_string(), it)).collect();
    });
    let output = fwpkm(&["judge".as_ref(), folder.path().as_os_str()]);
    let text = stdout(&output);
    assert_eq!(super::status(&output), 2, "{text}");
    assert!(text.matches("none of the results").count() <= 2, "{text}");
    assert!(
        text.contains(" vectors: none of the results that the case asks for is there: expected out.reads, "),
        "{text}"
    );
    assert!(text.contains("; found addr_loss_mean, "), "{text}");
    assert!(!text.contains("tests of this project"), "{text}");
}

/// Names that nothing knows are told, beside those that are judged.
#[test]
fn judge_names_tensors_without_a_prefix() {
    let folder = TempDir::new().unwrap();
    recorded_as(folder.path(), |outputs| {
        let reads = outputs["out.reads"].clone();
        outputs.insert("reads".into(), reads);
    });
    let output = fwpkm(&["judge".as_ref(), folder.path().as_os_str()]);
    assert!(stdout(&output).contains("Tensors that no clause names, not judged: reads\n"), "{}", stdout(&output));
}

#[test]
fn judge_says_what_to_do_where_nothing_is_known() {
    let folder = TempDir::new().unwrap();
    recorded_as(folder.path(), |outputs| {
        let Data::F32(reads) = &mut outputs.get_mut("out.reads").unwrap().data else { panic!("not F32") };
        reads.fill(7.0);
    });
    for job in ["judge", "identify"] {
        let output = fwpkm(&[job.as_ref(), folder.path().as_os_str()]);
        let text = stdout(&output);
        for part in ["no known deviation", "next: RD-3", "trace.select.*"] {
            assert!(text.contains(part), "no {part} in\n{text}");
        }
    }
}

/// All equations of the clause, and no bound where none is allowed.
#[test]
fn judge_shows_the_equations_that_are_required() {
    let wrong = deviation::named("sel-3-slot-transposed").unwrap();
    let text = stdout(&fwpkm(&["judge".as_ref(), record(&Implementation::deviating(wrong)).path().as_os_str()]));
    assert!(text.contains("requires") && !text.contains("± 0") && !text.contains("factor of inf"), "{text}");
    let wrong = deviation::named("mem-4-sum-instead-of-division").unwrap();
    let text = stdout(&fwpkm(&["judge".as_ref(), record(&Implementation::deviating(wrong)).path().as_os_str()]));
    for part in ["G_i = F / max(N_i, 1)", "F   = read_factor · pair_factor", "MEM-4"] {
        assert!(text.contains(part), "no {part} in\n{text}");
    }
}

/// What goes wrong in a step stands before what follows from it in later reads.
#[test]
fn causes_stand_before_consequences() {
    let wrong = deviation::named("mem-4-sum-instead-of-division").unwrap();
    let folder = TempDir::new().unwrap();
    for vector in vectors(Path::new(FOLDER)).unwrap() {
        let mut outputs = Implementation::deviating(wrong).run(&vector.problem, Numbers::F32).unwrap();
        outputs.retain(|name, _| name.starts_with("out."));
        write(folder.path(), &vector.name, &outputs);
    }
    let text = stdout(&fwpkm(&["judge".as_ref(), folder.path().as_os_str()]));
    let first = text.lines().find(|line| line.contains(" differs in ")).unwrap();
    assert!(first.starts_with("MEM-"), "{text}");
    let replayed = text.lines().filter(|line| line.contains(" differs in ")).position(|line| line.starts_with("RD-3"));
    assert!(replayed.is_none_or(|place| place > 0), "{text}");
}

#[test]
fn rerun_is_the_same_command() {
    let folder = record(&Implementation::deviating(deviation::named("sel-3-slot-transposed").unwrap()));
    let spaced = folder.path().join("my port's outputs");
    std::fs::create_dir(&spaced).unwrap();
    for group in ["paper", "both"] {
        std::fs::rename(folder.path().join(group), spaced.join(group)).unwrap();
    }
    let options = ["--numbers", "f32", "--distance", "expanded", "--vectors", FOLDER];
    let mut arguments: Vec<&str> = vec!["judge", spaced.to_str().unwrap()];
    arguments.extend(options);
    let text = stdout(&fwpkm(&arguments));
    let rerun = text.lines().find_map(|line| line.trim().strip_prefix("rerun     fwpkm ")).unwrap();
    for option in ["--numbers f32", "--distance expanded", "--vectors "] {
        assert!(rerun.contains(option), "{rerun}");
    }
    let script = format!("\"$FWPKM\" {rerun}");
    let shell =
        std::process::Command::new("sh").args(["-c", &script]).env("FWPKM", env!("CARGO_BIN_EXE_fwpkm")).output();
    let shell = shell.unwrap();
    assert_eq!(super::status(&shell), 1, "{rerun}: {}", stderr(&shell));
}
