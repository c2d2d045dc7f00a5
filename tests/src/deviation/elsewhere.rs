//! Whole ports, as far as they can be said in terms of the stages.

use fwpkm_reference::Rules;
use fwpkm_reference::settings::{Activation, WeightsOver};

use super::{Change, Deviation, Fault, PORTS, RELEASE, pairs, project};
use crate::walk::Order;

pub(super) const LIST: &[Deviation] = &[
    Deviation {
        name: "mem-4-rules-of-the-release",
        clause: "MEM-4",
        instead: "the release's rules throughout, the factors of MEM-4 among them",
        source: RELEASE,
        change: Change::Rules(|rules| *rules = Rules::release()),
    },
    Deviation {
        name: "bat-1-package-on-pypi",
        clause: "BAT-1",
        instead: "as fast-weight-product-key-memory 0.2.2: tables of each sequence, a softmax of each head, targets that \
            wrap around, memorization gradient to the sub-keys, addressing weight 10, LayerNorm for the z-score",
        source: PORTS,
        change: Change::Several(&[
            Change::Order(Order::TablesPerSequence),
            Change::Settings(|settings| {
                if settings.activation == Activation::Softmax {
                    settings.weights_over = WeightsOver::EachHead;
                }
                settings.memory_gradient_to_sub_keys = true;
                settings.addressing_weight = 10.0;
            }),
            Change::Stage(Fault::Project(project::Fault::ValueLayerNorm)),
            Change::Stage(Fault::Pairs(pairs::Fault::Wrapped)),
        ]),
    },
];
