//! `shadowmesh`: see `shadowmesh --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    shadowmesh::cli::main()
}
