//! The listener. Anybody may connect: nothing is said to anybody until a packet came that only a peer could seal, and few of those who
//! say nothing are borne at a time.

use super::{Shared, link};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// Connections from outside that are not kept yet; who comes while there are so many is sent away.
pub(super) const STRANGERS: usize = 16;
/// A pause after the kernel refused to give a connection: out of descriptors, it would refuse again at once.
const PAUSE: Duration = Duration::from_millis(100);

/// Takes connections for as long as it is wanted.
pub(super) async fn run(listener: TcpListener, shared: Arc<Shared>) {
    let strangers = Arc::new(Semaphore::new(STRANGERS));
    loop {
        match listener.accept().await {
            Ok((stream, remote)) => {
                let Ok(permit) = Arc::clone(&strangers).try_acquire_owned() else { continue };
                // What is said there has to leave at once; an error means that it broke already, which its task finds out.
                let _ = stream.set_nodelay(true);
                tokio::spawn(link::run(stream, remote, None, Arc::clone(&shared), Some(permit)));
            }
            // It broke before it was taken.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                tracing::debug!(%error, "a connection was not taken");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}
