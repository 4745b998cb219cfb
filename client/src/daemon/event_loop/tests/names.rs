//! Names for other programs of the machine, by daemons that have a hosts file each.

use super::*;
use crate::config::NamesChoice;
use crate::control::message::{Change, InviteLimits};
use crate::control::status::{Names, NamesWay};

const OWN: &str = "127.0.0.1 localhost\n";

impl Daemon {
    fn hosts(&self) -> String {
        std::fs::read_to_string(self.home.path().join("hosts")).unwrap()
    }

    /// Has a hosts file from now on, and names by it.
    async fn names(&self, choice: NamesChoice) {
        let state = StateDir::open(self.home.path().join("state")).unwrap();
        let config = FileConfig { names: Some(choice), ..state.load_config().unwrap() };
        state.save_config(&config).unwrap();
        let reloaded = within("an answer", call(&self.socket, &Request::Reload)).await.unwrap();
        let Response::Reloaded { names: Some(names), .. } = reloaded else { panic!("{reloaded:?}") };
        assert_eq!(names, choice);
    }

    /// What `status` says of names, once that is so: the file is written before that is said.
    async fn names_shown(&self, is_so: impl Fn(&Names) -> bool) -> Names {
        let waiting = async {
            loop {
                if let Some(names) = self.status().await.names.filter(&is_so) {
                    return names;
                }
                sleep(Duration::from_millis(5)).await;
            }
        };
        within("status to say so", waiting).await
    }

    /// Waits until its hosts file has this line, or has not.
    async fn has(&self, line: &str, is_there: bool) {
        let waiting = async {
            while self.hosts().lines().any(|other| other == line) != is_there {
                sleep(Duration::from_millis(5)).await;
            }
        };
        within(line, waiting).await;
    }
}

async fn ipv4(daemon: &Daemon) -> String {
    let cidr = daemon.status().await.node.addresses[0].clone();
    cidr.split('/').next().unwrap().to_owned()
}

#[test]
fn names_come_and_go_with_members_and_with_who_asks_for_them() {
    crate::net::namespace::isolated(|| in_network("", by_what_they_say()));
}

async fn by_what_they_say() {
    let scene = Scene::new().await;
    let (a, b) = (&scene.a, &scene.b);
    std::fs::write(a.home.path().join("hosts"), OWN).unwrap();
    assert_eq!(a.status().await.names, None, "nobody asked");
    a.names(NamesChoice::Hosts).await;
    let (own, other) = (ipv4(a).await, ipv4(b).await);
    a.has(&format!("{other}\tb.test.internal b"), true).await;
    a.has(&format!("{own}\ta.test.internal a"), true).await;
    let ipv6 = b.status().await.node.addresses[1].clone();
    a.has(&format!("{}\tb.test.internal b", ipv6.split('/').next().unwrap()), true).await;
    let names = a.names_shown(|names| names.served > 0).await;
    assert_eq!((names.way, names.domain.as_str(), names.served), (NamesWay::Hosts, "test.internal", 2));

    a.names(NamesChoice::Off).await;
    a.has(&format!("{other}\tb.test.internal b"), false).await;
    assert_eq!(a.hosts(), OWN);
    a.names(NamesChoice::On).await;
    a.has(&format!("{other}\tb.test.internal b"), true).await;
    let Scene { a, serving, .. } = scene;
    within("an answer", call(&a.socket, &Request::Down)).await.unwrap();
    within("the end", a.task).await.unwrap().unwrap();
    assert_eq!(std::fs::read_to_string(a.home.path().join("hosts")).unwrap(), OWN);
    serving.abort();
}

#[test]
fn with_certificates_names_are_those_of_the_record_and_of_who_is_let_in() {
    crate::net::namespace::isolated(|| in_network("", by_the_record()));
}

async fn by_the_record() {
    let office = members::Office::new().await;
    let a = office.admin("a").await;
    std::fs::write(a.home.path().join("hosts"), OWN).unwrap();
    a.names(NamesChoice::On).await;
    let mut b = office.joins("b", &a.invite(InviteLimits::default()).await).await;
    b.connected().await;
    let address = ipv4(&b).await;
    let line = |name: &str| format!("{address}\t{name}.office.internal {name}");
    a.has(&line("b"), true).await;
    let change = |member: &str, name: &str| Change::Rename { member: member.into(), name: name.into() };
    a.change(change("b", "Bob")).await.unwrap();
    a.has(&line("bob"), true).await;
    a.has(&line("b"), false).await;
    // What is no name of a host is none.
    a.change(change("Bob", "github.com")).await.unwrap();
    a.has(&line("bob"), false).await;
    assert!(!a.hosts().contains("github"), "{}", a.hosts());
    let names = a.names_shown(|names| !names.left_out.is_empty()).await;
    assert_eq!(names.left_out[0].name, "github.com");
    a.change(change("github.com", "carol")).await.unwrap();
    a.has(&line("carol"), true).await;
    // Who is shut out has no name any more.
    a.change(Change::Revoke { member: "carol".into() }).await.unwrap();
    a.has(&line("carol"), false).await;
    let home = a.ends().await;
    assert_eq!(std::fs::read_to_string(home.path().join("hosts")).unwrap(), OWN);
}
