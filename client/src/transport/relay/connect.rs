//! Finds an address of the relay that answers: all of them are tried, the first that speaks WebSocket wins (after RFC 8305).
//!
//! Names are resolved side by side, addresses tried one after the other without waiting for the one before to fail, so that a
//! dead one (an IPv6 address without a way there, above all) costs [`STAGGER`] and not its timeout. One that has not answered
//! after [`AGAIN`] is tried anew beside it: its SYN may have been lost, or the network came back since. One that said no is
//! asked again while another keeps the try waiting: a relay that restarts refuses where it will answer in a second, and its
//! other address may swallow what it gets. One that said for how long it is not to be asked is not asked in this try again, nor in those of that time. Whoever answers is not trusted for it: the relay proves its key in the link handshake
//! (protocol §3.1).

use super::line::Line;
use super::proxy::tunnel;
use super::rests::Rests;
use super::{StreamError, tls};
use crate::config::{ProxyRule, ProxyUrl};
use crate::transport::outside::Outside;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use shadowmesh_proto::ticket::Address;
use shadowmesh_proto::wire::relay::{HTTP_PATH, MAX_MESSAGE};
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

/// From the start of one attempt to the start of the next (RFC 8305 §5: 250 ms).
const STAGGER: Duration = Duration::from_millis(250);
/// An address that has not answered for this long is tried once more, beside; one that said no, after as long.
const AGAIN: Duration = Duration::from_secs(1);
/// The whole try, after which its addresses are looked up anew. Longer than any round trip that is of use.
const TRY_WITHIN: Duration = Duration::from_secs(5);
/// How long a name may take that only datagrams need.
const NAME_BEHIND_PROXY: Duration = Duration::from_secs(1);
/// Most addresses of one name that are tried: a name server cannot make a client knock at a hundred doors.
const PER_NAME: usize = 4;
/// Bytes written before a flush, beyond which the library writes by itself.
const WRITE_BUFFER: usize = 16 * 1024;
/// Read buffer; the library's default of 128 KiB is most of an idle daemon.
const READ_BUFFER: usize = 16 * 1024;

pub(super) type Ws = WebSocketStream<Line>;

/// A relay's address that answered.
#[derive(Debug)]
pub(super) struct Connected {
    pub(super) ws: Ws,
    /// Where its datagrams go: nothing where a proxy leads to a name that is not known here.
    pub(super) remote: Option<SocketAddr>,
    /// Its place among the addresses given.
    pub(super) at: usize,
    /// Another of its addresses, of the other family.
    pub(super) other_family: Option<IpAddr>,
    /// It is reached by a proxy.
    pub(super) is_proxied: bool,
}

/// An address to try, not before that time.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    at: usize,
    remote: SocketAddr,
    not_before: Instant,
    /// It said no in this try. It keeps nobody waiting.
    refused: bool,
}

/// Connects to the first address that answers, each by the proxy that is for it; `best` is tried first. Those that rest are left out, and `rests` learns of others.
pub(super) async fn connect(
    addresses: &[String],
    best: usize,
    outside: &Outside,
    proxy: Option<&ProxyRule>,
    rests: &mut Rests,
) -> Result<Connected, StreamError> {
    let began = Instant::now();
    let address_at = |at: usize| addresses.get(at).map_or("", String::as_str);
    let by = |at: usize| proxy.and_then(|rule| rule.by(Address::of(address_at(at)).host_port));
    let order =
        (0..addresses.len()).map(|n| (best + n) % addresses.len().max(1)).filter(|at| !rests.has(*at));
    let mut resolving: FuturesUnordered<_> =
        order.map(|at| resolve(at, by(at).map_or_else(|| address_at(at), ProxyUrl::host_port))).collect();
    let mut attempts = FuturesUnordered::new();
    let mut queue: VecDeque<Candidate> = VecDeque::new();
    let mut known: Vec<SocketAddr> = Vec::new();
    let mut next_start = began;
    let mut before = None;
    let mut last = if rests.all_until(addresses.len()).is_some() {
        StreamError::Resting
    } else {
        StreamError::NoAnswer(addresses.first().cloned().unwrap_or_default())
    };
    loop {
        let next = queue.iter().map(|candidate| candidate.not_before.max(next_start)).min();
        let all_refused = queue.iter().all(|candidate| candidate.refused);
        let is_over = all_refused && attempts.is_empty() && resolving.is_empty();
        if is_over {
            return Err(last);
        }
        tokio::select! {
            biased;
            Some((candidate, result)) = attempts.next() => {
                let (candidate, result): (Candidate, Result<Ws, StreamError>) = (candidate, result);
                match result {
                    Ok(ws) => {
                        let (at, remote) = (candidate.at, candidate.remote);
                        if by(at).is_some() {
                            let known = behind_proxy(address_at(at)).await;
                            let remote = known.first().copied();
                            let other_family = remote.and_then(|remote| other_family(&known, remote));
                            return Ok(Connected { ws, remote, at, other_family, is_proxied: true });
                        }
                        let other_family = other_family(&known, remote);
                        return Ok(Connected { ws, remote: Some(remote), at, other_family, is_proxied: false });
                    }
                    Err(error) => {
                        // The next address need not wait.
                        next_start = Instant::now();
                        // By a proxy all addresses are found at one.
                        let is_same = |other: &Candidate| {
                            other.remote == candidate.remote
                                && (by(candidate.at).is_none() || other.at == candidate.at)
                        };
                        queue.retain(|other| !is_same(other));
                        if let Some(rest) = error.rest() {
                            let is_meant = |at: usize| at == candidate.at || (rest.is_of_proxy && by(at).is_some());
                            let meant = (0..addresses.len()).filter(|at| is_meant(*at));
                            meant.for_each(|at| rests.begin(at, next_start + rest.wait));
                            // What of this try is left of the address leads elsewhere: to another number of its name, where another may answer.
                            queue.retain(|other| by(other.at).is_none() || !rests.has(other.at));
                        } else if error.wait().is_none() {
                            let not_before = next_start + AGAIN;
                            queue.push_back(Candidate { not_before, refused: true, ..candidate });
                        }
                        // Who is there and refuses says more than who is not.
                        if !last.is_answer() || error.is_answer() {
                            last = error;
                        }
                    }
                }
            }
            Some((at, found)) = resolving.next() => match found {
                // Another address told meanwhile what the proxy says to all.
                _ if rests.has(at) => {}
                Ok(found) => {
                    // Those of a proxy are not the relay's.
                    if by(at).is_none() {
                        known.extend(&found);
                    }
                    enqueue(&mut queue, at, best, found);
                }
                Err(error) if last.is_answer() => {
                    tracing::debug!(%error, "another address of a relay that refuses");
                }
                Err(error) => last = error,
            },
            () = sleep_until(next.unwrap_or(began)), if next.is_some() => {
                let now = Instant::now();
                if let Some(candidate) = take_due(&mut queue, now, before) {
                    before = Some(candidate.remote);
                    let (address, proxy) = (Address::of(address_at(candidate.at)), by(candidate.at));
                    attempts.push(async move { (candidate, open(candidate.remote, address, outside, proxy).await) });
                    queue.push_back(Candidate { not_before: now + AGAIN, ..candidate });
                    next_start = now + STAGGER;
                }
            }
            () = sleep_until(began + TRY_WITHIN) => return Err(last),
        }
    }
}

/// The next address to try: of the other family than the one before if there is one, and at another port if there is one. A relay that has
/// four addresses of a family, or of a port, which leads nowhere from here costs one [`STAGGER`], not four (RFC 8305 §4).
fn take_due(queue: &mut VecDeque<Candidate>, now: Instant, before: Option<SocketAddr>) -> Option<Candidate> {
    let likeness = |candidate: &Candidate| {
        before.map(|before| {
            let is_like = candidate.remote.is_ipv6() == before.is_ipv6();
            (is_like, candidate.remote.port() == before.port())
        })
    };
    let due = queue.iter().enumerate().filter(|(_, candidate)| candidate.not_before <= now);
    // Of those that are equally unlike it the first.
    let (at, _) = due.min_by_key(|(_, candidate)| likeness(candidate))?;
    queue.remove(at)
}

/// Looks up `address`; a number is found without waiting, and so before any attempt begins.
async fn resolve(at: usize, address: &str) -> (usize, Result<Vec<SocketAddr>, StreamError>) {
    let found = timeout(TRY_WITHIN, tokio::net::lookup_host(Address::of(address).host_port)).await;
    let found = found.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    let found = found.map(|found| alternate(found.collect()));
    let found = match found {
        Ok(found) if found.is_empty() => Err(io::ErrorKind::NotFound.into()),
        other => other,
    };
    (at, found.map_err(|cause| StreamError::Resolve(address.to_owned(), cause)))
}

/// Families in turn, beginning with that of the first address (RFC 8305 §4).
fn alternate(found: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let is_v6 = found.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (VecDeque<_>, VecDeque<_>) =
        found.into_iter().partition(|address| address.is_ipv6() == is_v6);
    let longest = first.len().max(second.len());
    let turns = (0..longest).flat_map(|n| [first.get(n), second.get(n)]);
    turns.flatten().copied().take(PER_NAME).collect()
}

/// Adds what was found for address `at`, in front where that is the preferred one.
fn enqueue(queue: &mut VecDeque<Candidate>, at: usize, best: usize, found: Vec<SocketAddr>) {
    let now = Instant::now();
    let new = found.into_iter().map(|remote| Candidate { at, remote, not_before: now, refused: false });
    if at == best {
        let others = std::mem::take(queue);
        queue.extend(new.chain(others));
    } else {
        queue.extend(new);
    }
}

/// Of `known` one that is of the other family than `remote`.
fn other_family(known: &[SocketAddr], remote: SocketAddr) -> Option<IpAddr> {
    known.iter().find(|other| other.is_ipv4() != remote.is_ipv4()).map(SocketAddr::ip)
}

/// Where the relay is that a proxy leads to, for its datagrams: they go past that. Nothing where this network does not know its name: the proxy is not who they are for,
/// and what they carry is in clear.
async fn behind_proxy(address: &str) -> Vec<SocketAddr> {
    let found = timeout(NAME_BEHIND_PROXY, tokio::net::lookup_host(Address::of(address).host_port)).await;
    found.ok().and_then(Result::ok).map_or_else(Vec::new, |found| alternate(found.collect()))
}

/// TCP, the proxy's leave, TLS where the address says so, and the WebSocket upgrade.
async fn open(
    remote: SocketAddr,
    address: Address<'_>,
    outside: &Outside,
    proxy: Option<&ProxyUrl>,
) -> Result<Ws, StreamError> {
    let connecting = async { outside.tcp(remote).await?.connect(remote).await };
    let connected = connecting.await;
    let (tcp, at) = match proxy {
        Some(proxy) => {
            let led = async {
                let mut tcp = connected?;
                tunnel(&mut tcp, proxy, address.host_port).await.map(|()| tcp)
            };
            let led = led.await.map_err(|error| StreamError::Proxy(proxy.host_port().to_owned(), error));
            // What is said from here on is the relay's.
            (led?, address.host_port.to_owned())
        }
        None => {
            let tcp = connected.map_err(|error| StreamError::Connect(remote, error))?;
            (tcp, remote.to_string())
        }
    };
    let line = if address.is_tls {
        let shaken = tls::connect(tcp, address.host_port, remote).await;
        match shaken {
            Ok(tls) => Line::Tls(tls),
            Err(error) => return Err(StreamError::of_tls(at, error)),
        }
    } else {
        Line::Plain(tcp)
    };
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER)
        .max_write_buffer_size(4 * MAX_MESSAGE)
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE));
    let url = format!("ws://{}{HTTP_PATH}", address.host_port);
    let upgraded = client_async_with_config(url, line, Some(config)).await;
    upgraded.map(|(ws, _)| ws).map_err(|error| StreamError::of_upgrade(at, error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Netlink;
    use std::sync::Arc;
    use tokio::net::{TcpListener, TcpSocket};

    /// What binds and does not listen refuses, and nobody else can take the port meanwhile.
    fn refuses() -> (TcpSocket, String) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = socket.local_addr().unwrap().to_string();
        (socket, address)
    }

    /// No device of ours is in the way.
    fn outside() -> Outside {
        Outside::new(Arc::new(Netlink::open().unwrap()), 0)
    }

    #[test]
    fn families_and_ports_take_turns_whoever_named_them() {
        let named = ["[2001:db8::1]:1", "[2001:db8::2]:1", "[2001:db8::1]:2", "192.0.2.1:1", "192.0.2.1:2"];
        let mut queue = VecDeque::new();
        for (at, address) in named.iter().enumerate() {
            enqueue(&mut queue, at, 0, vec![address.parse().unwrap()]);
        }
        let now = Instant::now();
        // It said no a moment ago.
        let later = now + AGAIN;
        queue.push_back(Candidate {
            at: 9,
            remote: "192.0.2.9:1".parse().unwrap(),
            not_before: later,
            refused: true,
        });
        let (mut before, mut order) = (None, vec![]);
        while let Some(candidate) = take_due(&mut queue, now, before) {
            before = Some(candidate.remote);
            order.push(candidate.at);
        }
        assert_eq!(order, [0, 4, 1, 3, 2]);
        assert_eq!(take_due(&mut queue, later, before).map(|candidate| candidate.at), Some(9));
    }

    #[test]
    fn a_network_that_lets_one_port_pass_costs_one_pause() {
        let mut queue = VecDeque::new();
        for (at, address) in
            ["192.0.2.1:8443", "[2001:db8::1]:8443", "192.0.2.1:443", "[2001:db8::1]:443"].iter().enumerate()
        {
            enqueue(&mut queue, at, 0, vec![address.parse().unwrap()]);
        }
        let now = Instant::now();
        let first = take_due(&mut queue, now, None).unwrap().remote;
        let second = take_due(&mut queue, now, Some(first)).unwrap().remote;
        assert_eq!([first, second].map(|remote| remote.port()), [8443, 443]);
        assert_ne!(first.is_ipv6(), second.is_ipv6());
    }

    #[tokio::test]
    async fn who_refused_is_asked_again_while_another_is_silent() {
        // It takes connections and says nothing, which is to this side what a router that swallows SYNs is.
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (socket, refusing) = refuses();
        let addresses = [silent.local_addr().unwrap().to_string(), refusing];
        let outside = outside();
        let server = async {
            // It was asked, and said no, before the other's second turn comes.
            let first = silent.accept().await.unwrap();
            let second = silent.accept().await.unwrap();
            let listener = socket.listen(8).unwrap();
            let (stream, _) = listener.accept().await.unwrap();
            let ws = tokio_tungstenite::accept_async(stream).await.unwrap();
            (first, second, ws)
        };
        let mut rests = Rests::default();
        let (connected, _server) = tokio::join!(connect(&addresses, 0, &outside, None, &mut rests), server);
        let connected = connected.unwrap();
        assert_eq!((connected.at, connected.other_family), (1, None));
    }

    #[tokio::test]
    async fn what_is_known_of_the_other_family_comes_with_it() {
        let relay = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addresses = [relay.local_addr().unwrap().to_string(), "[2001:db8::7]:443".into()];
        let outside = outside();
        let server =
            async { tokio_tungstenite::accept_async(relay.accept().await.unwrap().0).await.unwrap() };
        let mut rests = Rests::default();
        let (connected, _server) = tokio::join!(connect(&addresses, 0, &outside, None, &mut rests), server);
        assert_eq!(connected.unwrap().other_family, Some("2001:db8::7".parse().unwrap()));
    }

    #[tokio::test]
    async fn when_all_refuse_the_try_is_over() {
        let (_one, first) = refuses();
        let (_two, second) = refuses();
        let outcome =
            timeout(TRY_WITHIN, connect(&[first, second], 0, &outside(), None, &mut Rests::default())).await;
        let error = outcome.expect("it waits for nobody").unwrap_err();
        assert!(matches!(error, StreamError::Connect(..)), "{error}");
    }

    #[test]
    fn families_take_turns_and_a_name_has_few_doors() {
        let six = |n: u16| SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, n], 1));
        let four = |n: u8| SocketAddr::from(([192, 0, 2, n], 1));
        assert_eq!(alternate(vec![six(1), six(2), four(1)]), [six(1), four(1), six(2)]);
        assert_eq!(alternate(vec![four(1), six(1)]), [four(1), six(1)]);
        assert_eq!(alternate((0..100).map(four).collect()).len(), PER_NAME);
        assert_eq!(alternate(vec![]), []);
    }
}
