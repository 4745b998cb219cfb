//! What the loop makes of what the tasks of relays say, where no peer is needed for it.

use super::*;
use crate::transport::relay::Ending;

const NO: RelayNo = RelayNo(0);

/// A loop that does not run, in a network with that relay.
async fn alone(
    home: &tempfile::TempDir,
    ticket: RelayTicket,
) -> (EventLoop, MemoryPort, mpsc::UnboundedReceiver<Progress>) {
    let network = NetworkState::create("test", vec![ticket], &mut SystemRng);
    made(home, "a", network, FileConfig::default(), None).await
}

#[test]
fn a_refusal_is_no_reason_any_more_once_the_relay_is_not_reached_at_all() {
    crate::net::namespace::isolated(|| in_network("", refused()));
}

async fn refused() {
    let home = tempfile::tempdir().unwrap();
    let (_relay, ticket, _serving) = Relay::start(21).await;
    let (mut made, _wire, _progress) = alone(&home, ticket).await;
    let closed = |why: &str, ending| RelayEvent::Closed { why: why.to_owned(), ending };
    let refused = |made: &EventLoop| made.relays[0].refused.clone();
    made.on_relay(NO, closed("it is full", Ending::Refused));
    assert_eq!(refused(&made).as_deref(), Some("it is full"));
    // As where it said why inside a stream, and closed that.
    made.on_relay(NO, closed("the relay closed the connection", Ending::Over));
    assert_eq!(refused(&made).as_deref(), Some("it is full"));
    made.on_relay(NO, closed("connection refused", Ending::NotReached));
    assert_eq!(refused(&made), None);
    made.leave().await;
}

/// The next stream that the relay's task opens, as if it went by a proxy or did not.
async fn opened(made: &mut EventLoop, is_proxied: bool) -> RelayEvent {
    loop {
        let (_, event) = within("an event", made.relay_events.recv()).await.unwrap();
        if let RelayEvent::Opened { remote, other_family, local, data, stream, .. } = event {
            return RelayEvent::Opened { remote, other_family, local, is_proxied, data, stream };
        }
    }
}

#[test]
fn nobody_is_told_to_come_to_the_proxy_by_which_a_stream_came_back() {
    crate::net::namespace::isolated(|| in_network("", comes_back_by_a_proxy()));
}

async fn comes_back_by_a_proxy() {
    let home = tempfile::tempdir().unwrap();
    let (_relay, ticket, _serving) = Relay::start(22).await;
    let (mut made, _wire, _progress) = alone(&home, ticket).await;
    for (is_proxied, listening) in [(false, Some(NO)), (true, None), (false, Some(NO))] {
        let event = opened(&mut made, is_proxied).await;
        made.on_relay(NO, event);
        assert_eq!((made.listening, made.relays[0].is_proxied), (listening, is_proxied));
        made.drop_stream(NO, None);
        // Until another is open, connections come to the port of the one before.
        assert_eq!(made.listening, listening);
    }
    made.leave().await;
}
