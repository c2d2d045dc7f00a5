//! Files that are no safetensors files, or hardly: each is refused with its path and a reason, never a panic.

use std::fs;

use safetensors::SafeTensors;
use tempfile::tempdir;

use super::*;

/// The bytes of a file with this header and so many zero bytes of data.
fn bytes(header: &str, data: usize) -> Vec<u8> {
    bytes_of_length(header.len() as u64, header.as_bytes(), data)
}

fn bytes_of_length(length: u64, header: &[u8], data: usize) -> Vec<u8> {
    let mut bytes = length.to_le_bytes().to_vec();
    bytes.extend_from_slice(header);
    bytes.resize(bytes.len() + data, 0);
    bytes
}

fn tensor(dtype: &str, shape: &str, offsets: &str) -> String {
    format!("{{\"dtype\":\"{dtype}\",\"shape\":{shape},\"data_offsets\":{offsets}}}")
}

fn one(dtype: &str, shape: &str, offsets: &str) -> String {
    format!("{{\"a\":{}}}", tensor(dtype, shape, offsets))
}

fn two(left: &str, right: &str) -> String {
    format!("{{\"a\":{},\"b\":{}}}", tensor("U8", "[2]", left), tensor("U8", "[2]", right))
}

/// The bytes are refused, from memory and from a file, by a message with the path and these words.
#[track_caller]
fn refused(bytes: &[u8], words: &[&str]) {
    let folder = tempdir().unwrap();
    let path = folder.path().join("hostile.safetensors");
    fs::write(&path, bytes).unwrap();
    let error = TensorFile::open(&path).unwrap_err();
    let message = error.to_string();
    assert!(matches!(&error, Error::Format { path: named, .. } if *named == path), "{error:?}");
    for word in words {
        assert!(message.contains(word), "{message:?} lacks {word:?}");
    }
    assert!(message.len() < 600, "{message}");
    assert!(TensorFile::from_bytes(&path, bytes).is_err());
    let is_stricter = ["twice", "16 whole numbers"].iter().any(|word| message.contains(word));
    assert!(is_stricter || SafeTensors::deserialize(bytes).is_err(), "the crate safetensors accepts this");
}

#[test]
fn files_too_short_for_a_header_are_refused() {
    refused(b"", &["at least the 8 bytes", "found 0 bytes"]);
    refused(&[2, 0, 0, 0, 0, 0, 0], &["found 7 bytes"]);
    refused(&bytes("", 0), &["header", "EOF"]);
}

#[test]
fn a_header_longer_than_the_file_is_refused_before_anything_is_allocated() {
    refused(&bytes_of_length(3, b"{}", 0), &["header's length", "the 2 that follow", "found 3 bytes"]);
    for length in [1 << 31, 1 << 60, i64::MAX as u64, u64::MAX - 7, u64::MAX] {
        refused(&bytes_of_length(length, b"{}", 0), &["at most 100000000 bytes", &length.to_string()]);
    }
}

#[test]
fn a_header_that_is_no_json_object_of_tensors_is_refused() {
    refused(&bytes_of_length(2, &[0xFF, 0xFE], 0), &["UTF-8", "after the first 0"]);
    refused(&bytes_of_length(5, b"{\"\xC3\x28\"", 0), &["UTF-8", "after the first 2"]);
    for header in ["null", "[]", "{", "{} {}", "\"a\"", "{\"a\":{}}", "{\"a\":5}", "{\"a\":null}"] {
        refused(&bytes(header, 0), &["header: expected a JSON object"]);
    }
    refused(&bytes(&format!("{{\"a\":{}", "[".repeat(50_000)), 0), &["header", "\"a\""]);
    refused(&bytes(&format!("{{\"a\":{}", "{\"a\":".repeat(50_000)), 0), &["header", "\"a\""]);
}

#[test]
fn metadata_other_than_texts_is_refused() {
    for metadata in ["{\"case\":{\"batch\":1}}", "{\"case\":1}", "{\"case\":null}", "[]", "\"case\""] {
        refused(&bytes(&format!("{{\"__metadata__\":{metadata}}}"), 0), &["\"__metadata__\"", "invalid type"]);
    }
}

#[test]
fn a_name_twice_is_refused() {
    let empty = tensor("U8", "[0]", "[0,0]");
    refused(&bytes(&format!("{{\"a\":{empty},\"a\":{empty}}}"), 0), &["name \"a\" twice"]);
    refused(&bytes("{\"__metadata__\":{},\"__metadata__\":{}}", 0), &["name \"__metadata__\" twice"]);
    refused(&bytes("{\"__metadata__\":{\"case\":\"x\",\"case\":\"y\"}}", 0), &["key \"case\" twice"]);
    refused(
        &bytes("{\"a\":{\"dtype\":\"U8\",\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}", 0),
        &["duplicate field"],
    );
}

#[test]
fn offsets_that_overlap_leave_gaps_or_leave_the_file_are_refused() {
    refused(
        &bytes(&two("[0,2]", "[1,3]"), 3),
        &["tensor \"b\"", "from 2, where the tensor \"a\" ends", "found [1, 3]"],
    );
    refused(&bytes(&two("[0,2]", "[0,2]"), 2), &["tensor \"b\"", "found [0, 2]"]);
    refused(&bytes(&two("[0,2]", "[3,5]"), 5), &["tensor \"b\"", "found [3, 5]"]);
    refused(&bytes(&one("U8", "[2]", "[1,3]"), 3), &["from 0, where the data begins", "found [1, 3]"]);
    refused(&bytes(&one("U8", "[2]", "[2,0]"), 2), &["ascend within the 2 bytes", "found [2, 0]"]);
    refused(&bytes(&one("U8", "[2]", "[0,18446744073709551615]"), 2), &["ascend within the 2 bytes"]);
    refused(&bytes(&one("U8", "[2]", "[0,2]"), 3), &["data: expected 2 bytes", "found 3 bytes"]);
    refused(&bytes("{}", 1), &["data: expected 0 bytes", "found 1 bytes"]);
    for offsets in ["[0]", "[0,2,2]", "[-1,1]", "[0,2.5]", "[0,1e3]", "[0,18446744073709551616]", "0", "null"] {
        refused(&bytes(&one("U8", "[2]", offsets), 2), &["header", "\"a\""]);
    }
}

#[test]
fn truncated_data_is_refused() {
    refused(&bytes(&one("F64", "[2]", "[0,16]"), 15), &["tensor \"a\"", "within the 15 bytes", "found [0, 16]"]);
}

#[test]
fn a_shape_that_does_not_take_its_bytes_is_refused() {
    refused(&bytes(&one("F32", "[2]", "[0,4]"), 4), &["a shape that takes 4 bytes", "found F32 [2]"]);
    refused(&bytes(&one("F16", "[3]", "[0,4]"), 4), &["found F16 [3]"]);
    refused(&bytes(&one("F4", "[1]", "[0,1]"), 1), &["found F4 [1]"]);
    for shape in ["[1152921504606846976]", "[4294967296,4294967296]", "[1152921504606846976,1152921504606846976,0]"] {
        refused(
            &bytes(&one("F32", shape, "[0,0]"), 0),
            &["tensor \"a\"", "1152921504606846976"].map(|word| if shape.contains(word) { word } else { "a" }),
        );
    }
    // 2^61 elements of 64 bits are 2^67 bits: zero bytes modulo 2^64.
    refused(&bytes(&one("F64", "[2305843009213693952]", "[0,0]"), 0), &["2305843009213693952"]);
    for shape in ["[-1]", "[1.5]", "[\"2\"]", "[[2]]", "2", "null", "[18446744073709551616]"] {
        refused(&bytes(&one("U8", shape, "[0,2]"), 2), &["header", "\"a\""]);
    }
    let many = format!("[{}1]", "1,".repeat(16));
    refused(&bytes(&one("U8", &many, "[0,1]"), 1), &["\"a\"", "at most 16 whole numbers"]);
}

#[test]
fn tensors_without_elements_are_fine() {
    for shape in ["[0]", "[0,5]", "[3,0,1152921504606846976]"] {
        let file = TensorFile::from_bytes("empty", &bytes(&one("F64", shape, "[0,0]"), 0)).unwrap();
        assert_eq!(file.tensor("a").unwrap().data, Data::F64(vec![]));
    }
    assert_eq!(TensorFile::from_bytes("none", &bytes("{}", 0)).unwrap().names().count(), 0);
}

#[test]
fn an_element_type_that_is_not_read_hurts_only_who_asks_for_it() {
    for (dtype, shape) in [("F8_E5M2", "[2]"), ("F128", "[7]"), ("", "[]"), ("f64", "[3]")] {
        let header = format!("{{\"a\":{},\"b\":{}}}", tensor(dtype, shape, "[0,2]"), tensor("U8", "[1]", "[2,3]"));
        let file = TensorFile::from_bytes("extra", &bytes(&header, 1 + 2)).unwrap();
        assert_eq!(file.tensor("b").unwrap().data, Data::U8(vec![0]));
        assert_eq!(file.element_type("a"), Some(dtype));
        let error = file.tensor("a").unwrap_err();
        assert!(matches!(error, Error::ElementType { .. }));
        assert_eq!(error.to_string(), format!("extra: tensor a: expected element type {READ_TYPES}, found {dtype}"));
    }
}

#[test]
fn a_truth_value_is_0_or_1() {
    let mut bytes = bytes(&one("BOOL", "[2]", "[0,2]"), 2);
    *bytes.last_mut().unwrap() = 2;
    let error = TensorFile::from_bytes("mask", &bytes).unwrap().tensor("a").unwrap_err();
    assert_eq!(error.to_string(), "mask: tensor \"a\", element 1: expected 0 or 1, found 2");
}

#[test]
fn a_tensor_that_is_not_there_is_answered_with_those_that_are() {
    let file = TensorFile::from_bytes("case", &bytes(&two("[0,2]", "[2,4]"), 4)).unwrap();
    assert_eq!(file.tensor("c").unwrap_err().to_string(), "case: expected a tensor c, found a, b");
}

#[test]
fn names_from_a_file_reach_a_message_short_and_without_control_characters() {
    let name = format!("\\u001b[2J{}", "x".repeat(10_000));
    refused(&bytes(&format!("{{\"{name}\":{}}}", tensor("U8", "[1]", "[0,2]")), 2), &["\\u{1b}[2J", "…"]);
    let header = format!("{{\"{name}\":{}}}", tensor("\\u001b[2J", "[1]", "[0,2]"));
    let file = TensorFile::from_bytes("file", &bytes(&header, 2)).unwrap();
    for asked in ["a", file.names().next().unwrap()] {
        let message = file.tensor(asked).unwrap_err().to_string();
        assert!(message.contains("\\u{1b}[2J") && !message.contains(char::is_control), "{message:?}");
        assert!(message.len() < 600, "{message}");
    }
}

#[test]
fn what_is_no_regular_file_is_refused() {
    let folder = tempdir().unwrap();
    let error = TensorFile::open(folder.path()).unwrap_err();
    assert!(matches!(&error, Error::Path { found, .. } if found == "a folder"), "{error}");
    let absent = TensorFile::open(folder.path().join("absent")).unwrap_err();
    assert!(matches!(absent, Error::Io { action: "open", .. }), "{absent}");
}

#[cfg(unix)]
#[test]
fn a_circle_of_links_and_a_device_are_refused() {
    use std::os::unix::fs::symlink;
    let folder = tempdir().unwrap();
    let (left, right) = (folder.path().join("left"), folder.path().join("right"));
    symlink(&left, &right).unwrap();
    symlink(&right, &left).unwrap();
    let error = TensorFile::open(&left).unwrap_err();
    assert!(matches!(&error, Error::Io { path, action: "open", .. } if *path == left), "{error}");
    let device = TensorFile::open("/dev/zero").unwrap_err();
    assert!(matches!(device, Error::Path { .. }), "{device}");
}

#[test]
fn a_file_larger_than_allowed_is_not_read() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("large");
    fs::write(&path, bytes("{}", 0)).unwrap();
    assert!(TensorFile::open_at_most(&path, 10).is_ok());
    let error = TensorFile::open_at_most(&path, 9).unwrap_err();
    assert!(error.to_string().ends_with("found 10 bytes, more than the 9 allowed here"), "{error}");
}

#[test]
fn no_cut_and_no_changed_byte_of_a_good_file_makes_a_panic() {
    let good = bytes(&format!("{{\"__metadata__\":{{\"case\":\"{{}}\"}},{}", &two("[0,2]", "[2,4]")[1..]), 4);
    assert!(TensorFile::from_bytes("good", &good).is_ok());
    for length in 0..good.len() {
        assert!(TensorFile::from_bytes("cut", &good[..length]).is_err(), "{length} bytes");
    }
    for place in 0..good.len() {
        for byte in [0, 1, b'"', b'0', b'9', b'{', b']', 0x7F, 0xFF] {
            let mut changed = good.clone();
            changed[place] = byte;
            if let Ok(file) = TensorFile::from_bytes("changed", &changed) {
                file.names().for_each(|name| drop(file.tensor(name)));
            }
        }
    }
}
