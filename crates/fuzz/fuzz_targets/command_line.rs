//! A command line, of whatever bytes.
#![no_main]

libfuzzer_sys::fuzz_target!(|line: &[u8]| smtp::fuzz::command(line));
