//! `other-relay OLDEST NEWEST [ARGUMENT…]` is `shadowmesh-relay ARGUMENT…` that speaks these versions of the protocol: what stands in for one of
//! another release where it matters what hosts say of such a relay.

use anyhow::{Context, bail};
use clap::Parser;
use shadowmesh_proto::version::Versions;
use shadowmesh_relay::cli::Cli;

fn main() -> anyhow::Result<()> {
    let mut words = std::env::args();
    let (Some(program), Some(oldest), Some(newest)) = (words.next(), words.next(), words.next()) else {
        bail!("usage: other-relay OLDEST NEWEST [ARGUMENT of shadowmesh-relay…]");
    };
    let versions = Versions::new(oldest.parse().context("OLDEST")?, newest.parse().context("NEWEST")?)
        .with_context(|| {
            format!(
                "{oldest} to {newest} is no span of versions: they are numbers from 1 on, the older one first"
            )
        })?;
    Cli::parse_from(std::iter::once(program).chain(words)).execute_speaking(versions)
}
