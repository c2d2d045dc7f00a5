//! Texts of many chunks: borders, cuts, flushes, several sequences, statistics.     STR-1 … STR-6, BAT-1, STA-1 … STA-3

use fwpkm_spec::case::Operation;

use crate::vectors::draw::Grid;
use crate::vectors::entry::{Entry, Folder, Least, Queries, entry};

/// Calls whose ends meet no border of C = 5, L = 2.
const CUTS: &[usize] = &[7, 1, 9, 6];
/// Margins along a run whose sub-keys move.
const MOVING: Least = Least { set: 0.08, relative: 0.03, order: 0.02, near: None };

pub(super) fn entries() -> Vec<Entry> {
    let mut entries = dropped();
    entries.extend(carried());
    entries.extend(by_call());
    entries.extend(readings());
    entries.extend(operations());
    entries.extend(long());
    entries
}

/// Sub-keys that stay, and a moderate step: errors of bf16 tables do not grow.
fn still(entry: Entry) -> Entry {
    entry.set(|s| (s.addressing_weight, s.learning_rate) = (0.0, 0.25))
}

/// Sub-keys that move.
fn moving(entry: Entry) -> Entry {
    entry.set(|s| (s.addressing_weight, s.learning_rate) = (1.0, 0.25)).least(MOVING)
}

/// H = 1, n = 5, `d_k` = 4, `d_v` = 6, k = 3; queries near the sub-keys, so that slots are read again
fn small(entry: Entry) -> Entry {
    entry.memory(1, 5, 4, 6, 3).near(12)
}

/// Sub-keys that stay, large steps, and targets far from what the few slots read hold
fn rereading(entry: Entry) -> Entry {
    still(entry).memory(1, 6, 4, 5, 2).run(&[]).set(|s| s.learning_rate = 0.5).draw(|inputs| {
        inputs.queries = Queries::Near { first: 2, offset: Grid { most: 8, unit: 0.03125 } };
        inputs.values = Grid { most: 128, unit: 0.0625 };
    })
}

fn dropped() -> Vec<Entry> {
    let cut = |entry: Entry| small(entry).drop(5, 2).text(1, 23).run(CUTS);
    vec![
        still(cut(entry(
            "str_1_drop_cut",
            &["STR-1", "STR-2", "CHK-1", "CHK-2"],
            "Border drop: calls of 7, 1, 9 and 6 tokens, chunks of 5, a tail of 3.",
        ))),
        moving(cut(entry("str_1_drop_cut_moving", &["STR-1", "STR-2", "CHK-2"], "The same with sub-keys that move."))),
        still(small(entry(
            "str_2_tail_flushed",
            &["STR-2", "STR-4", "CHK-3"],
            "Border drop in one call: the flush closes a tail of 4 tokens, one of which has a target.",
        )))
        .drop(6, 3)
        .text(1, 22)
        .run(&[]),
        still(small(entry(
            "str_2_tail_open",
            &["STR-2", "STR-4"],
            "Border drop without a flush: the tail of 4 tokens takes no step.",
        )))
        .drop(6, 3)
        .text(1, 22)
        .run(&[])
        .unflushed(),
        still(entry(
            "str_2_tail_without_pairs",
            &["STR-2", "CHK-3", "STR-4"],
            "The tail is no longer than the lookahead: decay alone acts on the slots.",
        ))
        .memory(3, 4, 4, 5, 2)
        .near(12)
        .drop(5, 3)
        .text(1, 13)
        .run(&[])
        .set(|s| s.weight_decay = 0.375),
        moving(entry(
            "str_2_no_lookahead",
            &["STR-2", "CHK-1"],
            "Border drop with L = 0, three heads; the text ends with a chunk.",
        ))
        .memory(3, 4, 4, 5, 2)
        .near(12)
        .drop(4, 0)
        .text(1, 12)
        .run(&[3, 9]),
    ]
}

fn carried() -> Vec<Entry> {
    let cut = |entry: Entry| small(entry).carry(5, 2).text(1, 23).run(CUTS).only(Folder::Paper);
    vec![
        still(cut(entry(
            "str_1_carry_cut",
            &["STR-1", "STR-3", "CHK-1"],
            "Border carry: calls of 7, 1, 9 and 6 tokens, chunks of 5, the flush takes 1 query.",
        ))),
        moving(cut(entry("str_1_carry_cut_moving", &["STR-1", "STR-3", "CHK-2"], "The same with sub-keys that move."))),
        still(small(entry(
            "str_3_carry",
            &["STR-3", "STR-4", "CHK-1"],
            "Border carry in one call: queued queries are read again with the current tables.",
        )))
        .carry(4, 1)
        .text(1, 19)
        .run(&[]),
        still(small(entry(
            "str_3_carry_open",
            &["STR-3", "STR-4"],
            "Border carry without a flush: queries that have a target stay queued.",
        )))
        .carry(4, 1)
        .text(1, 20)
        .run(&[])
        .unflushed(),
        moving(small(entry(
            "str_3_no_lookahead",
            &["STR-3", "CHK-2"],
            "Border carry with L = 0: the step follows the chunk's last token.",
        )))
        .carry(4, 0)
        .text(1, 15)
        .run(&[6, 9]),
        still(small(entry(
            "str_3_long_lookahead",
            &["STR-3", "STR-4"],
            "L = 7 is more than C = 4: queries wait for several steps.",
        )))
        .carry(4, 7)
        .text(1, 22)
        .run(&[])
        .only(Folder::Paper),
        rereading(entry(
            "str_3_second_reading",
            &["STR-3", "CHK-1"],
            "L = C and large steps on few slots: losses and gradients are those of the second reading.",
        ))
        .carry(4, 4)
        .text(1, 25),
        rereading(entry(
            "str_3_second_reading_late",
            &["STR-3", "CHK-2"],
            "L = 7 is more than C = 3: between the two readings of a query lie several steps.",
        ))
        .carry(3, 7)
        .text(1, 22)
        .only(Folder::Paper),
        moving(entry("str_3_heads", &["STR-3", "BAT-1"], "Border carry, three heads, gates and a mask."))
            .memory(3, 4, 4, 5, 2)
            .near(12)
            .carry(5, 3)
            .text(1, 18)
            .run(&[])
            .gates(&[0.25, 0.5, 1.0])
            .mask(&["110111011101110111"]),
    ]
}

/// The release's rule that a call cuts chunks; under the paper's rules the same calls change nothing.
fn by_call() -> Vec<Entry> {
    vec![
        still(small(entry(
            "str_5_cut",
            &["STR-5", "STR-1", "MEM-3"],
            "stream_count: calls of 7, 1, 9 and 6 tokens cut the chunks, and N_i counts a slice.",
        )))
        .carry(5, 2)
        .text(1, 23)
        .run(CUTS)
        .set(|s| s.learning_rate = 0.25),
        still(small(entry(
            "str_5_by_token",
            &["STR-5", "STR-1", "MEM-4"],
            "stream_count: token by token, so that slots are written whose N_i is 0.",
        )))
        .carry(3, 2)
        .text(1, 11)
        .run(&[1; 11])
        .set(|s| s.learning_rate = 0.25),
        still(small(entry(
            "str_5_mask",
            &["STR-5", "MEM-4"],
            "stream_count with a mask: S counts unmasked pairs of the queue.",
        )))
        .carry(4, 3)
        .text(2, 18)
        .run(&[5, 6, 7])
        .mask(&["011011101101110110", "110110111011011101"]),
        moving(entry(
            "str_5_heads",
            &["STR-5", "BAT-1", "ADR-2"],
            "stream_count with three heads, three sequences and moving sub-keys.",
        ))
        .memory(3, 4, 4, 5, 2)
        .near(12)
        .carry(5, 1)
        .text(3, 14)
        .run(&[8, 6])
        .set(|s| s.learning_rate = 0.125),
    ]
}

fn readings() -> Vec<Entry> {
    let again = |entry: Entry| small(entry).drop(7, 2).text(1, 21).run(&[7, 7, 7]).draw(|inputs| inputs.period = 7);
    vec![
        still(again(entry(
            "str_6_three_readings",
            &["STR-6", "STR-2"],
            "A text of 7 tokens read three times, one step for each reading.",
        )))
        .set(|s| s.learning_rate = 0.5),
        moving(again(entry("str_6_three_readings_moving", &["STR-6", "CHK-2"], "The same with sub-keys that move."))),
        still(small(entry(
            "bat_1_three_sequences",
            &["BAT-1", "STR-2", "CHK-2", "MEM-3"],
            "Three sequences share the tables, border drop.",
        )))
        .drop(4, 1)
        .text(3, 14)
        .run(&[5, 9]),
        still(entry("bat_1_carry", &["BAT-1", "STR-3"], "Five sequences share the tables, border carry."))
            .memory(1, 5, 4, 6, 2)
            .near(12)
            .carry(3, 2)
            .text(5, 11)
            .run(&[]),
        still(entry(
            "sta_collisions",
            &["STA-1", "STA-2", "STA-3", "MEM-3"],
            "Reads crowd on few slots: high collision rate, low coverage.",
        ))
        .memory(1, 6, 4, 5, 2)
        .drop(7, 2)
        .text(1, 21)
        .run(&[])
        .draw(|inputs| inputs.queries = Queries::Near { first: 2, offset: Grid { most: 8, unit: 0.03125 } }),
        still(entry(
            "sta_spread",
            &["STA-1", "STA-2", "STA-3"],
            "Reads spread over 121 slots, few of them read twice; border carry, reads of steps not counted.",
        ))
        .memory(1, 11, 4, 5, 2)
        .carry(6, 1)
        .text(1, 17)
        .run(&[]),
    ]
}

/// What happens between calls.
fn operations() -> Vec<Entry> {
    use Operation::{Flush, ResetQueue, ResetTables};
    let dropped = |entry: Entry| still(small(entry)).drop(5, 2).text(1, 19).run(&[8, 11]);
    let carried = |entry: Entry| still(small(entry)).carry(4, 2).text(1, 19).run(&[7, 12]).only(Folder::Paper);
    vec![
        dropped(entry(
            "bat_2_reset_queue_drop",
            &["BAT-2", "STR-2"],
            "Border drop: after 8 tokens reset_queue discards three, and the next chunk begins at token 8.",
        ))
        .after_calls(&[&[ResetQueue], &[]]),
        carried(entry(
            "bat_2_reset_queue_carry",
            &["BAT-2", "STR-3"],
            "Border carry: after 7 tokens reset_queue discards five queries, some of which had their targets.",
        ))
        .after_calls(&[&[ResetQueue], &[]]),
        dropped(entry(
            "bat_2_reset_tables_drop",
            &["BAT-2", "STR-2"],
            "Border drop: reset_tables in the middle of a chunk, whose step then reads it with the new tables.",
        ))
        .after_calls(&[&[ResetTables], &[]]),
        carried(entry(
            "bat_2_reset_tables_carry",
            &["BAT-2", "STR-3"],
            "Border carry: reset_tables with a queue that stays.",
        ))
        .after_calls(&[&[ResetTables], &[]]),
        moving(dropped(entry(
            "bat_2_resets_moving",
            &["BAT-2", "STR-2"],
            "Both resets, each after another call, with sub-keys that move.",
        )))
        .run(&[8, 6, 5])
        .after_calls(&[&[ResetTables], &[ResetQueue], &[]]),
        dropped(entry(
            "str_4_flush_between",
            &["STR-4", "STR-2", "BAT-2"],
            "Border drop: a flush after 8 tokens closes a short chunk, and the next one begins at token 8.",
        ))
        .after_calls(&[&[Flush], &[]]),
        carried(entry(
            "str_4_flush_between_carry",
            &["STR-4", "STR-3", "BAT-2"],
            "Border carry: a flush after 7 tokens; the two queries without a target stay queued.",
        ))
        .after_calls(&[&[Flush], &[]]),
        still(small(entry(
            "bat_2_texts",
            &["BAT-2", "STR-4", "BAT-1"],
            "Three texts of two sequences, each closed by a flush and reset_queue; the tables live on.",
        )))
        .carry(4, 1)
        .text(2, 17)
        .run(&[6, 5, 6])
        .mask(&["11011110111101101", "01110111011011111"])
        .only(Folder::Paper)
        .after_calls(&[&[Flush, ResetQueue], &[Flush, ResetQueue], &[Flush, ResetQueue]]),
    ]
}

fn long() -> Vec<Entry> {
    vec![
        still(small(entry(
            "long_drop",
            &["STR-2", "CHK-1", "CHK-2", "BAT-1"],
            "Thirteen chunks of border drop and a tail.",
        )))
        .drop(3, 1)
        .text(1, 41)
        .run(&[20, 21]),
        still(small(entry("long_carry", &["STR-3", "CHK-1", "BAT-1"], "Thirteen chunks of border carry.")))
            .carry(3, 2)
            .text(1, 41)
            .run(&[])
            .only(Folder::Paper),
        moving(small(entry(
            "long_moving",
            &["STR-2", "CHK-2", "ADR-6", "ADR-3"],
            "Twelve chunks with sub-keys that move.",
        )))
        .drop(3, 1)
        .text(1, 36)
        .run(&[])
        .set(|s| s.learning_rate = 0.125),
    ]
}
