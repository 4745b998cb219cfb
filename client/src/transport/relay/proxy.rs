//! The way out through an HTTP proxy (CONNECT, RFC 9110 §9.3.6), for networks that let nothing else out.
//!
//! The proxy is asked for the relay by the name that the ticket has: it may know names that this network does not. What it answers is read up to the end of its
//! head and bounded; every answer but *yes* is a sentence that says what to do. Everything after is the stream's, and the proxy sees of it what anybody on the way
//! would.

use super::backoff::retry_after;
use super::rests::Rest;
use crate::config::ProxyUrl;
use data_encoding::BASE64;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use zeroize::Zeroizing;

/// Longest head of an answer that is read, bytes: proxies write a page into refusals, and a few lines before it.
const MAX_HEAD: usize = 8 * 1024;
/// Less than a try ([`super::connect`]) has, so that who is silent is named.
const PATIENCE: Duration = Duration::from_secs(4);
/// Longest reason that is repeated, characters.
const REASON_SHOWN: usize = 60;
/// How long one that does not let this host out is not asked again: long enough that nobody's account is locked in minutes, or a log filled, and short enough for whoever mends it.
const REFUSES_FOR: Duration = Duration::from_secs(60);
/// Most schemes that are named, and the longest name, characters.
const SCHEMES_SHOWN: usize = 3;
const SCHEME_SHOWN: usize = 20;

/// Why the proxy does not lead to the relay; the end of a sentence that begins with the proxy's address.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProxyError {
    #[error("wants a user and a password: give them with --proxy http://USER:PASSWORD@HOST:PORT")]
    WantsUser,
    #[error("refuses the user and password that --proxy has")]
    WrongUser,
    #[error(
        "wants a login by {0}, which this program does not speak: ask whoever runs it to take Basic as well, or to let this host out without"
    )]
    WantsScheme(String),
    #[error(
        "does not let this host out to {0} (403): ask whoever runs it to allow it, or take a relay that listens on port 443"
    )]
    Forbidden(String),
    #[error("does not reach {target}: {status} {reason}")]
    Refused {
        target: String,
        status: u16,
        reason: String,
        /// It named a time.
        wait: Option<Duration>,
    },
    #[error("is no HTTP proxy: its answer makes no sense")]
    NotAProxy,
    #[error("closed the connection without an answer")]
    Closed,
    #[error("does not answer")]
    Silent,
    #[error("cannot be reached: {0}")]
    Io(#[from] io::Error),
}

impl ProxyError {
    /// How long it is not to be asked again, and for what.
    pub(super) fn rest(&self) -> Option<Rest> {
        match self {
            Self::WantsUser | Self::WrongUser | Self::WantsScheme(_) => Some(Rest::of_proxy(REFUSES_FOR)),
            // For another port it may say yes.
            Self::Forbidden(_) => Some(Rest::of_address(REFUSES_FOR)),
            Self::Refused { status: 429, wait, .. } => wait.map(Rest::of_proxy),
            Self::Refused { wait, .. } => wait.map(Rest::of_address),
            Self::NotAProxy | Self::Closed | Self::Silent | Self::Io(_) => None,
        }
    }
}

/// Asks the proxy behind `tcp` to lead to `target`, a `host:port`; from then on that is who is behind it.
pub(crate) async fn tunnel(tcp: &mut TcpStream, proxy: &ProxyUrl, target: &str) -> Result<(), ProxyError> {
    timeout(PATIENCE, ask(tcp, proxy, target)).await.unwrap_or(Err(ProxyError::Silent))
}

async fn ask(tcp: &mut TcpStream, proxy: &ProxyUrl, target: &str) -> Result<(), ProxyError> {
    let mut request = Zeroizing::new(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n"));
    if let Some(user) = proxy.user() {
        let encoded = Zeroizing::new(BASE64.encode(user.as_bytes()));
        request.push_str(&Zeroizing::new(format!("Proxy-Authorization: Basic {}\r\n", *encoded)));
    }
    request.push_str("\r\n");
    tcp.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    let end = loop {
        let mut more = [0; 1024];
        let count = match tcp.read(&mut more).await? {
            0 if head.is_empty() => return Err(ProxyError::Closed),
            0 => return Err(ProxyError::NotAProxy),
            count => count,
        };
        head.extend_from_slice(more.get(..count).unwrap_or_default());
        if !is_like(&head) {
            return Err(ProxyError::NotAProxy);
        }
        if let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        if head.len() > MAX_HEAD {
            return Err(ProxyError::NotAProxy);
        }
    };
    let (status, reason) = status(&head).ok_or(ProxyError::NotAProxy)?;
    match status {
        // Whoever is behind it speaks when spoken to: what comes already is the proxy's own (RFC 9110 §9.3.6 forbids a body).
        200..=299 if head.len() == end => Ok(()),
        200..=299 => Err(ProxyError::NotAProxy),
        // 401 is what tinyproxy says to a wrong password; a relay that asks for none never does.
        401 | 407 if proxy.user().is_some() => Err(other_scheme(&head).unwrap_or(ProxyError::WrongUser)),
        407 => Err(other_scheme(&head).unwrap_or(ProxyError::WantsUser)),
        403 => Err(ProxyError::Forbidden(target.to_owned())),
        _ => {
            // 503 without it is what a proxy says of a host that does not answer.
            let wait = field(&head, "Retry-After").next().filter(|_| matches!(status, 429 | 503));
            let wait = wait.and_then(retry_after);
            Err(ProxyError::Refused { target: target.to_owned(), status, reason, wait })
        }
    }
}

/// What it wants, where it says that and Basic is not among it.
fn other_scheme(head: &[u8]) -> Option<ProxyError> {
    let mut wanted: Vec<&str> = field(head, "Proxy-Authenticate").flat_map(schemes).collect();
    if wanted.is_empty() || wanted.iter().any(|scheme| scheme.eq_ignore_ascii_case("Basic")) {
        return None;
    }
    wanted.dedup();
    wanted.truncate(SCHEMES_SHOWN);
    let shown = wanted.iter().map(|scheme| scheme.get(..SCHEME_SHOWN).unwrap_or(scheme));
    Some(ProxyError::WantsScheme(shown.collect::<Vec<_>>().join(" or ")))
}

/// The schemes that a list of challenges names (RFC 9110 §11.6.1). Between commas stands a scheme, alone or with what belongs to it, or one more `name=value` of the scheme before.
fn schemes(challenges: &str) -> impl Iterator<Item = &str> {
    let mut is_quoted = false;
    let pieces = challenges.split(move |c: char| {
        is_quoted ^= c == '"';
        c == ',' && !is_quoted
    });
    pieces.filter_map(|piece| {
        let piece = piece.trim();
        let end = piece.find(|c: char| !c.is_ascii_alphanumeric() && c != '-').unwrap_or(piece.len());
        let (word, rest) = piece.split_at(end);
        let is_scheme = !word.is_empty() && !rest.trim_start().starts_with('=');
        is_scheme.then_some(word)
    })
}

/// The values of a field, one for each line of the head that has it. What comes after the head is a page, and none of it.
fn field<'a>(head: &'a [u8], name: &'a str) -> impl Iterator<Item = &'a str> {
    let lines = head.split(|byte| *byte == b'\n').skip(1).take_while(|line| !line.trim_ascii().is_empty());
    lines.filter_map(move |line| {
        let (known, value) = std::str::from_utf8(line).ok()?.split_once(':')?;
        known.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// Whether an answer of HTTP/1 may begin so.
fn is_like(head: &[u8]) -> bool {
    let begin = b"HTTP/1.";
    head.iter().zip(begin).all(|(got, wanted)| got == wanted)
}

/// Status and reason of `HTTP/1.1 407 Proxy Authentication Required`.
fn status(head: &[u8]) -> Option<(u16, String)> {
    let line = head.split(|byte| *byte == b'\r').next()?;
    let line = std::str::from_utf8(line).ok()?;
    let mut words = line.splitn(3, ' ');
    words.next()?;
    let digits = words.next().filter(|digits| digits.len() == 3)?;
    let reason = words.next().unwrap_or_default();
    let reason = reason.chars().filter(|c| !c.is_control()).take(REASON_SHOWN).collect();
    Some((digits.parse().ok()?, reason))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    /// What comes of a proxy that answers `answer` and closes; what it was asked.
    async fn answered(url: &str, answer: &[u8]) -> (Result<(), String>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut tcp = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let proxy: ProxyUrl = url.parse().unwrap();
        let serving = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).await.unwrap();
                asked.extend(byte);
            }
            // In pieces, as networks have it.
            for piece in answer.chunks(7) {
                if stream.write_all(piece).await.is_err() {
                    break;
                }
                stream.flush().await.unwrap();
            }
            stream.shutdown().await.ok();
            String::from_utf8(asked).unwrap()
        };
        let (result, asked) = tokio::join!(tunnel(&mut tcp, &proxy, "relay.example:443"), serving);
        (result.map_err(|error| error.to_string()), asked)
    }

    #[tokio::test]
    async fn it_is_asked_for_the_relay_by_name_with_user_and_password() {
        let (result, asked) =
            answered("http://10.0.0.1:3128", b"HTTP/1.1 200 Connection established\r\n\r\n").await;
        assert_eq!(
            (result, asked.as_str()),
            (Ok(()), "CONNECT relay.example:443 HTTP/1.1\r\nHost: relay.example:443\r\n\r\n")
        );
        let (result, asked) =
            answered("http://a%40b:c%3Ad@10.0.0.1:3128", b"HTTP/1.0 200 OK\r\nVia: x\r\n\r\n").await;
        assert_eq!(result, Ok(()));
        // printf 'a@b:c:d' | base64
        assert!(asked.contains("\r\nProxy-Authorization: Basic YUBiOmM6ZA==\r\n"), "{asked}");
    }

    #[tokio::test]
    async fn each_no_says_what_to_do() {
        let (bare, with) = ("http://10.0.0.1:3128", "http://u:secret@10.0.0.1:3128");
        for (url, answer, expected) in [
            (
                bare,
                &b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 4\r\n\r\npage"[..],
                "give them with --proxy",
            ),
            (with, b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "refuses the user"),
            (with, b"HTTP/1.0 401 Unauthorized\r\n\r\n", "refuses the user"),
            (with, b"HTTP/1.1 407 A\r\nProxy-Authenticate: Basic realm=\"a, NTLM\"\r\n\r\n", "refuses the user"),
            (
                with,
                b"HTTP/1.1 407 A\r\nProxy-Authenticate: NTLM\r\nProxy-Authenticate: basic realm=\"a\"\r\n\r\n",
                "refuses the user",
            ),
            (bare, b"HTTP/1.1 407 A\r\nproxy-authenticate: Negotiate, Basic realm=x\r\n\r\n", "give them with"),
            (
                with,
                b"HTTP/1.1 407 A\r\nProxy-Authenticate: Negotiate\r\nProxy-Authenticate: NTLM\r\n\r\n",
                "wants a login by Negotiate or NTLM, which",
            ),
            (
                bare,
                b"HTTP/1.1 407 A\r\nProxy-Authenticate: Digest realm=\"a\", nonce = \"Basic\"\r\n\r\nProxy-Authenticate: Basic",
                "wants a login by Digest, which",
            ),
            (bare, b"HTTP/1.1 407 A\r\nProxy-Authenticate: ,=,\xff\r\n\r\n", "give them with --proxy"),
            (bare, b"HTTP/1.0 401 Unauthorized\r\n\r\n", "does not reach relay.example:443: 401"),
            (
                bare,
                b"HTTP/1.1 403 Forbidden\r\n\r\n<html>",
                "does not let this host out to relay.example:443",
            ),
            (
                bare,
                b"HTTP/1.1 502 Bad \x1bGateway\r\n\r\n",
                "does not reach relay.example:443: 502 Bad Gateway",
            ),
            (bare, b"HTTP/1.1 2000 OK\r\n\r\n", "makes no sense"),
            (bare, b"HTTP/1.1 OK\r\n\r\n", "makes no sense"),
            (bare, b"SSH-2.0-OpenSSH_9.2\r\n", "makes no sense"),
            (bare, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "makes no sense"),
            (bare, b"HTTP/1.1 200 OK\r\n", "makes no sense"),
            (bare, &[b"HTTP/1.1 200 OK\r\nX: ".as_slice(), &[b'x'; 20_000]].concat(), "makes no sense"),
            (bare, b"", "closed the connection"),
        ] {
            let said = answered(url, answer).await.0.unwrap_err();
            assert!(said.contains(expected) && !said.contains("secret"), "{said}");
            assert!(!said.chars().any(char::is_control), "{said:?}");
        }
    }

    #[test]
    fn who_does_not_let_out_is_not_asked_again_for_a_while() {
        let refused = |status, seconds: Option<u64>| {
            let wait = seconds.map(Duration::from_secs);
            ProxyError::Refused { target: "r:1".into(), status, reason: String::new(), wait }
        };
        let of_proxy = |seconds| Some(Rest::of_proxy(Duration::from_secs(seconds)));
        let of_address = |seconds| Some(Rest::of_address(Duration::from_secs(seconds)));
        for (error, rest) in [
            (ProxyError::WantsUser, of_proxy(60)),
            (ProxyError::WrongUser, of_proxy(60)),
            (ProxyError::WantsScheme("NTLM".into()), of_proxy(60)),
            (ProxyError::Forbidden("r:1".into()), of_address(60)),
            (refused(429, Some(7)), of_proxy(7)),
            (refused(503, Some(7)), of_address(7)),
            (refused(503, None), None),
            (ProxyError::Silent, None),
        ] {
            assert_eq!(error.rest(), rest, "{error}");
        }
    }

    #[tokio::test]
    async fn a_time_is_heard_where_it_is_one_to_wait() {
        for (answer, expected) in [
            ("429 Too Many Requests\r\nretry-after: 7", Some(7)),
            ("503 Service Unavailable\r\nRetry-After: 600", Some(15)),
            ("503 Service Unavailable", None),
            ("503 Service Unavailable\r\n\r\nRetry-After: 7", None),
            ("502 Bad Gateway\r\nRetry-After: 7", None),
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let mut tcp = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (mut proxy, _) = listener.accept().await.unwrap();
            proxy.write_all(format!("HTTP/1.1 {answer}\r\n\r\n").as_bytes()).await.unwrap();
            let url = "http://10.0.0.1:3128".parse().unwrap();
            let error = tunnel(&mut tcp, &url, "relay.example:443").await.unwrap_err();
            let ProxyError::Refused { wait, .. } = error else { panic!("{error}") };
            assert_eq!(wait, expected.map(Duration::from_secs), "{answer}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_says_nothing_is_waited_for_no_longer_than_a_try_lasts() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut tcp = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let proxy = "http://10.0.0.1:3128".parse().unwrap();
        let said = tunnel(&mut tcp, &proxy, "relay.example:443").await.unwrap_err();
        assert!(matches!(said, ProxyError::Silent), "{said}");
    }
}
