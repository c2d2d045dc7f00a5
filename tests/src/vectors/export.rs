//! Inputs alone, for a port that writes its outputs to files.

use std::collections::BTreeMap;
use std::path::Path;

use fwpkm_spec::{Data, Replacement, Tensor, replace, tensor_file};
use serde::Serialize;

use super::catalogue::catalogue;
use super::entry::Folder;
use super::vector::{Vector, vectors};
use crate::error::{Error, Result};
use crate::run::Outputs;

/// The list of an export: `index.json`.
#[derive(Clone, Debug, Serialize)]
pub struct Index {
    /// Version of the specification.
    pub spec: &'static str,
    /// What to do with it.
    pub read_me: &'static str,
    /// The cases.
    pub cases: Vec<Exported>,
}

/// One exported case.
#[derive(Clone, Debug, Serialize)]
pub struct Exported {
    /// Its file, relative to the index.
    pub file: String,
    /// What it is for.
    pub purpose: String,
    /// Clauses it exercises.
    pub clauses: Vec<String>,
    /// Shapes of the outputs it asks for.
    pub outputs: BTreeMap<String, Vec<usize>>,
    /// Shapes of the gradients that may be given as well.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub gradients: BTreeMap<String, Vec<usize>>,
    /// Shapes of the stage tensors that may be given as well.
    pub stages: BTreeMap<String, Vec<usize>>,
}

const READ_ME: &str = "Each file holds a case (metadata `case`) and its inputs in.*; SPEC.md, \"Tensors\" and \"Case files\", \
                       says what they mean. Write the outputs listed here, under these names, to a safetensors file of \
                       the same name; gradients and stages are optional.";

/// Writes the inputs of every vector that the rules of these folders give, and `index.json`.
///
/// # Errors   a folder that has something in it; what cannot be written
pub fn export(root: &Path, folders: &[Folder]) -> Result<Index> {
    let in_root = |error: std::io::Error| Error::File { path: root.display().to_string(), reason: error.to_string() };
    std::fs::create_dir_all(root).map_err(in_root)?;
    if std::fs::read_dir(root).map_err(in_root)?.next().is_some() {
        return Err(Error::File { path: root.display().to_string(), reason: "is not empty; give a new folder".into() });
    }
    let path = root.join("index.json");
    // Whether anything can be written, before the vectors are made.
    Replacement::create(&path)?;
    let mut cases = Vec::new();
    for entry in catalogue() {
        for vector in vectors(&entry)?.into_iter().filter(|vector| folders.contains(&vector.folder)) {
            cases.push(export_one(root, &vector)?);
        }
    }
    let index = Index { spec: fwpkm_spec::version(), read_me: READ_ME, cases };
    let text = serde_json::to_string_pretty(&index).map_err(std::io::Error::from).map_err(in_root)?;
    replace(&path, |out| out.write_all((text + "\n").as_bytes()))?;
    Ok(index)
}

fn export_one(root: &Path, vector: &Vector) -> Result<Exported> {
    let path = vector.path(root);
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)
            .map_err(|error| Error::File { path: folder.display().to_string(), reason: error.to_string() })?;
    }
    let mut inputs = vector.inputs.clone();
    for (name, table) in &vector.closed_form {
        let data = Data::F32(table.elements(0..table.shape.iter().product()));
        inputs.insert(name.clone(), Tensor { shape: table.shape.clone(), data });
    }
    let tensors: Vec<(&String, &Tensor)> = inputs.iter().collect();
    tensor_file::write(&path, &vector.case.metadata(None)?, &tensors)?;
    let file = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().replace('\\', "/");
    Ok(Exported {
        file,
        purpose: vector.certificate.purpose.clone(),
        clauses: vector.certificate.clauses.clone(),
        outputs: shapes(&vector.outputs, "out."),
        gradients: shapes(&vector.outputs, "grad."),
        stages: shapes(&vector.outputs, "trace."),
    })
}

fn shapes(outputs: &Outputs, prefix: &str) -> BTreeMap<String, Vec<usize>> {
    let named = outputs.iter().filter(|(name, _)| name.starts_with(prefix));
    named.map(|(name, tensor)| (name.clone(), tensor.shape.clone())).collect()
}
