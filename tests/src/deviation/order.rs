//! Other orders of reading and writing, other operations between calls.               CHK, STR, BAT-1, BAT-2

use fwpkm_spec::case::Operation::{self, Flush, ResetQueue, ResetTables};

use super::{Change, Deviation, PORTS, RELEASE, SLIP};
use crate::walk::Order;

const fn ordered(
    name: &'static str,
    clause: &'static str,
    instead: &'static str,
    source: &'static str,
    order: Order,
) -> Deviation {
    Deviation { name, clause, instead, source, change: Change::Order(order) }
}

const fn operating(
    name: &'static str,
    clause: &'static str,
    instead: &'static str,
    change: fn(Operation) -> &'static [Operation],
) -> Deviation {
    Deviation { name, clause, instead, source: SLIP, change: Change::Operation(change) }
}

pub(super) const LIST: &[Deviation] = &[
    ordered(
        "chk-1-write-before-read",
        "CHK-1",
        "tokens of a chunk are read after its step where CHK-1 reads them before",
        SLIP,
        Order::WriteBeforeRead,
    ),
    ordered(
        "chk-1-one-token-late",
        "CHK-1",
        "the first token after a step reads the tables from before it where CHK-1 reads those after",
        SLIP,
        Order::OneTokenLate,
    ),
    ordered(
        "chk-1-one-chunk-late",
        "CHK-1",
        "a step takes effect one chunk later where CHK-1 reads the tables after all steps that came before",
        SLIP,
        Order::OneChunkLate,
    ),
    ordered(
        "chk-1-at-the-end",
        "CHK-1",
        "all steps take effect after the text where CHK-1 reads with those that came before",
        PORTS,
        Order::AtTheEnd,
    ),
    ordered(
        "chk-2-sub-keys-first",
        "CHK-2",
        "slot values follow from a reading after the sub-keys moved, where CHK-2 takes both steps from one",
        SLIP,
        Order::SubKeysFirst,
    ),
    ordered(
        "chk-2-slot-values-first",
        "CHK-2",
        "sub-keys follow from a reading after the slot values moved, where CHK-2 takes both steps from one",
        SLIP,
        Order::SlotValuesFirst,
    ),
    ordered(
        "chk-3-no-step-without-pairs",
        "CHK-3",
        "a chunk without pairs takes no step at all where CHK-3 has decay and addressing act",
        SLIP,
        Order::OnlyWithPairs,
    ),
    ordered(
        "str-1-calls-apart",
        "STR-1",
        "every call is a text of its own, closed by a flush, where STR-1 counts chunks over calls",
        RELEASE,
        Order::CallsApart,
    ),
    ordered(
        "str-1-queue-lost-between-calls",
        "STR-1",
        "tokens queued at the end of a call are lost where STR-1 keeps them",
        SLIP,
        Order::QueueLost,
    ),
    ordered(
        "str-3-first-reading",
        "STR-3",
        "a pair keeps the reading of when its query was fed where STR-3 reads it again",
        SLIP,
        Order::FirstReading,
    ),
    Deviation {
        name: "str-4-no-flush",
        clause: "STR-4",
        instead: "the tokens after the last whole chunk are never written where STR-4 closes it",
        source: SLIP,
        change: Change::Plan(|plan| plan.flush = false),
    },
    operating(
        "str-4-flush-only-at-the-end",
        "STR-4",
        "a flush before the last call does nothing where STR-4 closes what is open",
        |operation| match operation {
            Flush => &[],
            ResetQueue => &[ResetQueue],
            ResetTables => &[ResetTables],
        },
    ),
    ordered(
        "bat-1-tables-per-call",
        "BAT-1",
        "every call begins with the initial tables where BAT-1 keeps them",
        SLIP,
        Order::TablesPerCall,
    ),
    ordered(
        "bat-1-tables-per-sequence",
        "BAT-1",
        "every sequence has tables of its own where BAT-1 has one pair for all",
        PORTS,
        Order::TablesPerSequence,
    ),
    ordered(
        "bat-1-sequences-in-turn",
        "BAT-1",
        "sequences are read one after the other where BAT-1 steps over all at once",
        SLIP,
        Order::SequencesInTurn,
    ),
    operating(
        "bat-2-queue-kept",
        "BAT-2",
        "what is queued stays and is written later where BAT-2's reset_queue discards it",
        |operation| match operation {
            Flush => &[Flush],
            ResetQueue => &[],
            ResetTables => &[ResetTables],
        },
    ),
    operating(
        "bat-2-queue-flushed",
        "BAT-2",
        "what is queued is written first where BAT-2's reset_queue discards it",
        |operation| match operation {
            Flush => &[Flush],
            ResetQueue => &[Flush, ResetQueue],
            ResetTables => &[ResetTables],
        },
    ),
    operating(
        "bat-2-queue-with-tables",
        "BAT-2",
        "reset_tables empties the queue as well where BAT-2 keeps it",
        |operation| match operation {
            Flush => &[Flush],
            ResetQueue => &[ResetQueue],
            ResetTables => &[ResetTables, ResetQueue],
        },
    ),
    operating(
        "bat-2-tables-with-queue",
        "BAT-2",
        "reset_queue sets the tables to the initial ones as well where BAT-2 keeps them",
        |operation| match operation {
            Flush => &[Flush],
            ResetQueue => &[ResetQueue, ResetTables],
            ResetTables => &[ResetTables],
        },
    ),
    operating(
        "bat-2-tables-kept",
        "BAT-2",
        "reset_tables leaves the tables as they are where BAT-2 sets them",
        |operation| match operation {
            Flush => &[Flush],
            ResetQueue => &[ResetQueue],
            ResetTables => &[],
        },
    ),
];
