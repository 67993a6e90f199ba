//! Addresses as envelopes and header fields hold them.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &[u8]| mail::fuzz::address(text));
