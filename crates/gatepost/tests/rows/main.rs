//! Relay control over real sockets: a module for each row of relay-control.md's tables (A1 to G4)
//! and for the reasons that it gives, on the house of the six situations.

mod f2_proxy;
mod g4_proof;
mod house;
mod situations;
