use super::*;
use crate::core::limits::Limits;

fn socket(address: &str) -> Arc<Socket> {
    let socket = std::net::UdpSocket::bind(address).unwrap();
    socket.set_nonblocking(true).unwrap();
    Arc::new(Socket::new(socket).unwrap())
}

fn port(now: Instant) -> Arc<Port> {
    let entrance = Entrance::new(socket("127.0.0.1:0"), [127, 0, 0, 1].into());
    Arc::new(Port::new(now, &Limits::default(), entrance))
}

fn udp() -> SocketAddr {
    "198.51.100.7:4000".parse().unwrap()
}

#[tokio::test]
async fn an_address_that_is_silent_for_long_is_sent_nothing_until_it_is_heard_again() {
    let now = Instant::now();
    let (port, tag, bindings) = (port(now), BindingTag::new(1), Bindings::default());
    bindings.bind(now, &port, udp(), tag);
    let binding = port.binding().unwrap();
    assert!(binding.is_alive(now + SILENT - Duration::from_secs(1)));
    let later = now + SILENT;
    assert!(!binding.is_alive(later) && binding.is_proven(later));
    // Somebody else's request with the client's token says nothing of this address.
    port.on_stun(later, "198.51.100.66:4000".parse().unwrap());
    assert!(!binding.is_alive(later));
    port.on_stun(later, udp());
    assert!(binding.is_alive(later));
    bindings.unbind(&port);
    assert!(bindings.at(udp(), tag).is_none() && port.binding().is_none());
}

#[tokio::test]
async fn a_binding_that_is_not_proven_again_ends_whatever_is_heard() {
    let now = Instant::now();
    let (port, tag, bindings) = (port(now), BindingTag::new(1), Bindings::default());
    bindings.bind(now, &port, udp(), tag);
    let binding = port.binding().unwrap();
    for second in 0..UNPROVEN.as_secs() {
        let now = now + Duration::from_secs(second);
        binding.on_heard(now);
        assert!(binding.is_alive(now) && binding.is_proven(now));
    }
    let later = now + UNPROVEN;
    binding.on_heard(later);
    assert!(!binding.is_alive(later) && !binding.is_proven(later));
    bindings.bind(later, &port, udp(), tag);
    assert!(Arc::ptr_eq(&binding, &port.binding().unwrap()), "the same, proven again");
    assert!(binding.is_alive(later) && binding.is_proven(later));
}

#[tokio::test]
async fn clients_of_one_address_are_told_apart_by_their_tags() {
    let now = Instant::now();
    let (ports, bindings) = ([port(now), port(now)], Bindings::default());
    for (n, port) in (1..).zip(&ports) {
        bindings.bind(now, port, udp(), BindingTag::new(n));
    }
    for (n, port) in (1..).zip(&ports) {
        let binding = bindings.at(udp(), BindingTag::new(n)).unwrap();
        assert!(Arc::ptr_eq(&binding.port, port));
        assert!(Arc::ptr_eq(&binding, &port.binding().unwrap()));
    }
    bindings.unbind(&ports[0]);
    assert!(bindings.at(udp(), BindingTag::new(1)).is_none());
    assert!(bindings.at(udp(), BindingTag::new(2)).is_some());
}

#[tokio::test]
async fn datagrams_leave_from_where_the_stream_came_to() {
    let four = socket("127.0.0.1:0");
    let entrance = Entrance::new(Arc::clone(&four), [127, 0, 0, 1].into());
    let door = entrance.door(udp());
    assert_eq!((door.remote, door.local), (udp(), Some([127, 0, 0, 1].into())));
    assert!(entrance.is_at(&door));
    assert!(entrance.is_at(&Door { local: None, ..door.clone() }), "of one that does not know its address");
    assert!(!entrance.is_at(&Door { local: Some([127, 0, 0, 2].into()), ..door.clone() }));
    assert!(!entrance.is_at(&Door { socket: socket("127.0.0.1:0"), ..door }));
}

#[tokio::test]
async fn a_socket_for_both_families_is_told_mapped_addresses() {
    // Where the machine has no IPv6 there is no such socket.
    if std::net::UdpSocket::bind("[::]:0").is_err() {
        return;
    }
    let both = socket("[::]:0");
    // The stream's address at our end is mapped as well there.
    let entrance = Entrance::new(both, "::ffff:127.0.0.1".parse().unwrap());
    let door = entrance.door(udp());
    assert_eq!(door.remote, "[::ffff:198.51.100.7]:4000".parse().unwrap());
    assert_eq!(door.local, Some("::ffff:127.0.0.1".parse().unwrap()));
    assert!(entrance.is_at(&door));
    let six = "[2001:db8::7]:4000".parse().unwrap();
    assert_eq!(entrance.door(six).remote, six);
}
