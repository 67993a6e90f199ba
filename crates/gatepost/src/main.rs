//! The program: everything is in the library, so that tests can reach it.

use std::process::ExitCode;

/// Outside the data plane's own pools, small allocations from many threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    gatepost::cli::main()
}
