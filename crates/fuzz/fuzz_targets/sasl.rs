//! The exchanges of AUTH: a mechanism, and the client's lines.
#![no_main]

libfuzzer_sys::fuzz_target!(|lines: &[u8]| smtp::fuzz::sasl(lines));
