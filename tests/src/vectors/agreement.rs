//! Whether a certificate's numbers are those that another machine gives.
//!
//! ```text
//!                  judged stage by stage    by replay, and of gradients
//! bounds           2 %                      a factor of 4 in F32, of 16 in F64
//! margins          2 + 2 %                  a factor of 4
//! ```
//!
//! Replay draws rounding from the digits of each number, so that a logarithm that differs in the last bit draws it anew; drawn
//! anew here, bounds changed by factors up to 2.2 and 7.2, margins up to 2.5. Stage by stage nothing is drawn: 2 % are the three
//! digits of what is stated, 2 bounds what rounding in f32 may move a result. A deviation without a margin counts as one of 1.

use std::collections::{BTreeMap, BTreeSet};

use fwpkm_spec::certificate::{Bounds, Separates};

/// What may differ by machine of numbers that nothing was drawn for.
const DIGITS: f64 = 0.02;

/// What is stated otherwise of the bounds, if anything is.
pub(super) fn of_bounds(found: &Bounds, expected: &Bounds, in_one_step: bool) -> Option<String> {
    let names: BTreeSet<&String> = found.keys().chain(expected.keys()).collect();
    let none = BTreeMap::new();
    names.into_iter().find_map(|name| {
        let (found, expected) = (found.get(name).unwrap_or(&none), expected.get(name).unwrap_or(&none));
        let types: BTreeSet<&String> = found.keys().chain(expected.keys()).collect();
        types.into_iter().find_map(|of| {
            // Gradients are judged by replay wherever they are.
            let factor = match (in_one_step && !name.starts_with("grad."), of.as_str()) {
                (true, _) => 1.0 + DIGITS,
                (false, "F64") => 16.0,
                (false, _) => 4.0,
            };
            let said = |text: String| Some(format!("its bound of {name} in {of} {text}"));
            match (found.get(of), expected.get(of)) {
                (Some(found), Some(expected)) if found.max(*expected) <= factor * found.min(*expected) => None,
                (Some(found), Some(expected)) => said(format!("is {found:e}, where {expected:e} is found")),
                (Some(_), None) => said("is of numbers that cannot all be judged".into()),
                (None, Some(expected)) => said(format!("is not stated; found is {expected:e}")),
                (None, None) => None,
            }
        })
    })
}

/// What is stated otherwise of the margins, if anything is.
pub(super) fn of_margins(found: &Separates, expected: &Separates, in_one_step: bool) -> Option<String> {
    let names: BTreeSet<&String> = found.keys().chain(expected.keys()).collect();
    names.into_iter().find_map(|name| {
        let (found, expected) = (found.get(name), expected.get(name));
        let same = match (margin(found), margin(expected)) {
            (Some(found), Some(expected)) => {
                let (more, less) = (found.max(expected), found.min(expected));
                let in_one_step = in_one_step && !name.starts_with("grd-");
                if in_one_step { more - less <= 2.0 + DIGITS * more } else { more <= 4.0 * less }
            }
            (found, expected) => found == expected,
        };
        (!same).then(|| format!("its margin of {name} is {}, where {} is found", said(found), said(expected)))
    })
}

/// None for one without bound.
fn margin(stated: Option<&Option<f64>>) -> Option<f64> {
    stated.map_or(Some(1.0), |margin| *margin)
}

fn said(stated: Option<&Option<f64>>) -> String {
    match stated {
        None => "not stated".into(),
        Some(None) => "null".into(),
        Some(Some(margin)) => margin.to_string(),
    }
}
