//! The `ringpost` command.

use std::process::ExitCode;

/// Smaller and steadier than the C library's under many threads; figures in bench/README.md.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    ringpost_gateway::cli::main()
}
