//! The page as a file: text from others in it, runs that are refused, files that stay.

use std::process::{Command, Output};

use fwpkm::page::{example, limits, page};
use fwpkm_reference::{Rules, Settings};
use fwpkm_spec::{Tensor, TensorFile, tensor_file};
use tempfile::TempDir;

use super::release;

fn fwpkm<A: AsRef<std::ffi::OsStr>>(arguments: &[A]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_fwpkm")).arg("trace").args(arguments).output().unwrap()
}

#[test]
fn text_from_files_is_escaped() {
    let folder = TempDir::new().unwrap();
    let hostile = "</title></style><script>alert(1)</script><b data-x='1' data-y=\"2\">&amp;";
    let file = TensorFile::open(release().join("base.safetensors")).unwrap();
    let mut metadata = file.metadata().clone();
    metadata.insert("source".into(), hostile.into());
    let tensors: Vec<(String, Tensor)> =
        file.names().map(|name| (name.to_string(), file.tensor(name).unwrap())).collect();
    let path = folder.path().join("a<b>&'.safetensors");
    tensor_file::write(&path, &metadata, &tensors).unwrap();
    let html = folder.path().join("page.html");
    let output = fwpkm(&[path.as_os_str(), "--html".as_ref(), html.as_os_str()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let page = std::fs::read_to_string(html).unwrap();
    assert!(!page.contains("alert(1)</script>") && !page.contains("<b data-x"), "not escaped");
    assert_eq!(page.matches("<script>").count(), 1);
    assert_eq!(page.matches("</style>").count(), 1);
    assert!(
        page.contains(
            "&lt;script&gt;alert(1)&lt;/script&gt;&lt;b data-x=&#39;1&#39; data-y=&quot;2&quot;&gt;&amp;amp;"
        )
    );
    assert!(page.contains("<title>FwPKM step by step: a&lt;b&gt;&amp;&#39;.safetensors</title>"));
}

/// Each limit at its last size and one above.
#[test]
fn runs_too_large_for_a_page_are_refused_by_name() {
    let small = Settings {
        heads: 1,
        sub_keys: limits::SUB_KEYS,
        key_dim: limits::KEY_DIM,
        value_dim: limits::VALUE_DIM,
        top_k: limits::TOP_K,
        ..Settings::paper()
    };
    limits::check(&small, 1, limits::ROWS).unwrap();
    let refused = |settings: Settings, sequences: usize, tokens: usize, named: &str| {
        let error = limits::check(&settings, sequences, tokens).unwrap_err().to_string();
        assert!(error.contains(named), "{error}");
    };
    let of = small.clone();
    refused(Settings { sub_keys: 65, ..of.clone() }, 1, 1, "sub_keys is 65; a page shows at most 64");
    refused(Settings { top_k: 17, ..of.clone() }, 1, 1, "top_k is 17; a page shows at most 16");
    refused(Settings { heads: 5, ..of.clone() }, 1, 1, "heads · top_k is 80; a page shows at most 64");
    refused(Settings { key_dim: 130, ..of.clone() }, 1, 1, "key_dim is 130; a page shows at most 128");
    refused(Settings { value_dim: 65, ..of.clone() }, 1, 1, "value_dim is 65; a page shows at most 64");
    refused(of.clone(), 1, 2049, "1 sequences · 2049 tokens · 1 heads is 2049; a page shows at most 2048");
    refused(Settings { heads: 2, ..of.clone() }, 32, 33, "a page shows at most 2048");
    refused(of.clone(), usize::MAX, 2, "a page shows at most 2048");
    refused(of, 1, 0, "no tokens");
    limits::check_page(&"x".repeat(limits::BYTES)).unwrap();
    assert!(limits::check_page(&"x".repeat(limits::BYTES + 1)).is_err());
}

#[test]
fn a_failing_run_leaves_an_existing_file_alone() {
    let folder = TempDir::new().unwrap();
    let html = folder.path().join("page.html");
    std::fs::write(&html, "mine").unwrap();
    // 192 tokens of n = 48: the page itself would be too large.
    let large = release().join("mid_scale.safetensors");
    let missing = folder.path().join("missing.safetensors");
    let rules = folder.path().join("missing.toml");
    let base = release().join("base.safetensors");
    for arguments in [
        vec![large.as_os_str()],
        vec![missing.as_os_str()],
        vec![base.as_os_str(), "--rules".as_ref(), rules.as_os_str()],
    ] {
        let output = fwpkm(&[arguments, vec!["--html".as_ref(), html.as_os_str()]].concat());
        assert_eq!(output.status.code(), Some(2));
        assert!(!output.stderr.is_empty() && output.stdout.is_empty());
        assert_eq!(std::fs::read_to_string(&html).unwrap(), "mine");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "something else was left in the folder");
    }
    let nowhere = folder.path().join("no/such/folder/page.html");
    let output = fwpkm(&["--html".as_ref(), nowhere.as_os_str()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("page.html"));
    let output = fwpkm(&["--html".as_ref(), folder.path().as_os_str()]);
    assert_eq!(output.status.code(), Some(2), "a folder is no file to write");
}

#[test]
fn without_a_case_the_example_is_shown_under_any_rules() {
    let folder = TempDir::new().unwrap();
    let html = folder.path().join("page.html");
    std::fs::write(&html, "old").unwrap();
    let output = fwpkm(&["--html".as_ref(), html.as_os_str()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("24 tokens, 3 steps"));
    let written = std::fs::read_to_string(&html).unwrap();
    assert_eq!(written, page(&example(None).unwrap()).unwrap());
    assert!(written.contains("Rules: the paper&#39;s") || written.contains("Rules: the paper's"));
    let output =
        fwpkm(&["--json".as_ref(), "--rules".as_ref(), "release".as_ref(), "--html".as_ref(), html.as_os_str()]);
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&document["tokens"], &document["steps"]), (&24.into(), &3.into()));
    let written = std::fs::read_to_string(&html).unwrap();
    assert_eq!(document["bytes"], written.len());
    assert_eq!(written, page(&example(Some(&Rules::release())).unwrap()).unwrap());
}
