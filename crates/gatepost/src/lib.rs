//! The program: command line, the worker's turn, wiring, signals, drain. No logic besides.

pub mod cli;
mod early;
mod events;
mod opening;
mod ports;
mod prepare;
mod refusal;
pub mod run;
mod shares;
pub mod worker;

pub use events::EVENTS;
