//! The `ringpost` command.

use std::process::ExitCode;

/// Tells exactly what it holds, and gives back what a burst of connections took, while its threads sleep; see ARCHITECTURE.md.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    ringpost_gateway::cli::main()
}
