//! The binary: sets up what a process has once (allocator, log, runtime) and hands over to the command line.

use std::process::ExitCode;

use clap::Parser as _;
use farthing::cli::{self, Arguments};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(cli::run(arguments)),
        Err(error) => {
            eprintln!("farthing: the system gives no threads: {error}");
            ExitCode::FAILURE
        }
    }
}
