//! Where results go: named tensors in memory, or a file that is filled as the run goes on.

use std::collections::BTreeMap;
use std::path::Path;

use fwpkm_spec::{Data, ElementType, Tensor, TensorWriter};
use ndarray::{ArrayView, Dimension};

use crate::error::{Error, Result};
use crate::run::Outputs;

/// A place for tensors that are declared first and filled in pieces.
pub trait Store {
    /// Makes a tensor of zeros.
    fn declare(&mut self, name: &str, kind: ElementType, shape: &[usize]) -> Result<()>;
    /// Whether there is a tensor of that name.
    fn has(&self, name: &str) -> bool;
    /// Writes elements from a row-major number on.
    fn write(&mut self, name: &str, first: usize, data: &Data) -> Result<()>;
}

impl Store for Outputs {
    fn declare(&mut self, name: &str, kind: ElementType, shape: &[usize]) -> Result<()> {
        let count = if shape.contains(&0) { 0 } else { shape.iter().product() };
        put(self, name, Tensor { shape: shape.to_vec(), data: Data::zeros(kind, count) });
        Ok(())
    }

    fn has(&self, name: &str) -> bool {
        self.contains_key(name)
    }

    fn write(&mut self, name: &str, first: usize, data: &Data) -> Result<()> {
        let found = self.get(name).map(|tensor| tensor.shape.clone()).unwrap_or_default();
        if self.get_mut(name).is_some_and(|tensor| tensor.data.replace(first, data)) {
            return Ok(());
        }
        let expected = format!("{} elements from {first} on do not fit", data.len());
        Err(Error::Shape { tensor: name.into(), expected, found })
    }
}

/// A safetensors file that takes its path's place when it is finished.
#[derive(Debug)]
pub struct FileStore {
    writer: TensorWriter,
    numbers: BTreeMap<String, usize>,
}

impl FileStore {
    /// A new file beside the path.
    pub fn create(path: &Path) -> Result<Self> {
        Ok(Self { writer: TensorWriter::create(path)?, numbers: BTreeMap::new() })
    }

    /// Cuts the tokens, the second dimension of every tensor so far, to those of a run that ended early.
    pub fn shorten(&mut self, tokens: usize) -> Result<()> {
        Ok(self.writer.shorten(tokens)?)
    }

    /// Names and shapes of the tensors so far.
    pub fn shapes(&self) -> Vec<(String, Vec<usize>)> {
        self.writer.shapes().map(|(name, shape)| (name.to_string(), shape.to_vec())).collect()
    }

    /// Completes the file.
    pub fn finish(self, metadata: &BTreeMap<String, String>) -> Result<()> {
        Ok(self.writer.finish(metadata)?)
    }
}

impl Store for FileStore {
    fn declare(&mut self, name: &str, kind: ElementType, shape: &[usize]) -> Result<()> {
        let number = self.writer.declare(name, kind, shape)?;
        self.numbers.insert(name.to_string(), number);
        Ok(())
    }

    fn has(&self, name: &str) -> bool {
        self.numbers.contains_key(name)
    }

    fn write(&mut self, name: &str, first: usize, data: &Data) -> Result<()> {
        let number = self.numbers.get(name).copied().unwrap_or(usize::MAX);
        Ok(self.writer.write(number, first, data)?)
    }
}

/// Elements converted at a time.
const BLOCK: usize = 1 << 18;

/// Adds an array block by block, without a copy of the whole; `seen` gets each block.
pub fn add<T: Copy, D: Dimension>(
    store: &mut dyn Store,
    name: &str,
    array: ArrayView<T, D>,
    data: fn(Vec<T>) -> Data,
    seen: &mut dyn FnMut(&Data),
) -> Result<()> {
    store.declare(name, data(Vec::new()).element_type(), array.shape())?;
    let mut elements = array.iter();
    let mut first = 0;
    while first < array.len() {
        let block = data(elements.by_ref().take(BLOCK).copied().collect());
        seen(&block);
        store.write(name, first, &block)?;
        first += block.len();
    }
    Ok(())
}

/// Adds a whole tensor.
pub fn put(outputs: &mut Outputs, name: impl Into<String>, tensor: Tensor) {
    outputs.insert(name.into(), tensor);
}

/// Places the tensors of a slice, each [B, tokens of the slice, …], among `tokens` tokens from `from` on.
pub fn place(store: &mut dyn Store, from: usize, tokens: usize, slice: &Outputs) -> Result<()> {
    for (name, tensor) in slice {
        let (sequences, length) = (tensor.shape[0], tensor.shape[1]);
        let width: usize = tensor.shape[2..].iter().product();
        if !store.has(name) {
            let mut shape = tensor.shape.clone();
            shape[1] = tokens;
            store.declare(name, tensor.data.element_type(), &shape)?;
        }
        // Of nothing there may be any number of sequences.
        for sequence in 0..if length == 0 { 0 } else { sequences } {
            let part = sequence * length * width..(sequence + 1) * length * width;
            store.write(name, (sequence * tokens + from) * width, &tensor.data.part(part))?;
        }
    }
    Ok(())
}
