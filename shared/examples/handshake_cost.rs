//! How much a full peer handshake and a full link handshake cost, both sides together.
//!
//! `cargo run --release --example handshake_cost -p shadowmesh-proto -- [seconds]`
//!
//! Prints one line of JSON per handshake: median and fastest CPU time in microseconds and what one core does per second.
//! Nothing is asserted: this is for people and for `scripts/bench`.

#![expect(clippy::print_stdout, reason = "an example that prints its result")]
#![expect(clippy::disallowed_methods, reason = "a measurement needs the clock")]

use shadowmesh_proto::crypto::aead::CipherSet;
use shadowmesh_proto::crypto::keys::{NetworkSecret, NodeSecret};
use shadowmesh_proto::handshake::HandshakeError;
use shadowmesh_proto::handshake::link::{self, LinkInitiator};
use shadowmesh_proto::handshake::payload::Payload;
use shadowmesh_proto::handshake::peer::{Initiator, Responder};
use shadowmesh_proto::ids::{AssociationId, ReceiverIndex, RelayId};
use shadowmesh_proto::rng::SeededRng;
use shadowmesh_proto::version::{SPOKEN, UNSAID};
use std::time::{Duration, Instant};

/// CPU time of this thread, as the scheduler counts it (Linux `Documentation/scheduler/sched-stats.rst`).
fn cpu_time() -> Duration {
    let counted = std::fs::read_to_string("/proc/thread-self/schedstat");
    let nanoseconds = counted.ok().and_then(|text| text.split(' ').next()?.parse().ok());
    nanoseconds.map_or(Duration::ZERO, Duration::from_nanos)
}

/// Repeats `handshake` for about `time`, in batches: the fastest is what it costs on a core of its own.
fn measure(
    name: &str,
    time: Duration,
    mut handshake: impl FnMut() -> Result<(), HandshakeError>,
) -> Result<(), HandshakeError> {
    for _ in 0..100 {
        handshake()?;
    }
    let begun = Instant::now();
    let mut batches = Vec::new();
    while begun.elapsed() < time {
        let before = cpu_time();
        for _ in 0..50 {
            handshake()?;
        }
        batches.push(cpu_time().saturating_sub(before) / 50);
    }
    batches.sort_unstable();
    let median = batches.get(batches.len() / 2).copied().unwrap_or_default();
    let fastest = batches.first().copied().unwrap_or_default();
    let per_second = (1.0 / median.as_secs_f64()).round();
    println!(
        r#"{{"handshake":"{name}","median_us":{:.1},"fastest_us":{:.1},"per_second_per_core":{per_second}}}"#,
        median.as_secs_f64() * 1e6,
        fastest.as_secs_f64() * 1e6,
    );
    Ok(())
}

fn main() -> Result<(), HandshakeError> {
    let seconds = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(2);
    let time = Duration::from_secs(seconds);
    // Seeded keys are as costly as any; they protect nothing here.
    let mut rng = SeededRng::new(1);
    let (a, b) = (NodeSecret::generate(&mut rng), NodeSecret::generate(&mut rng));
    let network = NetworkSecret::generate(&mut rng).derive();
    let offer = Payload {
        ciphers: CipherSet::ALL,
        mtu: 1400,
        name: "measured".to_owned(),
        association: AssociationId([0; 8]),
        program: "0.1.0".to_owned(),
        features: 0,
        versions: SPOKEN,
        version: UNSAID,
    };
    measure("peer", time, || {
        let (initiator, init) =
            Initiator::begin(&a, &network, b.public(), &offer, ReceiverIndex(1), &mut rng)?;
        let received = Responder::read(&b, &network, &init)?;
        let (response, _) = received.respond(&offer, ReceiverIndex(2), &mut rng)?;
        initiator.finish(&response).map(drop).map_err(|(_, error)| error)
    })?;
    let relay = RelayId(*b.public().as_bytes());
    measure("link", time, || {
        let (initiator, message) = LinkInitiator::begin(&a, &relay, &mut rng)?;
        let (answer, ..) = link::respond(&b, &message, &mut rng)?;
        initiator.finish(&answer).map(drop)
    })
}
