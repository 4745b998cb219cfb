//! `manpages DIR`: writes the manual of both programs, a page for each command; for packages their completions as well.

use anyhow::Context as _;
use clap::{CommandFactory as _, Parser};
use clap_complete::Shell;
use shadowmesh_tests::manual;
use std::path::PathBuf;

/// Write the manual of shadowmesh and shadowmesh-relay, a page for each command
#[derive(Debug, Parser)]
struct Cli {
    /// Directory for the pages; is made when it is not there
    dir: PathBuf,

    /// Directory for completions of bash, zsh and fish
    #[arg(long, value_name = "DIR")]
    completions: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let Cli { dir, completions } = Cli::parse();
    let shown = dir.display();
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {shown}"))?;
    for program in [shadowmesh::cli::command(), shadowmesh_relay::cli::Cli::command()] {
        for page in manual::pages(program)? {
            let file = dir.join(&page.file);
            std::fs::write(&file, &page.text).with_context(|| format!("cannot write {}", file.display()))?;
        }
    }
    if let Some(dir) = completions {
        let shown = dir.display();
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {shown}"))?;
        for program in [shadowmesh::cli::command(), shadowmesh_relay::cli::Cli::command()] {
            for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
                let (name, mut program) = (program.get_name().to_owned(), program.clone());
                clap_complete::generate_to(shell, &mut program, name, &dir)
                    .with_context(|| format!("cannot write to {shown}"))?;
            }
        }
    }
    Ok(())
}
