//! Error bounds and selection margins, NUM-2 … NUM-6, NUM-9, NUM-10, stage by stage.
//!
//! Every stage runs in f32 on f32 numbers and in f64 on the very same numbers; f64 stands for exact. Every element must
//! lie inside its bound. A bound that is never nearly reached proves little, so each test also states how close the
//! worst element came: the comment gives the ratio error / bound that was seen, the assertion a lower limit of it.

mod all_stages;
mod arithmetics;
mod observed;
mod scenes;

mod addressing;
mod any_order;
mod half_scores;
mod kept;
mod margins;
mod memorizing;
mod reads;
mod running_closed;
mod running_primitives;
mod running_stages;
mod slopes;
mod weights;
