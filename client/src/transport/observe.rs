//! Asks a relay's STUN where this node's UDP socket appears (protocol §3.8).
//!
//! The request carries the token of the registration, so the relay knows whose address it saw and tells this node and, once
//! introduced, its peers. UDP loses packets: the question is repeated with growing pauses, and then given up, which means
//! that UDP does not work here.

use super::outside::Outside;
use shadowmesh_proto::rng::Rng;
use shadowmesh_proto::wire::stun::{BindingRequest, BindingResponse, TOKEN_LEN};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::time::timeout;

/// Pauses between repetitions (RFC 8489 §6.2.1 begins with 500 ms and doubles).
const PAUSES: [Duration; 4] =
    [Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];
/// Longest datagram that is looked at: far above any answer.
const BUFFER: usize = 1500;

/// The address at which `server` sees a fresh UDP socket of this node; `None` when nothing comes back.
pub async fn observe(
    outside: &Outside,
    server: SocketAddr,
    token: [u8; TOKEN_LEN],
    mut rng: impl Rng + Send,
) -> Option<SocketAddr> {
    let socket = outside.udp(server).await.ok()?;
    let request = BindingRequest { transaction: rng.bytes(), token };
    let datagram = request.encode();
    for pause in PAUSES {
        // A failure to send is a loss like any other.
        let _ = socket.send_to(&datagram, server).await;
        let answer = async {
            let mut buffer = [0; BUFFER];
            loop {
                let Ok((length, from)) = socket.recv_from(&mut buffer).await else { continue };
                let Some(Ok(response)) = buffer.get(..length).map(BindingResponse::parse) else { continue };
                if from == server && response.transaction == request.transaction {
                    return response.mapped;
                }
            }
        };
        if let Ok(mapped) = timeout(pause, answer).await {
            return Some(mapped);
        }
    }
    None
}
