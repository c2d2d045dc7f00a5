//! What is written is read again, here and by the crate safetensors.

use std::fs;

use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors};
use tempfile::tempdir;

use super::*;

fn some_tensors() -> Vec<(&'static str, Tensor)> {
    let tensor = |shape: &[usize], data| Tensor::new(shape, data).unwrap();
    vec![
        ("in.queries", tensor(&[2, 3], Data::F64(vec![0.1, -0.0, 1e300, f64::MIN_POSITIVE, f64::INFINITY, 3.0]))),
        ("in.values", tensor(&[2], Data::F32(vec![0.1, -7.5]))),
        ("in.gates", tensor(&[2], Data::Bf16(vec![bf16::from_f32(0.1), bf16::NEG_INFINITY]))),
        ("in.half", tensor(&[2], Data::F16(vec![f16::from_f32(0.1), f16::from_bits(1)]))),
        ("in.mask", tensor(&[3], Data::Bool(vec![true, false, true]))),
        ("out.indices", tensor(&[2, 1], Data::I64(vec![i64::MIN, 9_007_199_254_740_993]))),
        ("out.small", tensor(&[1], Data::I32(vec![-5]))),
        ("out.bytes", tensor(&[1, 1, 5], Data::U8(vec![0, 1, 2, 254, 255]))),
        ("out.number", tensor(&[], Data::F64(vec![2.5]))),
        ("out.empty", tensor(&[0, 1 << 40], Data::F32(vec![]))),
    ]
}

fn metadata() -> BTreeMap<String, String> {
    let texts = [("case", "{\"ε\": \"\\n\"}"), ("source", "here"), ("a", ""), ("b", "ü")];
    texts.map(|(key, text)| (key.to_owned(), text.to_owned())).into()
}

#[test]
fn what_is_written_is_read_again() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("round.safetensors");
    write(&path, &metadata(), &some_tensors()).unwrap();
    let file = TensorFile::open(&path).unwrap();
    assert_eq!((file.path(), file.metadata()), (path.as_path(), &metadata()));
    let mut names: Vec<&str> = some_tensors().iter().map(|(name, _)| *name).collect();
    names.sort_unstable();
    assert_eq!(file.names().collect::<Vec<_>>(), names);
    for (name, tensor) in some_tensors() {
        assert_eq!(file.tensor(name).unwrap(), tensor);
        assert_eq!(file.shape(name), Some(tensor.shape.as_slice()));
        assert!(file.has(name));
    }
    assert_eq!((file.shape("out"), file.has("out"), file.element_type("out.bytes")), (None, false, Some("U8")));
}

#[test]
fn not_a_number_keeps_its_bits() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("nan.safetensors");
    let odd = f64::from_bits(0x7FF8_0000_DEAD_BEEF);
    write(&path, &BTreeMap::new(), &[("nan", Tensor::new(&[1], Data::F64(vec![odd])).unwrap())]).unwrap();
    let Data::F64(numbers) = TensorFile::open(&path).unwrap().tensor("nan").unwrap().data else { panic!("not F64") };
    assert_eq!(numbers[0].to_bits(), odd.to_bits());
}

#[test]
fn the_crate_safetensors_reads_what_is_written() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("theirs.safetensors");
    write(&path, &metadata(), &some_tensors()).unwrap();
    let bytes = fs::read(&path).unwrap();
    let theirs = SafeTensors::deserialize(&bytes).unwrap();
    let ours = TensorFile::open(&path).unwrap();
    assert_eq!(theirs.len(), some_tensors().len());
    for (name, tensor) in some_tensors() {
        let view = theirs.tensor(name).unwrap();
        assert_eq!(
            (view.shape(), view.dtype().to_string().as_str()),
            (&*tensor.shape, ours.element_type(name).unwrap())
        );
    }
    let queries = theirs.tensor("in.queries").unwrap();
    assert_eq!(queries.data()[..8], 0.1_f64.to_le_bytes());
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    assert_eq!(header.metadata().clone().unwrap().into_iter().collect::<BTreeMap<_, _>>(), metadata());
}

#[test]
fn what_the_crate_safetensors_writes_is_read() {
    let shapes: [&[usize]; 3] = [&[2, 2], &[1], &[]];
    let bytes: Vec<u8> = (0..32).collect();
    let views = shapes.map(|shape| {
        let count: usize = shape.iter().product();
        safetensors::tensor::TensorView::new(Dtype::F64, shape.to_vec(), &bytes[..8 * count]).unwrap()
    });
    let written = safetensors::serialize(["a", "b", "c"].into_iter().zip(views), None).unwrap();
    let file = TensorFile::from_bytes("theirs", &written).unwrap();
    assert!(file.metadata().is_empty());
    for (name, shape) in ["a", "b", "c"].into_iter().zip(shapes) {
        let tensor = file.tensor(name).unwrap();
        assert_eq!(tensor.shape, shape);
        assert_eq!(tensor.data.to_f64()[0], f64::from_le_bytes([0, 1, 2, 3, 4, 5, 6, 7]));
    }
}

#[test]
fn equal_content_gives_equal_bytes_whatever_the_order() {
    let folder = tempdir().unwrap();
    let (left, right) = (folder.path().join("left"), folder.path().join("right"));
    write(&left, &metadata(), &some_tensors()).unwrap();
    let reversed: Vec<_> = some_tensors().into_iter().rev().collect();
    write(&right, &metadata(), &reversed).unwrap();
    assert_eq!(fs::read(left).unwrap(), fs::read(right).unwrap());
}

#[test]
fn every_tensor_starts_at_a_multiple_of_its_element_size() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("aligned");
    write(&path, &metadata(), &some_tensors()).unwrap();
    let file = TensorFile::open(&path).unwrap();
    for (name, width) in [("in.queries", 8), ("in.values", 4), ("out.indices", 8), ("out.small", 4)] {
        assert_eq!(file.header.entries[name].range.start % width, 0, "{name}");
    }
    assert_eq!(
        (fs::metadata(&path).unwrap().len()
            - file.header.entries.values().map(|entry| entry.range.end).max().unwrap() as u64)
            % 8,
        0
    );
}

#[test]
fn a_failed_write_leaves_the_existing_file_and_nothing_else() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("kept.safetensors");
    fs::write(&path, "precious").unwrap();
    let good = Tensor::new(&[1], Data::F32(vec![1.0])).unwrap();
    let wrong = Tensor { shape: vec![2], data: Data::F32(vec![1.0]) };
    let overflow = Tensor { shape: vec![1 << 40, 1 << 40, 0], data: Data::F32(vec![]) };
    let deep = Tensor { shape: vec![1; 17], data: Data::F32(vec![1.0]) };
    for tensors in [
        vec![("twice", good.clone()), ("twice", good.clone())],
        vec![("__metadata__", good.clone())],
        vec![("wrong", wrong)],
        vec![("overflow", overflow)],
        vec![("deep", deep)],
    ] {
        let error = write(&path, &BTreeMap::new(), &tensors).unwrap_err();
        assert!(matches!(error, Error::Format { .. }), "{error}");
        assert!(error.to_string().contains(tensors[0].0), "{error}");
    }
    let blocked = folder.path().join("folder");
    fs::create_dir(&blocked).unwrap();
    assert!(matches!(write(&blocked, &BTreeMap::new(), &[("a", &good)]), Err(Error::Path { .. })));
    let nowhere = folder.path().join("no").join("such");
    assert!(matches!(write(&nowhere, &BTreeMap::new(), &[("a", &good)]), Err(Error::Io { action: "write", .. })));
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[cfg(unix)]
#[test]
fn others_may_read_what_is_written_as_any_new_file() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempdir().unwrap();
    let (written, plain) = (folder.path().join("written"), folder.path().join("plain"));
    write(&written, &BTreeMap::new(), &some_tensors()).unwrap();
    fs::write(&plain, "").unwrap();
    let mode = |path| fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(written), mode(plain));
}

#[test]
fn a_tensor_has_as_many_elements_as_its_shape() {
    let error = Tensor::new(&[2, 3], Data::F32(vec![0.0; 5])).unwrap_err();
    assert_eq!(error.to_string(), "tensor of shape [2, 3]: expected 6 elements, found 5 elements");
    assert!(Tensor::new(&[], Data::U8(vec![7])).is_ok() && Tensor::new(&[1; 16], Data::U8(vec![7])).is_ok());
    assert!(Tensor::new(&[1; 17], Data::U8(vec![7])).is_err());
}

#[test]
fn elements_are_seen_as_numbers_of_either_kind() {
    let flags = Data::Bool(vec![true, false]);
    assert_eq!((flags.to_f64(), flags.to_i64()), (vec![1.0, 0.0], Some(vec![1, 0])));
    assert_eq!(Data::I32(vec![-3]).to_i64(), Some(vec![-3]));
    assert_eq!(Data::F32(vec![0.5]).to_f64(), [0.5]);
    assert_eq!(Data::F64(vec![1.0]).to_i64(), None);
    assert!(Data::U8(vec![]).is_empty());
}
