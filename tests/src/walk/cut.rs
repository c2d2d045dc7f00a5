//! Events as other orders have them.                                              STR-1, CHK-1, CHK-3

use super::{Due, Event, Order};
use crate::error::Result;
use crate::run::Plan;

/// The events of a run in an order.
///
/// # Errors   settings or rules out of range
pub(super) fn events(plan: &Plan, tokens: usize, order: Order) -> Result<Vec<Event>> {
    match order {
        Order::CallsApart => apart(plan, tokens, true),
        Order::QueueLost => apart(plan, tokens, false),
        Order::OneTokenLate => Ok(one_token_late(super::events(plan, tokens)?)),
        Order::OnlyWithPairs => {
            let lookahead = plan.settings.lookahead;
            let paired = |due: &Due| due.values_to > due.queries.start + lookahead;
            let all = super::events(plan, tokens)?.into_iter();
            Ok(all.filter(|event| !matches!(event, Event::Step(due) if !paired(due))).collect())
        }
        _ => super::events(plan, tokens),
    }
}

/// Every call by itself
fn apart(plan: &Plan, tokens: usize, flush: bool) -> Result<Vec<Event>> {
    let mut all = Vec::new();
    let mut start = 0;
    let calls = plan.each_call(tokens);
    let last = calls.len().saturating_sub(1);
    for (number, (call, operations)) in calls.into_iter().enumerate() {
        let flush = if number == last { plan.flush } else { flush };
        let one = Plan { calls: None, after_calls: vec![operations.to_vec()], flush, ..plan.clone() };
        let here = |range: std::ops::Range<usize>| range.start + start..range.end + start;
        all.extend(super::events(&one, call)?.into_iter().map(|event| match event {
            Event::Call | Event::ResetTables => event,
            Event::Read(range) => Event::Read(here(range)),
            Event::Step(Due { queries, values_to, counted }) => {
                Event::Step(Due { queries: here(queries), values_to: values_to + start, counted: here(counted) })
            }
        }));
        start += call;
    }
    Ok(all)
}

/// Each step after the first token that follows it
fn one_token_late(events: Vec<Event>) -> Vec<Event> {
    let mut late = Vec::new();
    let mut waiting = Vec::new();
    for event in events {
        match event {
            Event::Step(_) => waiting.push(event),
            Event::Read(range) if !range.is_empty() && !waiting.is_empty() => {
                late.push(Event::Read(range.start..range.start + 1));
                late.append(&mut waiting);
                if range.len() > 1 {
                    late.push(Event::Read(range.start + 1..range.end));
                }
            }
            other => late.push(other),
        }
    }
    late.append(&mut waiting);
    late
}
