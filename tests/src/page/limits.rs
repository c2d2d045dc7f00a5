//! What one page can show: more could be neither read nor loaded.

use fwpkm_reference::Settings;

use crate::error::{Error, Result};

/// n
pub const SUB_KEYS: usize = 64;
/// k
pub const TOP_K: usize = 16;
/// H·k
pub const SLOTS_PER_TOKEN: usize = 64;
/// `d_k`
pub const KEY_DIM: usize = 128;
/// `d_v`
pub const VALUE_DIM: usize = 64;
/// B·T·H
pub const ROWS: usize = 2048;
/// Bytes of the page.
pub const BYTES: usize = 16 << 20;

/// Refuses a run that a page cannot show, before it is made.
///
/// # Errors   `Error::Usage` with what was given and what is allowed
pub fn check(settings: &Settings, sequences: usize, tokens: usize) -> Result<()> {
    let Settings { heads, sub_keys, key_dim, value_dim, top_k, .. } = *settings;
    let rows = sequences.saturating_mul(tokens).saturating_mul(heads);
    let rows_in_words = format!("{sequences} sequences · {tokens} tokens · {heads} heads");
    let all = [
        ("sub_keys", sub_keys, SUB_KEYS),
        ("top_k", top_k, TOP_K),
        ("heads · top_k", heads.saturating_mul(top_k), SLOTS_PER_TOKEN),
        ("key_dim", key_dim, KEY_DIM),
        ("value_dim", value_dim, VALUE_DIM),
        (rows_in_words.as_str(), rows, ROWS),
    ];
    all.into_iter().try_for_each(|(what, given, most)| at_most(what, given, most))?;
    if rows == 0 {
        return Err(Error::Usage { reason: "the run has no tokens; a page shows 1 or more".into() });
    }
    Ok(())
}

/// Refuses a page that a browser would be slow to load.
///
/// # Errors   `Error::Usage`
pub fn check_page(page: &str) -> Result<()> {
    at_most("the page's size in bytes", page.len(), BYTES)
}

fn at_most(what: &str, given: usize, most: usize) -> Result<()> {
    if given <= most {
        return Ok(());
    }
    Err(Error::Usage { reason: format!("{what} is {given}; a page shows at most {most}: trace a smaller run") })
}
