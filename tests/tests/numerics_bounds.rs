//! Error bounds and selection margins, NUM-2 … NUM-6, NUM-9, NUM-10, stage by stage.
//!
//! Every stage runs in f32 on f32 numbers and in f64 on the very same numbers; f64 stands for exact. Every element must
//! lie inside its bound. A bound that is never nearly reached proves little, so each test also states how close the
//! worst element came: the comment gives the ratio error / bound that was seen, the assertion a lower limit of it.

#[path = "numerics_bounds/all_stages.rs"]
mod all_stages;
#[path = "numerics_bounds/arithmetics.rs"]
mod arithmetics;
#[path = "numerics_bounds/observed.rs"]
mod observed;
#[path = "numerics_bounds/scenes.rs"]
mod scenes;

#[path = "numerics_bounds/addressing.rs"]
mod addressing;
#[path = "numerics_bounds/any_order.rs"]
mod any_order;
#[path = "numerics_bounds/half_scores.rs"]
mod half_scores;
#[path = "numerics_bounds/kept.rs"]
mod kept;
#[path = "numerics_bounds/margins.rs"]
mod margins;
#[path = "numerics_bounds/memorizing.rs"]
mod memorizing;
#[path = "numerics_bounds/reads.rs"]
mod reads;
#[path = "numerics_bounds/running_closed.rs"]
mod running_closed;
#[path = "numerics_bounds/running_primitives.rs"]
mod running_primitives;
#[path = "numerics_bounds/running_stages.rs"]
mod running_stages;
#[path = "numerics_bounds/slopes.rs"]
mod slopes;
#[path = "numerics_bounds/weights.rs"]
mod weights;
