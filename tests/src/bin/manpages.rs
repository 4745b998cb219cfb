//! `manpages DIR`: writes the manual of both programs, a page for each command.

use anyhow::Context as _;
use clap::{CommandFactory as _, Parser};
use shadowmesh_tests::manual;
use std::path::PathBuf;

/// Write the manual of shadowmesh and shadowmesh-relay, a page for each command
#[derive(Debug, Parser)]
struct Cli {
    /// Directory for the pages; is made when it is not there
    dir: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let Cli { dir } = Cli::parse();
    let shown = dir.display();
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {shown}"))?;
    for program in [shadowmesh::cli::command(), shadowmesh_relay::cli::Cli::command()] {
        for page in manual::pages(program)? {
            let file = dir.join(&page.file);
            std::fs::write(&file, &page.text).with_context(|| format!("cannot write {}", file.display()))?;
        }
    }
    Ok(())
}
