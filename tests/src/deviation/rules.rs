//! Other readings of the text than the run's, whatever it follows.

use fwpkm_reference::rules::{Kept, PairFactor, ReadFactor, StreamCount, SubKeyLoss, ZScore};

use super::{Change, Deviation, PAPER, RELEASE, SLIP};

macro_rules! rules {
    ($($name:literal $clause:literal $instead:literal $source:ident $change:expr;)+) => {
        pub(super) const LIST: &[Deviation] = &[$(Deviation {
            name: $name,
            clause: $clause,
            instead: $instead,
            source: $source,
            change: Change::Rules($change),
        }),+];
    };
}

rules! {
    "prj-3-population" "PRJ-3"
        "the z-score divides the squares by all features where PRJ-3 divides by one less" SLIP
        |r| r.z_score = ZScore::Population;
    "prj-3-sample" "PRJ-3"
        "the z-score divides the squares by one less than all features where PRJ-3 divides by all" PAPER
        |r| r.z_score = ZScore::Sample;
    "mem-4-slots-per-token" "MEM-4"
        "the value step has the factor k·H where MEM-4 has none" RELEASE
        |r| r.read_factor = ReadFactor::SlotsPerToken;
    "mem-4-no-read-factor" "MEM-4"
        "the value step lacks the factor k·H of MEM-4" PAPER
        |r| r.read_factor = ReadFactor::One;
    "mem-4-samples-per-pair" "MEM-4"
        "the value step has the factor S/(B·pairs) where MEM-4 has none" RELEASE
        |r| r.pair_factor = PairFactor::SamplesPerPair;
    "mem-4-no-pair-factor" "MEM-4"
        "the value step lacks the factor S/(B·pairs) of MEM-4" PAPER
        |r| r.pair_factor = PairFactor::One;
    "mem-4-both-factors" "MEM-4"
        "the value step has the factors k·H and S/(B·pairs) where MEM-4 has none" RELEASE
        |r| (r.read_factor, r.pair_factor) = (ReadFactor::SlotsPerToken, PairFactor::SamplesPerPair);
    "mem-6-mean-of-pairs" "MEM-6"
        "the sub-keys get the gradient of a mean over pairs and features where MEM-6 has the sum" RELEASE
        |r| r.sub_key_loss = SubKeyLoss::Mean;
    "mem-6-sum-of-pairs" "MEM-6"
        "the sub-keys get the gradient of a sum where MEM-6 has the mean over pairs and features" PAPER
        |r| r.sub_key_loss = SubKeyLoss::Sum;
    "adr-1-ties-kept" "ADR-1"
        "all sub-keys that score as the k-th best are kept where ADR-1 keeps k" RELEASE
        |r| r.kept = Kept::Ties;
    "adr-1-exactly-k" "ADR-1"
        "k sub-keys are kept where ADR-1 keeps all that score as the k-th best" PAPER
        |r| r.kept = Kept::TopK;
    "adr-3-constant-of-1e-8" "ADR-3"
        "1e-8 is added inside the logarithm where ADR-3 adds nothing" RELEASE
        |r| r.log_epsilon = 1e-8;
    "adr-3-no-constant" "ADR-3"
        "nothing is added inside the logarithm where ADR-3 adds log_epsilon" PAPER
        |r| r.log_epsilon = 0.0;
    "str-1-chunks-of-the-calls" "STR-1"
        "chunks are cut by the calls, whose slices N_i counts, where STR-1 cuts from the start of the text" RELEASE
        |r| r.stream_count = StreamCount::Call;
    "str-5-chunks-of-the-text" "STR-5"
        "chunks are cut from the start of the text where STR-5 cuts them by the calls" PAPER
        |r| r.stream_count = StreamCount::Chunk;
}
