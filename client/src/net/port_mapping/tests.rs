//! A network with a router and a host that says it is one.

use super::*;
use crate::net::namespace::{block_on, isolated, sh};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const OWN: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const LIAR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 9);
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
const SERVICE: &str = "urn:schemas-upnp-org:service:WANIPConnection:1";

/// A host with a port to give; counts the requests to give it.
fn gives_ports(ip: Ipv4Addr, heard: UdpSocket) -> Arc<AtomicUsize> {
    let asked = Arc::new(AtomicUsize::new(0));
    let pages = TcpListener::bind((ip, 0)).unwrap();
    let location = format!("http://{}/", pages.local_addr().unwrap());
    thread::spawn(move || {
        let answers = UdpSocket::bind((ip, 0)).unwrap();
        let mut buffer = [0; 1500];
        while let Ok((_, from)) = heard.recv_from(&mut buffer) {
            let answer = format!("HTTP/1.1 200 OK\r\nST: {SERVICE}\r\nLocation: {location}\r\n\r\n");
            answers.send_to(answer.as_bytes(), from).unwrap();
        }
    });
    let counted = Arc::clone(&asked);
    thread::spawn(move || {
        for stream in pages.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let (mut request, mut len) = (String::new(), 0);
            let mut line = String::new();
            while stream.read_line(&mut line).unwrap() > 2 {
                if let Some(bytes) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    len = bytes.trim().parse().unwrap();
                }
                request += &line;
                line.clear();
            }
            let mut body = vec![0; len];
            stream.read_exact(&mut body).unwrap();
            let body = String::from_utf8(body).unwrap();
            let page = page(&request, &body);
            counted.fetch_add(usize::from(body.contains("AddPortMapping")), Ordering::SeqCst);
            let head =
                format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", page.len());
            stream.get_mut().write_all((head + &page).as_bytes()).unwrap();
        }
    });
    asked
}

/// The device, its service, or what becomes of a request.
fn page(request: &str, body: &str) -> String {
    let answered = |action: &str, inside: &str| {
        format!(
            r#"<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>
            <u:{action}Response xmlns:u="{SERVICE}">{inside}</u:{action}Response></s:Body></s:Envelope>"#
        )
    };
    if body.contains("AddPortMapping") {
        return answered("AddPortMapping", "");
    }
    if body.contains("GetExternalIPAddress") {
        let inside = format!("<NewExternalIPAddress>{OUTSIDE}</NewExternalIPAddress>");
        return answered("GetExternalIPAddress", &inside);
    }
    if request.contains("/service") {
        let arguments =
            ["NewRemoteHost", "NewExternalPort", "NewProtocol", "NewInternalPort", "NewInternalClient"]
                .map(|name| format!("<argument><name>{name}</name><direction>in</direction></argument>"))
                .concat();
        return format!(
            r#"<scpd xmlns="urn:schemas-upnp-org:service-1-0"><actionList><action><name>AddPortMapping</name>
            <argumentList>{arguments}</argumentList></action></actionList></scpd>"#
        );
    }
    let inside = format!(
        "<serviceList><service><serviceType>{SERVICE}</serviceType><controlURL>/control</controlURL>
        <SCPDURL>/service</SCPDURL></service></serviceList>"
    );
    let device = |kind: &str, inside: &str| {
        format!("<device><deviceType>urn:schemas-upnp-org:device:{kind}:1</deviceType>{inside}</device>")
    };
    let list = |inside: &str| format!("<deviceList>{inside}</deviceList>");
    let connection = list(&device("WANConnectionDevice", &inside));
    let wan = list(&device("WANDevice", &connection));
    format!(
        r#"<root xmlns="urn:schemas-upnp-org:device-1-0">{}</root>"#,
        device("InternetGatewayDevice", &wan)
    )
}

/// Asks for a port where a host that is not the router hears those who look for one, and the router what is said to it alone.
fn asked_beside_a_liar(router_answers: bool) -> (Result<SocketAddr, String>, usize, usize) {
    sh("ip link set lo up; ip link add lan type veth peer name other; ip link set lan up; ip link set other up
        for n in 1 2 9; do ip address add 192.0.2.$n/24 dev lan; done");
    let to_all = UdpSocket::bind((SSDP, SSDP_PORT)).unwrap();
    to_all.join_multicast_v4(&Ipv4Addr::new(239, 255, 255, 250), &LIAR).unwrap();
    let by_liar = gives_ports(LIAR, to_all);
    let to_router = UdpSocket::bind((ROUTER, SSDP_PORT)).unwrap();
    let by_router = if router_answers { gives_ports(ROUTER, to_router) } else { Arc::default() };
    let question = Question { router: ROUTER, own: OWN, port: NonZeroU16::new(41_641).unwrap() };
    let answer = block_on(async { ask(&Netlink::open().unwrap(), u32::MAX, question, None).await });
    (answer.map(|(outside, ..)| outside), by_liar.load(Ordering::SeqCst), by_router.load(Ordering::SeqCst))
}

#[test]
fn a_host_that_says_it_is_the_router_is_asked_for_nothing() {
    isolated(|| {
        let (answer, by_liar, by_router) = asked_beside_a_liar(true);
        assert_eq!(answer, Ok((OUTSIDE, 41_641).into()));
        assert_eq!((by_liar, by_router), (0, 1));
    });
}

#[test]
fn nor_is_it_when_the_router_says_nothing() {
    isolated(|| {
        let (answer, by_liar, _) = asked_beside_a_liar(false);
        let why = answer.expect_err("nobody gives a port");
        assert!(why.starts_with("UPnP: another host than the router answers"), "{why}");
        assert_eq!(by_liar, 0);
    });
}
