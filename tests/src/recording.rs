//! A folder of recorded outputs: one file per vector, whatever may be wrong with it.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use fwpkm_spec::{Data, Tensor, TensorFile};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::inputs::is_given;
use crate::judge::{Declaration, Distance};
use crate::numbers::Numbers;
use crate::run::Outputs;

/// The file in a folder that says what the implementation keeps its results in.
pub const DECLARATION: &str = "declaration.json";

/// Elements of a recorded tensor at most; the certified vectors need far fewer.
const MOST_ELEMENTS: usize = 1 << 24;

/// What a folder says of its implementation, in `declaration.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stated {
    /// Name of the implementation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The version of the specification its vectors came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<String>,
    /// What results are kept in; where absent, the type of `out.reads`, or the narrowest of any real tensor where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub numbers: Option<Numbers>,
    /// How it takes distances; where absent, direct.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distance: Option<Distance>,
}

/// A folder of recorded outputs.
#[derive(Debug)]
pub struct Recording {
    folder: PathBuf,
    /// What it says of itself.
    pub stated: Stated,
}

impl Recording {
    /// Opens a folder.
    ///
    /// # Errors   no folder; a declaration that cannot be read, or of another version of the specification
    pub fn open(folder: &Path) -> Result<Self> {
        let unreadable = |reason: String| Error::File { path: folder.display().to_string(), reason };
        let root = folder.canonicalize().map_err(|e| unreadable(e.to_string()))?;
        if !root.is_dir() {
            return Err(unreadable("not a folder; recorded outputs are one file per vector in a folder".into()));
        }
        let path = root.join(DECLARATION);
        let stated = if path.exists() { declaration(&path, &root)? } else { Stated::default() };
        if let Some(version) = stated.spec.as_ref().filter(|version| *version != fwpkm_spec::version()) {
            let reason = format!("made for specification {version}; this is {}", fwpkm_spec::version());
            return Err(Error::File { path: path.display().to_string(), reason });
        }
        Ok(Self { folder: root, stated })
    }

    /// Where the outputs of a vector are expected.
    pub fn path(&self, vector: &str) -> PathBuf {
        self.folder.join(format!("{vector}.safetensors"))
    }

    /// The outputs of a vector; none where there is no file.
    ///
    /// # Errors   a file that is no safetensors file or lies outside the folder, a tensor too large
    pub fn outputs(&self, vector: &str) -> Result<Option<Outputs>> {
        let path = self.path(vector);
        if std::fs::symlink_metadata(&path).is_err() {
            return Ok(None);
        }
        inside(&path, &self.folder)?;
        let file = TensorFile::open(&path)?;
        if let Some(version) = file.metadata().get("spec").filter(|version| *version != fwpkm_spec::version()) {
            let reason = format!("made for specification {version}; this is {}", fwpkm_spec::version());
            return Err(Error::File { path: path.display().to_string(), reason });
        }
        let mut outputs = Outputs::new();
        for name in file.names().filter(|name| !is_given(name)) {
            if !JUDGED.iter().any(|prefix| name.starts_with(prefix)) {
                // Nothing of it is judged, so nothing of it is read.
                outputs.insert(name.into(), Tensor { shape: vec![0], data: Data::I64(Vec::new()) });
                continue;
            }
            let count = file.shape(name).map_or(0, |shape| shape.iter().product::<usize>());
            if count > MOST_ELEMENTS {
                let expected = format!("at most {MOST_ELEMENTS} elements");
                let found = file.shape(name).map(<[usize]>::to_vec).unwrap_or_default();
                return Err(Error::Shape { tensor: name.into(), expected, found });
            }
            outputs.insert(name.into(), file.tensor(name)?);
        }
        Ok(Some(outputs))
    }

    /// What results are kept in: as stated, else as its recorded tensors are.
    pub fn declared(&self, vectors: &[&str]) -> Declaration {
        let distance = self.stated.distance.unwrap_or_default();
        let numbers = self.stated.numbers.unwrap_or_else(|| self.types(vectors).numbers());
        Declaration { numbers, distance }
    }

    /// What the numbers were taken from, where recorded tensors are of several types and nothing says which is meant.
    pub fn taken_from(&self, vectors: &[&str]) -> Option<String> {
        let types = self.types(vectors);
        if self.stated.numbers.is_some() || types.all.len() < 2 {
            return None;
        }
        let of = if types.reads.is_some() { "the type of out.reads" } else { "the narrowest type of any tensor" };
        let listed = |types: &BTreeMap<&str, String>| {
            types.iter().map(|(found, name)| format!("{found} ({name})")).collect::<Vec<_>>().join(", ")
        };
        let others: BTreeMap<&str, String> = types
            .all
            .iter()
            .filter(|(numbers, _)| **numbers != types.numbers())
            .map(|(numbers, name)| (numbers.name(), name.clone()))
            .collect();
        Some(format!(
            "judged as {}, {of}; there are also {}. --numbers or {DECLARATION} says otherwise",
            types.numbers().name(),
            listed(&others)
        ))
    }

    /// The types of the recorded real tensors. Files that cannot be read have none.
    fn types(&self, vectors: &[&str]) -> Types {
        let mut types = Types::default();
        for vector in vectors {
            let path = self.path(vector);
            let Ok(file) = inside(&path, &self.folder).and_then(|()| Ok(TensorFile::open(&path)?)) else { continue };
            for name in file.names().filter(|name| JUDGED.iter().any(|prefix| name.starts_with(prefix))) {
                let found = file.element_type(name).unwrap_or_default();
                let Some(numbers) = Numbers::ALL.into_iter().find(|numbers| numbers.element_type().name() == found)
                else {
                    continue;
                };
                if name == "out.reads" {
                    types.reads.get_or_insert(numbers);
                }
                types.all.entry(numbers).or_insert_with(|| fwpkm_spec::shortened(name));
            }
        }
        types
    }
}

/// How the names of results and stages begin.
const JUDGED: [&str; 3] = ["out.", "grad.", "trace."];

/// The types of recorded real tensors.
#[derive(Default)]
struct Types {
    /// That of the first `out.reads`.
    reads: Option<Numbers>,
    /// Each with a tensor that is of it.
    all: HashMap<Numbers, String>,
}

impl Types {
    fn numbers(&self) -> Numbers {
        let narrowest = || self.all.keys().copied().max_by(|a, b| a.unit_roundoff().total_cmp(&b.unit_roundoff()));
        self.reads.or_else(narrowest).unwrap_or(Numbers::F32)
    }
}

fn declaration(path: &Path, folder: &Path) -> Result<Stated> {
    inside(path, folder)?;
    let broken = |reason: String| Error::File { path: path.display().to_string(), reason };
    let size = std::fs::metadata(path).map_err(|e| broken(e.to_string()))?.len();
    if size > 1 << 16 {
        return Err(broken(format!("{size} bytes; a declaration has at most 65536")));
    }
    let text = std::fs::read_to_string(path).map_err(|e| broken(e.to_string()))?;
    // An empty list would be read as one without fields.
    if !text.trim_start().starts_with('{') {
        return Err(broken("expected one JSON object".into()));
    }
    serde_json::from_str(&text).map_err(|e| broken(e.to_string()))
}

/// Refuses what a link leads out of the folder
fn inside(path: &Path, folder: &Path) -> Result<()> {
    let broken = |reason: String| Error::File { path: path.display().to_string(), reason };
    let real = path.canonicalize().map_err(|e| broken(e.to_string()))?;
    if !real.starts_with(folder) {
        return Err(broken("a link that leads out of the folder".into()));
    }
    if !real.is_file() {
        return Err(broken("not a file".into()));
    }
    Ok(())
}
