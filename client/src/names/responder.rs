//! A DNS server that knows the names of one network and nothing else (RFC 1035), for systemd-resolved on the same machine.
//!
//! It listens on the loopback interface alone, on a port that the kernel picks: nobody else reaches it, and no port 53 has to be free. What is
//! not in `NETWORK.internal` is refused, so that it stands in for nobody's name server. An answer has at most two addresses and so
//! always fits 512 bytes: nothing is ever cut short, and there is no need for TCP, which RFC 7766 wants of servers in general.
//!
//! Answers are good for [`TTL`]: that is how long a rename may be overlooked.

use super::book::Book;
use super::label::{Label, TOP};
use arc_swap::ArcSwap;
use simple_dns::rdata::{A, AAAA, OPT, RData};
use simple_dns::{
    CLASS, OPCODE, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, ResourceRecord, TYPE, header_buffer,
};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

/// How long an answer may be kept, seconds.
pub const TTL: u32 = 5;
/// Longest question that is read, bytes: a name of 255, a header of 12 and options of EDNS (RFC 6891) fit many times.
const MAX_QUERY: usize = 1232;

/// The names that are answered.
#[derive(Debug, Clone)]
pub struct Zone {
    /// What the network is called.
    pub network: Label,
    /// Its names.
    pub book: Arc<Book>,
}

/// A server, until it is dropped.
#[derive(Debug)]
pub struct Responder {
    address: SocketAddr,
    zone: Arc<ArcSwap<Zone>>,
    task: JoinHandle<()>,
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Responder {
    /// Begins to answer.
    ///
    /// # Errors
    /// What the kernel said about the socket.
    pub async fn start(zone: Zone) -> io::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = socket.local_addr()?;
        let zone = Arc::new(ArcSwap::from_pointee(zone));
        let task = tokio::spawn(serve(socket, Arc::clone(&zone)));
        Ok(Self { address, zone, task })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// These are the names from now on.
    pub fn set(&self, zone: Zone) {
        self.zone.store(Arc::new(zone));
    }
}

async fn serve(socket: UdpSocket, zone: Arc<ArcSwap<Zone>>) {
    let mut query = [0; MAX_QUERY];
    loop {
        // An error is one of a datagram sent before (ICMP); the next is received as ever.
        let Ok((length, from)) = socket.recv_from(&mut query).await else {
            tokio::task::yield_now().await;
            continue;
        };
        if let Some(answer) = answer(query.get(..length).unwrap_or_default(), &zone.load())
            && let Err(error) = socket.send_to(&answer, from).await
        {
            tracing::trace!(%error, "an answer about a name was not sent");
        }
    }
}

/// The answer to a query; none to what is no question of one name.
pub fn answer(query: &[u8], zone: &Zone) -> Option<Vec<u8>> {
    let counts = [header_buffer::questions, header_buffer::answers, header_buffer::name_servers]
        .map(|count| count(query).ok());
    // Before anything is parsed: room is made for as many as the header says. One more is that of EDNS.
    if counts != [Some(1), Some(0), Some(0)] || header_buffer::additional_records(query).ok()? > 1 {
        return None;
    }
    let packet = Packet::parse(query).ok()?;
    if packet.has_flags(PacketFlag::RESPONSE) || packet.opcode() != OPCODE::StandardQuery {
        return None;
    }
    let question = packet.questions.first()?;
    let mut reply = Packet::new_reply(packet.id());
    if packet.has_flags(PacketFlag::RECURSION_DESIRED) {
        reply.set_flags(PacketFlag::RECURSION_DESIRED);
    }
    if packet.opt().is_some() {
        let opt = OPT { opt_codes: Vec::new(), udp_packet_size: MAX_QUERY as u16, version: 0 };
        *reply.opt_mut() = Some(opt);
    }
    let found = find(question, zone);
    match found {
        Found::Elsewhere => *reply.rcode_mut() = RCODE::Refused,
        Found::Nothing => *reply.rcode_mut() = RCODE::NameError,
        Found::Name(addresses) => {
            let wants =
                |family| matches!(question.qtype, QTYPE::ANY) || question.qtype == QTYPE::TYPE(family);
            let records = addresses.iter().filter_map(|address| match address {
                IpAddr::V4(address) => wants(TYPE::A).then(|| RData::A(A::from(*address))),
                IpAddr::V6(address) => wants(TYPE::AAAA).then(|| RData::AAAA(AAAA::from(*address))),
            });
            let record = |data| ResourceRecord::new(question.qname.clone(), CLASS::IN, TTL, data);
            reply.answers = records.map(record).collect();
        }
    }
    if !matches!(found, Found::Elsewhere) {
        reply.set_flags(PacketFlag::AUTHORITATIVE_ANSWER);
    }
    reply.questions.push(question.clone());
    reply.build_bytes_vec_compressed().ok()
}

enum Found<'a> {
    /// The name is none of this network.
    Elsewhere,
    /// It would be, and nobody has it.
    Nothing,
    /// Somebody has it, or it is the network itself, which has no address.
    Name(&'a [IpAddr]),
}

fn find<'a>(question: &Question<'_>, zone: &'a Zone) -> Found<'a> {
    if !matches!(question.qclass, QCLASS::CLASS(CLASS::IN) | QCLASS::ANY) {
        return Found::Elsewhere;
    }
    // Label by label: one may have a dot in it.
    let labels: Vec<&[u8]> = question.qname.as_bytes().collect();
    let Some((host, [network, top])) = labels.split_last_chunk() else { return Found::Elsewhere };
    let is_ours = top.eq_ignore_ascii_case(TOP.as_bytes())
        && network.eq_ignore_ascii_case(zone.network.as_str().as_bytes());
    match host {
        _ if !is_ours => Found::Elsewhere,
        [] => Found::Name(&[]),
        [label] => {
            let label = std::str::from_utf8(label).ok().and_then(Label::new);
            label.and_then(|label| zone.book.find(&label)).map_or(Found::Nothing, Found::Name)
        }
        _ => Found::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::super::book::{Candidate, Voucher};
    use super::*;
    use proptest::prelude::*;
    use shadowmesh_proto::ids::NodeId;
    use simple_dns::Name;
    use std::time::Duration;

    fn zone() -> Zone {
        let addresses = vec!["10.7.0.2".parse().expect("one"), "fd00::2".parse().expect("one")];
        let b = Candidate { id: NodeId([2; 32]), name: "b".into(), voucher: Voucher::Itself, addresses };
        let c = Candidate { id: NodeId([3; 32]), name: "c".into(), ..b.clone() };
        let c = Candidate { addresses: vec!["10.7.0.3".parse().expect("one")], ..c };
        let network = Label::new("office").expect("a label");
        Zone { network, book: Arc::new(Book::new(&[b, c])) }
    }

    fn query(name: &str, wanted: TYPE) -> Vec<u8> {
        let mut packet = Packet::new_query(7);
        packet.set_flags(PacketFlag::RECURSION_DESIRED);
        *packet.opt_mut() = Some(OPT { opt_codes: vec![], udp_packet_size: 512, version: 0 });
        let name = Name::new(name).expect("a name");
        packet.questions.push(Question::new(name, wanted.into(), CLASS::IN.into(), false));
        packet.build_bytes_vec().expect("built")
    }

    fn read(answer: &[u8]) -> (RCODE, Vec<IpAddr>) {
        let packet = Packet::parse(answer).expect("a packet");
        assert_eq!(packet.id(), 7);
        assert!(packet.has_flags(PacketFlag::RESPONSE | PacketFlag::RECURSION_DESIRED));
        assert!(!packet.has_flags(PacketFlag::TRUNCATION) && packet.opt().is_some());
        assert!(answer.len() <= 512);
        let address = |record: &ResourceRecord<'_>| {
            if let RData::A(a) = &record.rdata {
                return IpAddr::V4(a.clone().into());
            }
            let RData::AAAA(aaaa) = &record.rdata else { panic!("{:?}", record.rdata) };
            IpAddr::V6(aaaa.clone().into())
        };
        assert!(packet.answers.iter().all(|record| record.ttl == TTL));
        (packet.rcode(), packet.answers.iter().map(address).collect())
    }

    fn asked(name: &str, wanted: TYPE) -> (RCODE, Vec<IpAddr>) {
        read(&answer(&query(name, wanted), &zone()).expect("an answer"))
    }

    #[test]
    fn names_of_the_network_are_answered_and_no_others() {
        let v4: IpAddr = "10.7.0.2".parse().expect("one");
        let v6: IpAddr = "fd00::2".parse().expect("one");
        assert_eq!(asked("b.office.internal", TYPE::A), (RCODE::NoError, vec![v4]));
        assert_eq!(asked("B.Office.INTERNAL", TYPE::AAAA), (RCODE::NoError, vec![v6]));
        // The name is there, and has none of that.
        assert_eq!(asked("c.office.internal", TYPE::AAAA), (RCODE::NoError, vec![]));
        assert_eq!(asked("b.office.internal", TYPE::TXT), (RCODE::NoError, vec![]));
        assert_eq!(asked("office.internal", TYPE::A), (RCODE::NoError, vec![]));
        for nobody in ["x.office.internal", "b.b.office.internal", "x\\.b.office.internal"] {
            assert_eq!(asked(nobody, TYPE::A), (RCODE::NameError, vec![]), "{nobody}");
        }
        for elsewhere in ["github.com", "b", "internal", "b.other.internal", "b\\.office.internal"] {
            assert_eq!(asked(elsewhere, TYPE::A), (RCODE::Refused, vec![]), "{elsewhere}");
        }
    }

    #[test]
    fn what_is_no_question_gets_no_answer() {
        let good = query("b.office.internal", TYPE::A);
        assert!(answer(&good, &zone()).is_some());
        // A response; another opcode; two questions; answers; 65,535 of something that is not there.
        for (at, byte) in [(2, 0x81), (2, 0x28), (5, 2), (7, 1), (8, 0xff), (10, 0xff)] {
            let mut bad = good.clone();
            bad[at] = byte;
            assert_eq!(answer(&bad, &zone()), None, "byte {at}");
        }
        for end in 0..good.len() {
            assert_eq!(answer(&good[..end], &zone()), None);
        }
    }

    #[tokio::test]
    async fn it_answers_by_udp_on_loopback_and_follows_what_it_is_told() {
        let responder = Responder::start(zone()).await.expect("started");
        assert!(responder.address().ip().is_loopback());
        let asker = UdpSocket::bind("127.0.0.1:0").await.expect("bound");
        let ask = async |name: &str| {
            asker.send_to(&query(name, TYPE::A), responder.address()).await.expect("sent");
            let mut answer = [0; 512];
            let received = tokio::time::timeout(Duration::from_secs(10), asker.recv(&mut answer)).await;
            read(&answer[..received.expect("in time").expect("received")])
        };
        asker.send_to(b"nonsense", responder.address()).await.expect("sent");
        assert_eq!(ask("c.office.internal").await.1, ["10.7.0.3".parse::<IpAddr>().expect("one")]);
        responder.set(Zone { book: Arc::default(), ..zone() });
        assert_eq!(ask("c.office.internal").await, (RCODE::NameError, vec![]));
    }

    proptest! {
        #[test]
        fn no_bytes_break_it(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 0usize..60, byte: u8) {
            let _ = answer(&bytes, &zone());
            let mut near = query("b.office.internal", TYPE::A);
            if let Some(place) = near.get_mut(at) {
                *place = byte;
            }
            if let Some(answer) = answer(&near, &zone()) {
                prop_assert!(Packet::parse(&answer).is_ok() && answer.len() <= 512);
            }
        }
    }
}
