//! The daemon: what runs between `shadowmesh up` and `shadowmesh down`.

pub mod options;
pub mod progress;
pub mod state_dir;

pub use options::DaemonOptions;

/// Why a daemon ended other than by being asked to.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// This build has no event loop yet.
    #[error("this build has no daemon yet: use a later one")]
    NotBuilt,
}

/// Runs a daemon until it is asked to leave.
///
/// # Errors
/// See [`DaemonError`].
#[expect(clippy::unused_async, reason = "the event loop awaits")]
pub async fn run(options: DaemonOptions) -> Result<(), DaemonError> {
    drop(options);
    Err(DaemonError::NotBuilt)
}
