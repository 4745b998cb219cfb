//! One JSON document a line, of bounded length. Some hold secrets: lines are wiped.

use crate::wiped::Growing;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Longest request, bytes: the longest holds a text of access rules, 64 KiB and as much again for what JSON escapes.
pub(super) const MAX_REQUEST: usize = 160 * 1024;
/// Longest response, bytes: the copy of a network that is as large as it can be, 64 MiB of members and a little. All else is less: the
/// status of some thousand peers takes 16 MiB.
pub(super) const MAX_RESPONSE: usize = 80 * 1024 * 1024;

/// Why a line was not read.
#[derive(Debug, thiserror::Error)]
pub(super) enum LineError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the line is longer than {0} bytes")]
    TooLong(usize),
    #[error("the line does not read as a message ({0})")]
    NotAMessage(serde_json::Error),
}

/// Reads one line of at most `limit` bytes; `None` at the end of the stream. A last line without its end is cut off: ignored.
pub(super) async fn read<T: DeserializeOwned>(
    reader: &mut (impl AsyncBufRead + Unpin),
    limit: usize,
) -> Result<Option<T>, LineError> {
    let mut line = Growing::default();
    loop {
        let chunk = reader.fill_buf().await?;
        if chunk.is_empty() {
            return Ok(None);
        }
        let (part, ended) = match chunk.iter().position(|byte| *byte == b'\n') {
            Some(at) => (chunk.get(..at).unwrap_or_default(), true),
            None => (chunk, false),
        };
        if line.bytes().len() + part.len() > limit {
            return Err(LineError::TooLong(limit));
        }
        line.append(part);
        let used = part.len() + usize::from(ended);
        reader.consume(used);
        if ended {
            return serde_json::from_slice(line.bytes()).map(Some).map_err(LineError::NotAMessage);
        }
    }
}

/// Writes one line.
pub(super) async fn write<T: Serialize>(
    writer: &mut (impl AsyncWrite + Unpin),
    message: &T,
) -> io::Result<()> {
    let mut line = Growing::default();
    serde_json::to_writer(&mut line, message)?;
    line.append(b"\n");
    writer.write_all(line.bytes()).await?;
    writer.flush().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::BufReader;

    async fn read_all(bytes: &[u8], limit: usize) -> Vec<Result<u32, String>> {
        // A buffer of three bytes makes every line arrive in pieces.
        let mut reader = BufReader::with_capacity(3, bytes);
        let mut all = Vec::new();
        loop {
            match read::<u32>(&mut reader, limit).await {
                Ok(Some(number)) => all.push(Ok(number)),
                Ok(None) => return all,
                Err(error) => {
                    all.push(Err(error.to_string()));
                    if matches!(error, LineError::TooLong(_)) {
                        return all;
                    }
                }
            }
        }
    }

    #[tokio::test]
    async fn lines_are_cut_where_they_end() {
        assert_eq!(read_all(b"1\n23456\n7", 100).await, [Ok(1), Ok(23456)]);
        let mixed = read_all(b"x\n5\n", 100).await;
        assert!(mixed[0].is_err());
        assert_eq!(mixed[1], Ok(5));
    }

    #[tokio::test]
    async fn a_line_without_end_costs_no_more_than_the_limit() {
        let long = vec![b'1'; 1_000];
        assert_eq!(read_all(&long, 99).await, [Err("the line is longer than 99 bytes".to_owned())]);
    }
}
