//! Relay control over real sockets: a module for each section of DESIGN.md A1 to G4 and for the reasons of
//! refusals, on the house of the six situations.

mod a1_login;
mod a2_grants;
mod a3_networks;
mod a4_strict;
mod a5_prefixes;
mod a6_advice;
mod admin;
mod admin_routes;
mod b1_relay_domains;
mod b2_call_ahead;
mod b3_chains;
mod c1_senders;
mod c2_headers;
mod c3_reserved;
mod d1_recipient_domains;
mod d2_never_dropped;
mod e2_dnsbl;
mod e2_lists;
mod e3_limits;
mod e3_places;
mod e3_sizes;
mod e4_containment;
mod f1_near;
mod f2_proxy;
mod g1_reasons;
mod g2_explanations;
mod g2_remedies;
mod g4_proof;
mod house;
mod operator;
mod reasons;
mod situations;
mod tenant;
