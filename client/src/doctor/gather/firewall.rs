//! The rules of nftables.

use super::output_of;

/// As JSON; `None` without the command, or where it may not look.
pub(super) async fn ruleset() -> Option<serde_json::Value> {
    serde_json::from_slice(&output_of("nft", &["--json", "list", "ruleset"]).await?).ok()
}
