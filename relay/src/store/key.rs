//! The text of the key file: the secret, and the public key that must come out of it, so that damage to either is noticed.

use super::StoreError;
use data_encoding::BASE32_NOPAD;
use shadowmesh_proto::crypto::keys::NodeSecret;
use shadowmesh_proto::ids::NodeId;
use std::path::Path;
use zeroize::Zeroizing;

/// Form of the file, which is not that of the directory.
const VERSION: u32 = 1;
const HEADER: &str = "shadowmesh-relay-key";

/// The file's text: a secret.
pub(super) fn format(secret: &NodeSecret) -> Zeroizing<String> {
    let encoded = Zeroizing::new(BASE32_NOPAD.encode(secret.to_bytes().as_slice()));
    Zeroizing::new(format!("{HEADER} {VERSION}\npublic {}\nsecret {}\n", secret.public(), encoded.as_str()))
}

/// Reads it back.
pub(super) fn parse(path: &Path, text: &str) -> Result<NodeSecret, StoreError> {
    let damaged = |what| StoreError::Key { path: path.to_owned(), what };
    let mut lines = text.lines();
    let mut field = |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix(' ');
    let version = field(HEADER).ok_or_else(|| damaged("it does not begin like a key file"))?;
    match version.parse() {
        Ok(VERSION) => {}
        Ok(found) => {
            return Err(StoreError::Newer { path: path.to_owned(), found, known: VERSION });
        }
        Err(_) => return Err(damaged("its version is no number")),
    }
    let public = field("public")
        .and_then(NodeId::from_base32)
        .ok_or_else(|| damaged("its public key does not parse"))?;
    let secret = field("secret")
        .and_then(|text| BASE32_NOPAD.decode(text.as_bytes()).ok().map(Zeroizing::new))
        .and_then(|bytes| Some(Zeroizing::new(<[u8; 32]>::try_from(bytes.as_slice()).ok()?)))
        .ok_or_else(|| damaged("its secret does not parse"))?;
    let secret = NodeSecret::from_bytes(secret);
    if secret.public() != public {
        return Err(damaged("its secret does not fit its public key"));
    }
    Ok(secret)
}
