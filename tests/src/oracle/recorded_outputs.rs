//! A folder of recorded outputs, whatever is wrong with it: every vector gets one verdict or one error that can be read, and what
//! is wrong with one reaches no other.

use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use fwpkm_spec::tensor_file::to_bytes;
use fwpkm_spec::{Data, Tensor};

use super::bytes::{Bytes, Range};
use super::judge::Judge;
use crate::implementation::Implementation;
use crate::judge::{Declaration, Distance, Verdict};
use crate::judging::{recorded, report};
use crate::numbers::Numbers;
use crate::recording::{DECLARATION, Recording};
use crate::report::Report;
use crate::run::Outputs;
use crate::vectors::collection::{FOLDER, Vector, vector};

/// One step, several steps, and a layer.
const VECTORS: [&str; 3] = ["paper/chk_2_same_tables", "paper/str_3_carry", "both/out_1_no_gate"];

/// No folder of a few files takes longer, however slow the machine.
const LONGEST_TIME: Duration = Duration::from_secs(20);

/// What f32 outputs of the vectors should be.
struct Sound {
    vectors: Vec<Vector>,
    outputs: Vec<Outputs>,
}

fn sound() -> &'static Sound {
    static SOUND: OnceLock<Sound> = OnceLock::new();
    SOUND.get_or_init(|| {
        let read = |name: &&str| {
            let path = Path::new(FOLDER).join(name).with_extension("safetensors");
            vector(Path::new(FOLDER), &path).unwrap_or_else(|error| panic!("{name}: {error}"))
        };
        let vectors: Vec<Vector> = VECTORS.iter().map(read).collect();
        let run = |vector: &Vector| Implementation::specification().run(&vector.problem, Numbers::F32);
        let outputs = vectors.iter().map(|vector| run(vector).unwrap_or_else(|error| panic!("{error}"))).collect();
        Sound { vectors, outputs }
    })
}

/// A folder of recorded outputs.
///
/// # Panics
/// Where judging it takes long, gives an unreadable error, or a verdict that is not the one expected; and without a place for
/// temporary files.
pub fn recorded_outputs(bytes: &[u8]) {
    let started = Instant::now();
    let mut input = Bytes::new(bytes);
    let sound = sound();
    let folder = tempfile::tempdir().expect("a temporary folder");
    for group in ["paper", "both"] {
        std::fs::create_dir(folder.path().join(group)).expect("a temporary folder");
    }
    let what = sound.outputs.iter().map(|outputs| recording(&mut input, outputs)).collect::<Vec<_>>();
    let judge = Judge::new::<f32>(&what);
    for (vector, recorded) in sound.vectors.iter().zip(&what) {
        let path = folder.path().join(&vector.name).with_extension("safetensors");
        if let Some(file) = &recorded.file {
            std::fs::write(&path, file).expect("a temporary file");
        }
    }
    let declaration = declaration(&mut input);
    if let Some(text) = &declaration {
        std::fs::write(folder.path().join(DECLARATION), text).expect("a temporary file");
    }
    match Recording::open(folder.path()) {
        Ok(recording) => {
            let declared = Declaration { numbers: Numbers::F32, distance: Distance::Direct };
            let report = report_of(&recording, sound, declared);
            verdicts_hold(&judge, &report, &what);
            let json = serde_json::to_string(&report).map_err(|error| error.to_string());
            judge.claim("a report as JSON", json.is_ok(), || format!("{json:?}"));
            // What a folder says of itself changes bounds, not whether its files are judged.
            if declaration.is_some() {
                let again = report_of(&recording, sound, recording.declared(&VECTORS));
                judge.claim("every vector once", accounted(&again) == VECTORS.len(), || format!("{again:?}"));
            }
        }
        Err(error) => {
            judge.claim("a folder without fault", declaration.is_some(), || error.to_string());
            readable(&judge, &error.to_string());
        }
    }
    judge.claim("a bounded time", started.elapsed() < LONGEST_TIME, || format!("took {:?}", started.elapsed()));
}

fn report_of(recording: &Recording, sound: &Sound, declared: Declaration) -> Report {
    report("fuzzed", declared, &sound.vectors, &recorded(recording), false, &AtomicBool::new(false), &|| ())
}

fn accounted(report: &Report) -> usize {
    report.cases.len() + report.errors.len() + report.not_recorded.len()
}

/// What became of the outputs of one vector before they were written.
#[derive(Debug)]
struct Recorded {
    /// The bytes of its file; none: no file.
    file: Option<Vec<u8>>,
    /// What must be said of it; none where anything may.
    expected: Option<Expected>,
    /// How it was made.
    #[allow(dead_code, reason = "shown where a claim fails")]
    change: String,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Expected {
    Verdict(Verdict),
    NoFile,
    Error,
}

/// Outputs as they are, or changed; or any bytes.
fn recording(input: &mut Bytes, outputs: &Outputs) -> Recorded {
    let mut changed = outputs.clone();
    let metadata = |version: &str| [("spec".to_string(), version.to_string())].into();
    let written = |outputs: &Outputs, version: &str| {
        let tensors: Vec<(&String, &Tensor)> = outputs.iter().collect();
        to_bytes("outputs", &metadata(version), &tensors).ok()
    };
    let version = fwpkm_spec::version();
    let names: Vec<String> = outputs.keys().cloned().collect();
    let name = names[usize::from(input.byte()) % names.len()].clone();
    let made =
        |file: Option<Vec<u8>>, expected, change: &str| Recorded { file, expected, change: format!("{change} {name}") };
    let differs = Some(Expected::Verdict(Verdict::Differs));
    match input.count(0, 10) {
        0 => made(written(&changed, version), Some(Expected::Verdict(Verdict::Conforms)), "unchanged"),
        1 => made(None, Some(Expected::NoFile), "no file"),
        2 => {
            changed.remove(&name);
            made(written(&changed, version), Some(Expected::Verdict(Verdict::Conforms)), "without")
        }
        3 => {
            let count = input.count(1, 4);
            changed.insert(format!("out.{}", "x".repeat(count)), Tensor { shape: vec![], data: Data::I64(vec![1]) });
            made(written(&changed, version), Some(Expected::Verdict(Verdict::Conforms)), "one more than")
        }
        4 => {
            reshape(input, &mut changed, &name);
            let same = changed == *outputs;
            made(written(&changed, version), differs.filter(|_| !same), "another shape of")
        }
        5 => {
            if let Some(tensor) = changed.get_mut(&name) {
                tensor.data = Data::U8(vec![input.byte(); tensor.data.len()]);
            }
            made(written(&changed, version), differs, "another type of")
        }
        6 => {
            let wide = number(input, &mut changed, &name, Range::Any);
            made(written(&changed, version), differs.filter(|_| wide), "a number that is not finite in")
        }
        7 => {
            number(input, &mut changed, &name, Range::Wide);
            made(written(&changed, version), None, "another number in")
        }
        8 => made(written(&changed, "0.0"), Some(Expected::Error), "another version of the specification with"),
        9 => {
            let mut file = written(&changed, version).unwrap_or_default();
            for _ in 0..input.count(1, 8) {
                let at = usize::from(u16::from_le_bytes([input.byte(), input.byte()])) % file.len();
                file[at] = input.byte();
            }
            made(Some(file), None, "changed bytes of the file with")
        }
        _ => {
            let length = input.count(0, 255);
            let file: Vec<u8> = (0..length).map(|_| input.byte()).collect();
            made(Some(file), Some(Expected::Error), "any bytes, not")
        }
    }
}

/// One dimension longer or shorter, or one more; the data with it.
fn reshape(input: &mut Bytes, outputs: &mut Outputs, name: &str) {
    let Some(tensor) = outputs.get_mut(name) else { return };
    let kind = tensor.data.element_type();
    if input.flag() || tensor.shape.is_empty() {
        tensor.shape.push(input.count(0, 2));
    } else {
        let axis = input.count(0, tensor.shape.len() - 1);
        tensor.shape[axis] = (tensor.shape[axis] + input.count(0, 2)).saturating_sub(1);
    }
    tensor.data = Data::zeros(kind, tensor.shape.iter().product());
}

/// Puts a number into a real tensor; whether it is one that is not finite.
fn number(input: &mut Bytes, outputs: &mut Outputs, name: &str, range: Range) -> bool {
    let Some(tensor) = outputs.get_mut(name) else { return false };
    let (at, wanted) = (usize::from(input.byte()), input.number(range));
    match &mut tensor.data {
        Data::F32(numbers) if !numbers.is_empty() => {
            let at = at % numbers.len();
            numbers[at] = wanted as f32;
            !numbers[at].is_finite()
        }
        Data::I64(numbers) if !numbers.is_empty() => {
            let at = at % numbers.len();
            numbers[at] = wanted as i64;
            false
        }
        _ => false,
    }
}

/// None, one of the kinds that are read, or any text.
fn declaration(input: &mut Bytes) -> Option<String> {
    match input.count(0, 5) {
        0..3 => None,
        3 => {
            let numbers = input.one_of(&Numbers::ALL).name();
            let distance = input.one_of(&["direct", "expanded"]);
            Some(format!("{{\"name\": \"x\", \"numbers\": \"{numbers}\", \"distance\": \"{distance}\"}}"))
        }
        4 => Some(format!("{{\"spec\": \"{}\"}}", input.count(0, 9))),
        _ => Some(String::from_utf8_lossy(input.rest()).into_owned()),
    }
}

/// Every vector is what its file says, and appears once.
fn verdicts_hold(judge: &Judge, report: &Report, what: &[Recorded]) {
    judge.claim("every vector once", accounted(report) == what.len(), || format!("{report:?}"));
    for (name, recorded) in VECTORS.iter().zip(what) {
        let case = report.cases.iter().find(|case| case.case == *name);
        let error = report.errors.get(*name);
        if let Some(error) = error {
            readable(judge, error);
        }
        let found = match (case, error) {
            (Some(case), _) => Expected::Verdict(case.verdict()),
            (None, Some(_)) => Expected::Error,
            (None, None) => Expected::NoFile,
        };
        let holds = recorded.expected.is_none_or(|expected| expected == found);
        judge.claim("the verdict of its own file", holds, || format!("{name}: {found:?}, {case:?} {error:?}"));
        let of_differing = |case: &crate::judge::Judgement| {
            case.findings().all(|check| check.reason.is_some() || check.expected.is_some() && check.actual.is_some())
        };
        judge.claim("findings with their reason", case.is_none_or(of_differing), || format!("{case:?}"));
    }
}

fn readable(judge: &Judge, message: &str) {
    let readable = !message.is_empty() && message.len() < 2000 && !message.contains(char::is_control);
    judge.claim("a readable error", readable, || format!("{message:?}"));
}
