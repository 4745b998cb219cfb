//! A network with a router and a host that says it is one.

use super::*;
use crate::net::namespace::{block_on, isolated, sh};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, UdpSocket};
use std::sync::{Condvar, Mutex};
use std::thread;

const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const OWN: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const LIAR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 9);
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
const SERVICE: &str = "urn:schemas-upnp-org:service:WANIPConnection:1";

/// How a host that gives ports is, and what it heard.
#[derive(Debug, Default)]
struct Gateway {
    /// It gives none that ends.
    is_permanent: bool,
    /// Outside ports that lead to others.
    taken: Vec<u16>,
    /// Requests to give one are not answered from this one on.
    silent_from: Option<usize>,
    /// Its outside address is nobody's business.
    hides: bool,
    heard: Mutex<Heard>,
    changed: Condvar,
}

/// What was asked of it.
#[derive(Debug, Default)]
struct Heard {
    /// To give a port, and for how many seconds.
    added: Vec<(u16, u32)>,
    deleted: Vec<u16>,
}

impl Gateway {
    fn added(&self) -> Vec<(u16, u32)> {
        self.heard.lock().unwrap().added.clone()
    }

    fn deleted(&self) -> Vec<u16> {
        self.heard.lock().unwrap().deleted.clone()
    }

    /// Waits until it was asked so often.
    fn asked(&self, times: usize) {
        let heard = self.heard.lock().unwrap();
        let patience = Duration::from_secs(20);
        let too_few = |heard: &mut Heard| heard.added.len() < times;
        let (_heard, waited) = self.changed.wait_timeout_while(heard, patience, too_few).unwrap();
        assert!(!waited.timed_out(), "not asked {times} times");
    }

    /// What becomes of a request: nothing, where nobody answers.
    fn answer(&self, request: &str, body: &str) -> Option<String> {
        let number = |name: &str| {
            let (_, rest) = body.split_once(&format!("<{name}>")).unwrap();
            rest.split_once('<').unwrap().0.parse::<u32>().unwrap()
        };
        if body.contains("DeletePortMapping") {
            self.heard.lock().unwrap().deleted.push(number("NewExternalPort").try_into().unwrap());
            return Some(answered("DeletePortMapping", ""));
        }
        if self.hides && body.contains("GetExternalIPAddress") {
            return Some(refused(501));
        }
        if !body.contains("AddPortMapping") {
            return Some(page(request, body));
        }
        let (port, life) = (u16::try_from(number("NewExternalPort")).unwrap(), number("NewLeaseDuration"));
        let before = {
            let mut heard = self.heard.lock().unwrap();
            heard.added.push((port, life));
            heard.added.len() - 1
        };
        self.changed.notify_all();
        if self.silent_from.is_some_and(|from| before >= from) {
            return None;
        }
        Some(match (self.taken.contains(&port), self.is_permanent && life != 0) {
            (true, _) => refused(718),
            (false, true) => refused(725),
            (false, false) => answered("AddPortMapping", ""),
        })
    }
}

/// A host with a port to give, at `ip`, of which `heard` hears who looks for one.
fn gives_ports(ip: Ipv4Addr, heard: UdpSocket, gateway: Gateway) -> Arc<Gateway> {
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
    let gateway = Arc::new(gateway);
    let answering = Arc::clone(&gateway);
    thread::spawn(move || {
        let mut silent = Vec::new();
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
            let Some(page) = answering.answer(&request, &String::from_utf8(body).unwrap()) else {
                silent.push(stream);
                continue;
            };
            let head =
                format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", page.len());
            stream.get_mut().write_all((head + &page).as_bytes()).unwrap();
        }
    });
    gateway
}

fn envelope(inside: &str) -> String {
    format!(
        r#"<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>{inside}</s:Body></s:Envelope>"#
    )
}

fn answered(action: &str, inside: &str) -> String {
    envelope(&format!(r#"<u:{action}Response xmlns:u="{SERVICE}">{inside}</u:{action}Response>"#))
}

fn refused(code: u16) -> String {
    envelope(&format!(
        r#"<s:Fault><detail><UPnPError xmlns="urn:schemas-upnp-org:control-1-0"><errorCode>{code}</errorCode>
        <errorDescription>no</errorDescription></UPnPError></detail></s:Fault>"#
    ))
}

/// The device, its service, or what becomes of a request.
fn page(request: &str, body: &str) -> String {
    if body.contains("GetExternalIPAddress") {
        let inside = format!("<NewExternalIPAddress>{OUTSIDE}</NewExternalIPAddress>");
        return answered("GetExternalIPAddress", &inside);
    }
    if request.contains("/service") {
        let action = |name: &str, arguments: &[&str]| {
            let argument =
                |name: &&str| format!("<argument><name>{name}</name><direction>in</direction></argument>");
            let arguments = arguments.iter().map(argument).collect::<String>();
            format!("<action><name>{name}</name><argumentList>{arguments}</argumentList></action>")
        };
        let port = ["NewRemoteHost", "NewExternalPort", "NewProtocol"];
        let to = ["NewInternalPort", "NewInternalClient", "NewLeaseDuration"];
        let actions = action("AddPortMapping", &[port, to].concat()) + &action("DeletePortMapping", &port);
        return format!(
            r#"<scpd xmlns="urn:schemas-upnp-org:service-1-0"><actionList>{actions}</actionList></scpd>"#
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

const PORT: NonZeroU16 = NonZeroU16::new(41_641).unwrap();

/// A network with a router that has `gateway`, to which the default route leads; everybody hears who looks for one.
fn beside(gateway: Gateway) -> Arc<Gateway> {
    sh("ip link set lo up; ip link add lan type veth peer name other; ip link set lan up; ip link set other up
        ip address add 192.0.2.2/24 dev lan; ip route add default via 192.0.2.1 dev lan
        ip address add 192.0.2.1/32 dev lo");
    let heard = UdpSocket::bind((SSDP, SSDP_PORT)).unwrap();
    heard.join_multicast_v4(&Ipv4Addr::new(239, 255, 255, 250), &OWN).unwrap();
    gives_ports(ROUTER, heard, gateway)
}

async fn asked(held: &mut Option<Held>) -> Result<(SocketAddr, Duration), String> {
    let question = Question { router: ROUTER, own: OWN, port: PORT };
    ask(&Netlink::open().unwrap(), u32::MAX, question, LIFE, held).await
}

/// Asks for a port where a host that is not the router hears those who look for one, and the router what is said to it alone.
fn asked_beside_a_liar(router_answers: bool) -> (Result<SocketAddr, String>, usize, usize) {
    sh("ip link set lo up; ip link add lan type veth peer name other; ip link set lan up; ip link set other up
        for n in 1 2 9; do ip address add 192.0.2.$n/24 dev lan; done");
    let to_all = UdpSocket::bind((SSDP, SSDP_PORT)).unwrap();
    to_all.join_multicast_v4(&Ipv4Addr::new(239, 255, 255, 250), &LIAR).unwrap();
    let by_liar = gives_ports(LIAR, to_all, Gateway::default());
    let to_router = UdpSocket::bind((ROUTER, SSDP_PORT)).unwrap();
    let by_router =
        if router_answers { gives_ports(ROUTER, to_router, Gateway::default()) } else { Arc::default() };
    let answer = block_on(asked(&mut None));
    (answer.map(|(outside, _)| outside), by_liar.added().len(), by_router.added().len())
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

#[test]
fn a_gateway_that_gives_ports_for_ever_alone_gives_one() {
    isolated(|| {
        let gateway = beside(Gateway { is_permanent: true, ..Gateway::default() });
        let answer = block_on(asked(&mut None));
        assert_eq!(answer, Ok(((OUTSIDE, 41_641).into(), LIFE)), "renewed, for a gateway may forget");
        assert_eq!(gateway.added(), [(41_641, 7_200), (41_641, 0)]);
    });
}

#[test]
fn where_a_port_leads_to_another_host_a_few_others_are_asked_for() {
    isolated(|| {
        let gateway = beside(Gateway { taken: vec![41_641], ..Gateway::default() });
        let mut held = None;
        let (outside, _) = block_on(asked(&mut held)).unwrap();
        assert_eq!(gateway.added(), [(41_641, 7_200), (outside.port(), 7_200)]);
        assert!(DYNAMIC_PORTS.contains(&outside.port()), "{outside}");
        // That is the one that is kept.
        assert_eq!(block_on(asked(&mut held)).unwrap().0, outside);
        assert_eq!(gateway.added().len(), 3);
    });
}

#[test]
fn a_gateway_with_no_port_left_is_asked_for_four() {
    isolated(|| {
        let gateway = beside(Gateway { taken: (1..=u16::MAX).collect(), ..Gateway::default() });
        block_on(asked(&mut None)).expect_err("it gives none");
        assert_eq!(gateway.added().len(), PORTS);
    });
}

#[test]
fn what_is_given_and_not_said_is_kept_to_be_given_back() {
    isolated(|| {
        let gateway = beside(Gateway { hides: true, ..Gateway::default() });
        let mut held = None;
        block_on(async {
            asked(&mut held).await.expect_err("the outside address is not known");
            give_back(held).await;
        });
        assert_eq!(gateway.deleted(), [41_641]);
    });
}

#[test]
fn who_is_stopped_while_a_renewal_is_under_way_gives_the_port_back() {
    isolated(|| {
        let gateway = beside(Gateway { silent_from: Some(1), ..Gateway::default() });
        block_on(async {
            let (say, mut mapped) = watch::channel(None);
            let (stop, stopped) = oneshot::channel();
            let task = tokio::spawn(async move {
                // A life of a second: it is renewed after half of it.
                let terms = Terms { life: Duration::from_secs(1), renew_min: Duration::ZERO };
                let netlink = Netlink::open().unwrap();
                keep(&netlink, u32::MAX, PORT, terms, &say, &Notify::new(), stopped).await;
            });
            let told = timeout(Duration::from_secs(20), mapped.wait_for(Option::is_some)).await;
            told.expect("a port is mapped").unwrap();
            let renewed = Arc::clone(&gateway);
            tokio::task::spawn_blocking(move || renewed.asked(2)).await.unwrap();
            stop.send(()).unwrap();
            timeout(2 * GIVE_BACK, task).await.expect("in time").unwrap();
        });
        assert_eq!(gateway.deleted(), [41_641]);
    });
}
