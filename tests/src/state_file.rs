//! The state of a memory in a file, to be gone on from with the same bits.                    BAT-5
//!
//! A safetensors file of `state.sub_keys`, `state.slot_values` and, where tokens are queued, `state.queue.queries`,
//! `.values`, `.gates` and `.mask`. Its metadata hold `state`, a JSON object (format, spec, element, steps, tokens, settings,
//! rules), and `checksum`, the BLAKE3 hash of that text and of all tensors.

use std::collections::BTreeMap;
use std::path::Path;

use fwpkm_reference::stream::Queued;
use fwpkm_reference::{State, Tables};
use fwpkm_spec::{Data, TensorFile, listed};
use ndarray::{Array, ArrayD, ArrayView, Dimension};
use serde::{Deserialize, Serialize};

use crate::element::Element;
use crate::error::{Error, Result};
use crate::settings_file::{RulesFile, SettingsFile};
use crate::store::{FileStore, add};

/// The format of the file, counted up with every change of it.
const FORMAT: u32 = 1;

/// Elements read at a time.
const BLOCK: usize = 1 << 18;

/// The text `state` of the metadata.
#[derive(Debug, Deserialize, Serialize)]
struct Header {
    format: u32,
    spec: String,
    element: String,
    steps: usize,
    tokens: usize,
    settings: SettingsFile,
    rules: RulesFile,
}

/// A state with the number of tokens of the text that led to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Saved<S> {
    /// The state.
    pub state: State<S>,
    /// Tokens of the text fed so far.
    pub tokens: usize,
}

/// Writes a state; an existing file stays as it was until the new one is complete.
///
/// # Errors   what the system refuses
pub fn save<S: Element>(path: &Path, saved: &Saved<S>) -> Result<()> {
    let State { settings, rules, tables, queued, steps } = &saved.state;
    let header = Header {
        format: FORMAT,
        spec: fwpkm_spec::version().to_string(),
        element: S::TYPE.name().to_string(),
        steps: *steps,
        tokens: saved.tokens,
        settings: settings.into(),
        rules: rules.into(),
    };
    let json = |e: serde_json::Error| wrong(path, e.to_string());
    let header = serde_json::to_string(&header).map_err(json)?;
    let mut file = Hashed::new(FileStore::create(path)?, &header);
    // In alphabetical order, which is that of the checksum.
    if let Some(Queued { queries, values, gates, mask }) = queued {
        if let Some(gates) = gates {
            file.add("state.queue.gates", gates.view(), S::data)?;
        }
        if let Some(mask) = mask {
            file.add("state.queue.mask", mask.view(), Data::Bool)?;
        }
        file.add("state.queue.queries", queries.view(), S::data)?;
        file.add("state.queue.values", values.view(), S::data)?;
    }
    file.add("state.slot_values", tables.slot_values.view(), S::data)?;
    file.add("state.sub_keys", tables.sub_keys.view(), S::data)?;
    let checksum = file.hasher.finalize().to_hex().to_string();
    file.store.finish(&BTreeMap::from([("state".to_string(), header), ("checksum".to_string(), checksum)]))
}

/// Reads a state of element type `S`.
///
/// # Errors   a file that is no state, is of another format, specification or element type, was cut or altered, or
///   holds what no memory can hold; each by name
pub fn load<S: Element>(path: &Path) -> Result<Saved<S>> {
    let file = TensorFile::open(path)?;
    let (Some(text), Some(checksum)) = (file.metadata().get("state"), file.metadata().get("checksum")) else {
        return Err(wrong(path, "not a state file: its metadata lack `state` or `checksum`".to_string()));
    };
    let header = header(path, text)?;
    if header.element != S::TYPE.name() {
        let asked = S::TYPE.name();
        return Err(wrong(path, format!("a state of element type {}; this run computes in {asked}", header.element)));
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update(text.as_bytes());
    let queue = read_queue(&file, &mut hasher)?;
    let slot_values = read::<S, ndarray::Ix2>(&file, "state.slot_values", &mut hasher)?;
    let sub_keys = read::<S, ndarray::Ix4>(&file, "state.sub_keys", &mut hasher)?;
    if hasher.finalize().to_hex().as_str() != checksum {
        return Err(wrong(path, "the checksum does not fit: the file was altered after it was written".to_string()));
    }
    let tables = Tables { sub_keys, slot_values };
    let settings = header.settings.over(crate::inputs::shapes_over(&tables, fwpkm_reference::Settings::paper()))?;
    let state = State { settings, rules: header.rules.rules()?, tables, queued: queue, steps: header.steps };
    Ok(Saved { state, tokens: header.tokens })
}

/// The element type of a state file, as written in it.
pub fn element(path: &Path) -> Result<String> {
    let file = TensorFile::open(path)?;
    let text = file.metadata().get("state").ok_or_else(|| wrong(path, "not a state file".to_string()))?;
    Ok(header(path, text)?.element)
}

fn header(path: &Path, text: &str) -> Result<Header> {
    // The format first: another one may have other fields.
    let value: serde_json::Value = serde_json::from_str(text).map_err(|e| wrong(path, format!("`state`: {e}")))?;
    if value["format"] != FORMAT {
        return Err(wrong(path, format!("a state of format {}; this program reads format {FORMAT}", value["format"])));
    }
    let header: Header = serde_json::from_value(value).map_err(|e| wrong(path, format!("`state`: {e}")))?;
    if header.spec != fwpkm_spec::version() {
        let ours = fwpkm_spec::version();
        return Err(wrong(path, format!("a state of specification {}; this program has {ours}", header.spec)));
    }
    Ok(header)
}

fn wrong(path: &Path, reason: String) -> Error {
    Error::State { path: path.display().to_string(), reason }
}

fn read_queue<S: Element>(file: &TensorFile, hasher: &mut blake3::Hasher) -> Result<Option<Queued<S>>> {
    if !file.has("state.queue.queries") {
        return Ok(None);
    }
    let gates = file.has("state.queue.gates").then(|| read::<S, ndarray::Ix2>(file, "state.queue.gates", hasher));
    let gates = gates.transpose()?;
    let mask = file.has("state.queue.mask").then(|| read::<f64, ndarray::Ix2>(file, "state.queue.mask", hasher));
    let mask = mask.transpose()?.map(|mask| mask.mapv(|x| x == 1.0));
    let queries = read(file, "state.queue.queries", hasher)?;
    Ok(Some(Queued { queries, values: read(file, "state.queue.values", hasher)?, gates, mask }))
}

/// What the checksum takes of a tensor before its bytes: where one ends and the next begins must not be open.
fn hash_name(hasher: &mut blake3::Hasher, name: &str, kind: &str, shape: &[usize]) {
    hasher.update(format!("\n{name} {kind} {shape:?}\n").as_bytes());
}

/// A file in the making with the hash of what was added.
struct Hashed {
    store: FileStore,
    hasher: blake3::Hasher,
}

impl Hashed {
    fn new(store: FileStore, header: &str) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(header.as_bytes());
        Self { store, hasher }
    }

    fn add<T: Copy, D: Dimension>(
        &mut self,
        name: &str,
        array: ArrayView<T, D>,
        data: fn(Vec<T>) -> Data,
    ) -> Result<()> {
        let Self { store, hasher } = self;
        hash_name(hasher, name, data(Vec::new()).element_type().name(), array.shape());
        add(store, name, array, data, &mut |block| {
            hasher.update(&block.to_bytes());
        })
    }
}

fn read<S: Element, D: Dimension>(file: &TensorFile, name: &str, hasher: &mut blake3::Hasher) -> Result<Array<S, D>> {
    let missing = || fwpkm_spec::Error::NoTensor {
        path: file.path().to_path_buf(),
        name: name.to_string(),
        found: listed(file.names()),
    };
    let shape = file.shape(name).ok_or_else(missing)?.to_vec();
    hash_name(hasher, name, file.element_type(name).unwrap_or_default(), &shape);
    let count = if shape.contains(&0) { 0 } else { shape.iter().product() };
    // Not with room for all: the shape of an element type that is not read may be any.
    let mut numbers = Vec::new();
    while numbers.len() < count {
        let block = file.elements(name, numbers.len()..count.min(numbers.len() + BLOCK))?;
        hasher.update(&block.to_bytes());
        numbers.append(&mut S::numbers(block));
    }
    Ok(ArrayD::from_shape_vec(shape, numbers)?.into_dimensionality::<D>()?)
}
