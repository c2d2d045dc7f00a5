//! The CUDA kernels, run by the emulator, against the interpreter: judged as any implementation, and refusing what it refuses.

use fwpkm_gpu::emulator::Emulator;
use fwpkm_gpu::{Memory, Variant};
use fwpkm_reference::Error as MemoryError;
use fwpkm_reference::rules::StreamCount;
use fwpkm_reference::settings::Border;

use super::bytes::Range;
use super::judge::Judge;
use super::scene::{Scene, Text as SceneText, cast_tables};
use crate::backend::{DECLARED, VARIANT, run};
use crate::error::{Error, Result};
use crate::implementation::Implementation;
use crate::judge::{Check, Verdict, judge};
use crate::lockstep::cases;
use crate::numbers::Numbers;
use crate::problem::{Problem, Text, Tokens, swapped};
use crate::run::Plan;

/// A scene as a case, fed in these calls, or in one, and flushed.
pub(super) fn problem(scene: &Scene, calls: Option<Vec<usize>>) -> Problem {
    let SceneText { queries, values, gates, mask } = &scene.text;
    let (sequences, tokens) = scene.text.shape();
    let text = Text::Memory(Tokens {
        queries: swapped(queries),
        values: swapped(values),
        gates: gates.as_ref().map(swapped),
        mask: mask.as_ref().map(swapped),
    });
    let (settings, rules) = (scene.settings.clone(), scene.rules.clone());
    let plan = Plan { rules, calls, trace: true, ..Plan::one_call(settings) };
    let tables = scene.tables.clone();
    Problem {
        name: "scene".into(),
        clauses: Vec::new(),
        plan,
        sequences,
        tokens,
        text,
        tables,
        projection: None,
        cotangents: None,
    }
}

/// What the kernels give is inside the bounds of f32; what the interpreter refuses, they refuse.     NUM-2 … NUM-7, NUM-11
///
/// # Panics
/// Where it is not.
pub(super) fn kernels_hold(scene: &Scene, calls: Option<Vec<usize>>) {
    case_holds(&Judge::new::<f32>(scene), &problem(scene, calls), scene.range);
}

/// Every chunk of a scene as a case of its own, with the interpreter's tables of its moment.                            NUM-11
pub(super) fn lockstep_holds(scene: &Scene) {
    // Rule stream_count = call and numbers that overflow have no such cases.
    for case in cases(&problem(scene, None)).unwrap_or_default() {
        case_holds(&Judge::new::<f32>(scene), &case, scene.range);
    }
}

fn case_holds(judged: &Judge, problem: &Problem, range: Range) {
    let problem = problem.rounded(Numbers::F32);
    let overflow = |error: &MemoryError| matches!(error, MemoryError::Diverged { .. });
    match (refused(&problem), run(Emulator::new(7), &problem, VARIANT)) {
        // Beyond the limits of the kernels.
        (_, Err(Error::NotApplicable { .. })) => {}
        (None, Ok(outputs)) => {
            let Ok(judgement) = judge(&problem, &Implementation::specification(), DECLARED, &outputs) else { return };
            let findings: Vec<&Check> = judgement.findings().collect();
            judged.claim("NUM-11", judgement.verdict() != Verdict::Differs, || {
                format!("the kernels differ in {}: {findings:#?}", problem.name)
            });
        }
        // What overflows first may differ, and whether anything does only where numbers are of any size.
        (Some(expected), Err(Error::Reference(found))) if overflow(&expected) && overflow(&found) => {}
        (None, Err(Error::Reference(found))) if overflow(&found) && range != Range::Small => {}
        (Some(expected), Ok(_)) if overflow(&expected) && range != Range::Small => {}
        (expected, found) => {
            // As texts, in which NaN is NaN.
            let (one, other) =
                (expected.as_ref().map(MemoryError::to_string), found.as_ref().err().map(Error::to_string));
            let same = one == other;
            let found = found.map(|_| "outputs");
            judged
                .claim("NUM-7", same, || format!("the kernels give {found:?}, the interpreter refuses: {expected:?}"));
        }
    }
}

/// Why the interpreter refuses a case in f32, if it does
fn refused(problem: &Problem) -> Option<MemoryError> {
    let Text::Memory(text) = &problem.text else { return None };
    let text = SceneText {
        queries: swapped(&text.queries),
        values: swapped(&text.values),
        gates: text.gates.as_ref().map(swapped),
        mask: text.mask.as_ref().map(swapped),
    };
    let Plan { settings, rules, calls, .. } = &problem.plan;
    let calls = calls.clone().unwrap_or_else(|| vec![problem.tokens]);
    let tables = cast_tables(&problem.tables);
    let mut memory = match fwpkm_reference::Memory::<f32>::new(settings.clone(), rules.clone(), tables) {
        Ok(memory) => memory,
        Err(error) => return Some(error),
    };
    let mut from = 0;
    let text = text.cast::<f32>();
    calls
        .into_iter()
        .try_for_each(|call| {
            from += call;
            memory.feed(&text.part(from - call, from).tokens()).map(|_| ())
        })
        .and_then(|()| if problem.plan.flush { memory.flush().map(|_| ()) } else { Ok(()) })
        .err()
}

/// Neither cuts, kernels, schedule nor a state taken at a token show in any bit.                          NUM-8, STR-1, BAT-5
///
/// # Panics
/// Where one does.
pub(super) fn bits_hold(scene: &Scene, calls: &[usize], saved_at: usize) {
    let judged = Judge::new::<f32>(scene);
    let sees_calls = scene.settings.border == Border::Carry && scene.rules.stream_count == StreamCount::Call;
    let fast = run(Emulator::new(11), &problem(scene, Some(calls.to_vec())), VARIANT);
    let once = if sees_calls { calls.to_vec() } else { vec![scene.text.shape().1] };
    let simple = run(Emulator::new(12), &problem(scene, Some(once)), Variant::Simple);
    // A stage that overflows may be another where slices are others.
    if let (Ok(fast), Ok(simple)) = (&fast, &simple) {
        let other = fast.keys().find(|name| fast.get(*name) != simple.get(*name));
        judged.claim("NUM-8", fast.len() == simple.len() && other.is_none(), || format!("{other:?} has other bits"));
    }
    let saved = with_state(scene, calls, saved_at, true);
    let through = with_state(scene, calls, saved_at, false);
    if let (Ok(saved), Ok(through)) = (&saved, &through) {
        judged.claim("BAT-5", saved == through, || "a memory made from its state goes on with other bits".into());
    }
    judged.claim("BAT-5", saved.is_ok() == through.is_ok(), || format!("{saved:?}, not {through:?}"));
}

/// Reads and tables, in bits, of a text in calls that also end at a token; `save`: the memory is made again from its state there.
fn with_state(scene: &Scene, calls: &[usize], at: usize, save: bool) -> Result<Vec<u32>> {
    let text: SceneText<f32> = scene.text.cast();
    let (settings, rules) = (scene.settings.clone(), scene.rules.clone());
    let mut memory = Memory::new(Emulator::new(13), settings, rules, cast_tables(&scene.tables), VARIANT)?;
    let mut bits = Vec::new();
    let mut from = 0;
    for &call in calls {
        let middle = at.clamp(from, from + call);
        for (from, to) in [(from, middle), (middle, from + call)] {
            if save && from == at {
                memory = Memory::from_state(Emulator::new(14), memory.state()?, VARIANT)?;
            }
            let fed = memory.feed(&text.part(from, to).tokens())?;
            bits.extend(fed.reads.iter().map(|x| x.to_bits()));
        }
        from += call;
    }
    memory.flush()?;
    let tables = memory.tables()?;
    bits.extend(tables.sub_keys.iter().chain(&tables.slot_values).map(|x| x.to_bits()));
    Ok(bits)
}
