//! The header that a proxy sends, whole and cut anywhere.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| smtp::fuzz::proxy_header(input));
