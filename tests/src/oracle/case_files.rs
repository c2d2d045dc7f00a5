//! Bytes as a case file: an error or a case, and what is read can be written, read again, and judged.
//!
//! An input is a file as it stands, a header without its length and the data after it, or a recorded run with some bytes
//! changed ([`super::recorded_run`]).

use std::time::{Duration, Instant};

use fwpkm_spec::tensor_file::to_bytes;
use fwpkm_spec::{CaseFile, Error, Tensor, TensorFile};

use super::bytes::Bytes;
use super::judge::Judge;
use super::recorded_run::RecordedRun;
use crate::verify::{CaseReport, Verdict, verify_file};

/// The name of the file in messages.
const NAME: &str = "case.safetensors";

/// The longest message of an error, in bytes; it may hold two texts of the file, each cut to 120 letters.
const LONGEST_MESSAGE: usize = 2000;

/// No file of a few thousand bytes takes longer, however slow the machine.
const LONGEST_TIME: Duration = Duration::from_secs(20);

/// A case file.
///
/// # Panics
/// Where reading or judging it takes long, gives an unreadable error, or loses something.
pub fn case_files(bytes: &[u8]) {
    let started = Instant::now();
    let mut input = Bytes::new(bytes);
    let file = match input.count(0, 2) {
        0 => input.rest().to_vec(),
        1 => with_length(&mut input),
        _ => RecordedRun::choose(&mut input).holds(&mut input),
    };
    let shown = String::from_utf8_lossy(&file).into_owned();
    let judge = Judge::new::<f64>(&shown);
    file_holds(&judge, &file);
    judge.claim("a bounded time", started.elapsed() < LONGEST_TIME, || format!("took {:?}", started.elapsed()));
}

/// The length of the header, the header, and the data
fn with_length(input: &mut Bytes) -> Vec<u8> {
    let length = usize::from(u16::from_le_bytes([input.byte(), input.byte()]));
    let rest = input.rest();
    let (header, data) = rest.split_at(length.min(rest.len()));
    [&(header.len() as u64).to_le_bytes(), header, data].concat()
}

fn file_holds(judge: &Judge, bytes: &[u8]) {
    let read = TensorFile::from_bytes(NAME, bytes).map(|file| (every_tensor(judge, &file, bytes), file));
    let read = read.and_then(|(tensors, file)| Ok((tensors, CaseFile::of_file(file)?)));
    match read {
        Err(error) => readable(judge, &error.to_string()),
        Ok((tensors, case)) => {
            let copy = tensors.map(|tensors| written_and_read(judge, &case, &tensors));
            judged(judge, &case, copy.as_ref());
        }
    }
}

fn readable(judge: &Judge, message: &str) {
    let readable = message.contains(NAME) && message.len() < LONGEST_MESSAGE && !message.contains(char::is_control);
    judge.claim("a readable error that names the file", readable, || format!("{message:?}"));
}

/// The tensors by name; none where some are of a type that is not read, or hold what their type does not allow
fn every_tensor(judge: &Judge, file: &TensorFile, bytes: &[u8]) -> Option<Vec<(String, Tensor)>> {
    let header =
        bytes.first_chunk().map_or(0, |length| usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX));
    let data = bytes.get(header.saturating_add(8)..).unwrap_or_default();
    let mut left = data.len();
    let mut tensors = Vec::new();
    let mut all = true;
    for name in file.names() {
        match file.tensor(name) {
            Ok(tensor) => {
                let count = tensor.shape.iter().fold(1_usize, |product, &length| product.saturating_mul(length));
                let found = tensor.data.to_bytes();
                let is_there = found.is_empty() || data.windows(found.len()).any(|bytes| bytes == found);
                let fits = is_there && count == tensor.data.len() && file.shape(name) == Some(&tensor.shape);
                judge.claim("a tensor of its shape, out of the data", fits, || format!("{name}: {tensor:?}"));
                left = left.wrapping_sub(found.len());
                tensors.push((name.to_string(), tensor));
            }
            Err(error) => {
                let known = matches!(error, Error::ElementType { .. } | Error::Format { .. });
                judge.claim("a tensor that is there", known, || error.to_string());
                readable(judge, &error.to_string());
                all = false;
            }
        }
    }
    judge.claim("tensors that are all the data", !all || left == 0, || format!("{left} bytes are of no tensor"));
    all.then_some(tensors)
}

/// The file of a case and its tensors, which holds the same, and of which another copy has the same bytes
fn written_and_read(judge: &Judge, case: &CaseFile, tensors: &[(String, Tensor)]) -> CaseFile {
    let copy = |case: &CaseFile| -> Result<Vec<u8>, String> {
        let metadata = case.case.metadata(case.source.as_deref()).map_err(|error| error.to_string())?;
        to_bytes(NAME, &metadata, tensors).map_err(|error| error.to_string())
    };
    let again = copy(case).and_then(|bytes| {
        let file = TensorFile::from_bytes(NAME, &bytes).and_then(CaseFile::of_file);
        Ok((file.map_err(|error| error.to_string())?, bytes))
    });
    let (again, bytes) = match again {
        Ok(again) => again,
        Err(error) => panic!("what was read cannot be written and read again: {error}\nof {judge:?}"),
    };
    let mut expected = case.case.clone();
    expected.unknown.clear();
    let same = (&again.case, &again.source) == (&expected, &case.source);
    judge.claim("the same case", same, || format!("{:?}\nnot {:?}", again.case, case.case));
    for (name, tensor) in tensors {
        let found = again.file.tensor(name);
        let bits = |tensor: &Tensor| (tensor.shape.clone(), tensor.data.element_type(), tensor.data.to_bytes());
        let same = found.as_ref().is_ok_and(|found| bits(found) == bits(tensor));
        judge.claim("the same tensors", same, || format!("{name}: {found:?}\nnot {tensor:?}"));
    }
    let once_more = copy(&again);
    judge.claim("the same bytes", once_more.as_ref() == Ok(&bytes), || "another copy has other bytes".into());
    again
}

/// The verdict on the case, and the same on its copy
fn judged(judge: &Judge, case: &CaseFile, copy: Option<&CaseFile>) {
    let report = verify_file(case, None);
    let conforms = !report.tensors.is_empty() && report.tensors.iter().all(|tensor| tensor.conforms);
    let explained = match report.verdict {
        Verdict::Conforms => conforms,
        Verdict::Differs => !conforms && report.tensors.iter().all(|tensor| tensor.conforms || tensor.at.is_some()),
        Verdict::Error => report.error.as_ref().is_some_and(|error| !error.contains(char::is_control)),
    };
    judge.claim("a verdict with its reason", explained, || format!("{report:?}"));
    let errors = |report: &CaseReport| report.tensors.iter().map(|tensor| tensor.error.to_bits()).collect::<Vec<_>>();
    if let Some(of_copy) = copy.map(|copy| verify_file(copy, None)) {
        let same = of_copy.verdict == report.verdict && errors(&of_copy) == errors(&report);
        judge.claim("the same verdict on a copy", same, || format!("{of_copy:?}\nnot {report:?}"));
    }
}
