//! Writes the seeds of every target into the directory that is named, one directory for each, and leaves what else is there alone.

use shadowmesh_properties::TARGETS;
use std::path::PathBuf;

fn main() -> std::io::Result<()> {
    let Some(root) = std::env::args_os().nth(1).map(PathBuf::from) else {
        return Err(std::io::Error::other("usage: seeds DIRECTORY"));
    };
    for target in TARGETS {
        let directory = root.join(target.name);
        std::fs::create_dir_all(&directory)?;
        for (number, seed) in (target.seeds)().into_iter().enumerate() {
            std::fs::write(directory.join(format!("seed-{number:02}")), seed)?;
        }
    }
    Ok(())
}
