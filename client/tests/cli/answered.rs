//! With a daemon that the test plays, through the server the real one uses.

use crate::program::{Done, Home, invite, refused};
use rustix::process::{Signal, geteuid, kill_process};
use serde_json::{Value, json};
use shadowmesh::config::{NamesChoice, SessionsChoice};
use shadowmesh::control::message::{
    AdminEntry, Change, Echo, ErrorCode, InviteLimits, Member, Members, PathMoved, Request, Response,
    Setting, Wanted,
};
use shadowmesh::control::server::{ControlServer, ControlSocket};
use shadowmesh::control::status::{PathKind, Peer, PeerState, RulesInForce, Secret, Status};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// Answers every request on the home's socket with `answer` until the returned guard is dropped; `None` is no answer at all.
pub(crate) fn play(home: &Home, answer: impl Fn(&Request) -> Option<Response> + Send + 'static) -> Playing {
    let control = ControlSocket::bind(&home.socket()).expect("bound");
    let (ended, end) = tokio::sync::oneshot::channel::<()>();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let mut server = ControlServer::start(control).expect("started");
            let mut unanswered = Vec::new();
            tokio::pin!(end);
            loop {
                tokio::select! {
                    incoming = server.next() => {
                        let incoming = incoming.expect("accepting");
                        match answer(&incoming.request) {
                            Some(response) => incoming.reply.send(response),
                            None => unanswered.push(incoming.reply),
                        }
                    }
                    _ = &mut end => return,
                }
            }
        });
    });
    Playing { _ended: ended, thread: Some(thread) }
}

pub(crate) struct Playing {
    _ended: tokio::sync::oneshot::Sender<()>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Playing {
    pub(crate) fn end(mut self) {
        let thread = self.thread.take();
        drop(self);
        thread.expect("once").join().expect("no assertion failed");
    }
}

fn status() -> Status {
    let peer = |name: &str, state| Peer { name: name.into(), state, ..Peer::default() };
    Status {
        version: "1".into(),
        peers: vec![peer("b", PeerState::Connected), peer("c", PeerState::Offline)],
        ..Status::default()
    }
}

#[test]
fn status_is_a_table_or_a_document() {
    let home = Home::new();
    let playing = play(&home, |request| {
        assert_eq!(*request, Request::Status);
        Some(Response::Status(Box::new(status())))
    });
    let table = home.run(&["status"]);
    assert_eq!(table.code, Some(0), "{table:?}");
    assert!(
        table.stdout.lines().any(|line| line.starts_with("b ") && line.contains("connected")),
        "{table:?}"
    );
    assert!(table.stdout.lines().all(|line| line.chars().count() <= 80), "{table:?}");
    let document: Value = serde_json::from_str(&home.run(&["status", "--json"]).stdout).expect("a document");
    assert_eq!(document["peers"][1]["state"], json!("offline"));
    assert_eq!(document["peers"][0]["path"], Value::Null);
    playing.end();
    assert!(!home.socket().exists());
}

#[test]
fn a_reader_that_saw_enough_is_no_failure() {
    let home = Home::new();
    let peers = vec![Peer { name: "x".repeat(60), ..Peer::default() }; 10_000];
    let playing =
        play(&home, move |_| Some(Response::Status(Box::new(Status { peers: peers.clone(), ..status() }))));
    let mut child =
        home.command(&["status"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
    drop(child.stdout.take());
    let done = Done::of(child.wait_with_output().expect("ended"));
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""));
    playing.end();
}

#[test]
fn ping_says_the_path_and_counts() {
    let home = Home::new();
    let playing = play(&home, |request| {
        assert_eq!(*request, Request::Ping { peer: "b".into() });
        let address = Some("10.7.3.4".into());
        let echo = Echo {
            name: "b".into(),
            id: "x".into(),
            address,
            via: PathKind::RelayWs,
            remote: None,
            rtt_ms: 48.0,
            woken_ms: None,
        };
        Some(Response::Echo(echo))
    });
    let done = home.run(&["ping", "b", "-c", "2", "-i", "0.01"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    let lines: Vec<&str> = done.stdout.lines().collect();
    assert_eq!(lines[..2], ["reply from b (10.7.3.4) via relay-ws 48 ms"; 2]);
    assert!(lines[2].starts_with("2 sent, 2 received, 0 % lost"), "{done:?}");
    let done = home.run(&["ping", "b", "-c", "1", "--json"]);
    let document: Value = serde_json::from_str(&done.stdout).expect("a document");
    assert_eq!((&document["received"], &document["replies"][0]["via"]), (&json!(1), &json!("relay-ws")));
    playing.end();
}

#[test]
fn ping_fails_when_nothing_comes_back() {
    let home = Home::new();
    let playing = play(&home, |request| match request {
        Request::Ping { peer } if peer == "b" => {
            Some(Response::error(ErrorCode::NotConnected, "b is offline"))
        }
        Request::Ping { peer } if peer == "silent" => None,
        Request::Ping { .. } => {
            Some(Response::error(ErrorCode::UnknownPeer, "no peer is called x: see `shadowmesh status`"))
        }
        Request::Status
        | Request::Netcheck
        | Request::Reload
        | Request::Down
        | Request::Invite { .. }
        | Request::Members
        | Request::AdminId { .. }
        | Request::Change(_)
        | Request::Export
        | Request::Path { .. } => {
            panic!("{request:?}")
        }
    });
    let done = home.run(&["ping", "b", "-c", "2", "-i", "0.01"]);
    refused(&done, "b did not answer");
    assert_eq!(done.stdout.lines().next(), Some("b is offline"));
    assert!(done.stdout.contains("2 sent, 0 received, 100 % lost"), "{done:?}");
    // Who is unknown stays unknown: no second attempt.
    let done = home.run(&["ping", "x", "-c", "2", "-i", "0.01"]);
    refused(&done, "no peer is called x");
    let done = home.run(&["ping", "silent", "-c", "1"]);
    refused(&done, "silent did not answer");
    assert!(done.stdout.starts_with("no answer within 3 s\n"), "{done:?}");
    playing.end();
}

#[test]
fn ctrl_c_ends_a_ping_with_its_summary() {
    let home = Home::new();
    let (asked, was_asked) = mpsc::channel();
    let playing = play(&home, move |_| {
        asked.send(()).expect("the test waits");
        None
    });
    let mut command = home.command(&["ping", "b", "-c", "0"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
    was_asked.recv_timeout(Duration::from_secs(10)).expect("asked");
    let pid = rustix::process::Pid::from_child(&child);
    kill_process(pid, Signal::INT).expect("interrupted");
    let done = Done::of(child.wait_with_output().expect("ended"));
    refused(&done, "b did not answer");
    assert!(done.stdout.contains("0 received"), "{done:?}");
    playing.end();
}

#[test]
fn path_waits_for_both_ends_and_says_what_came_of_it() {
    let home = Home::new();
    let playing = play(&home, |request| {
        let Request::Path { peer, wanted, timeout_ms } = request else { panic!("{request:?}") };
        if peer != "b" {
            return None;
        }
        if *wanted == Wanted::DirectTcp {
            return Some(Response::error(ErrorCode::Failed, "no such path to b is proven"));
        }
        assert_eq!((*wanted, *timeout_ms), (Wanted::Relay, 2500));
        Some(Response::Path(PathMoved {
            name: "b".into(),
            id: "x".into(),
            wanted: *wanted,
            kind: Some(PathKind::RelayWs),
            remote: None,
            peer_path: Some(PathKind::RelayWs),
            took_ms: 31.0,
        }))
    });
    let asked = ["path", "b", "--use", "relay", "--timeout", "2.5"];
    let done = home.run(&asked);
    assert_eq!((done.code, done.stdout.as_str()), (Some(0), "b: both ends send by relay-ws, after 31 ms\n"));
    let done = home.run(&[&asked[..], &["--json"]].concat());
    let document: Value = serde_json::from_str(&done.stdout).expect("a document");
    assert_eq!((&document["use"], &document["kind"]), (&json!("relay"), &json!("relay-ws")));
    refused(&home.run(&["path", "b", "--use", "direct-tcp"]), "no such path to b is proven");
    refused(&home.run(&["path", "silent", "--use", "auto", "--timeout", "0.1"]), "did not answer within 3");
    playing.end();
}

#[test]
fn invite_asks_the_daemon_first() {
    let home = Home::new();
    let playing = play(&home, |request| {
        let limits = InviteLimits { uses: Some(1), tags: vec!["t".into()], ..InviteLimits::default() };
        assert_eq!(*request, Request::Invite { expires_s: 60, name: Some("c-*".into()), limits });
        Some(Response::Invite { ticket: "smi1-from-the-daemon".into() })
    });
    let done = home.run(&["invite", "--expires", "60s", "--name", "c-*", "--uses", "1", "--tag", "t"]);
    assert_eq!((done.code, done.stdout.as_str()), (Some(0), "smi1-from-the-daemon\n"), "{done:?}");
    assert!(done.stderr.contains("keep it secret"), "{done:?}");
    playing.end();
}

#[test]
fn a_copy_is_asked_of_the_daemon_first() {
    let home = Home::new();
    let playing = play(&home, |request| {
        assert_eq!(*request, Request::Export);
        Some(Response::Copy { text: "{ \"of\": \"the daemon\" }".to_owned().into() })
    });
    let file = home.path("copy");
    let done = home.run(&["network", "export", file.to_str().expect("text")]);
    assert_eq!((done.code, done.stdout.as_str()), (Some(0), ""), "{done:?}");
    assert!(done.stderr.contains("it holds secrets"), "{done:?}");
    assert_eq!(fs::read_to_string(&file).expect("written"), "{ \"of\": \"the daemon\" }");
    assert_eq!(fs::metadata(&file).expect("made").permissions().mode() & 0o777, 0o600);
    let done = home.run(&["network", "export", "-"]);
    assert_eq!((done.code, done.stdout.as_str()), (Some(0), "{ \"of\": \"the daemon\" }\n"), "{done:?}");
    playing.end();
    // One that is older than the request says that it does not know it; nothing is written then.
    let playing = play(&home, |_| Some(Response::error(ErrorCode::BadRequest, "is it of another version?")));
    let none = home.path("none");
    refused(&home.run(&["network", "export", none.to_str().expect("text")]), "is it of another version?");
    assert!(!none.exists());
    playing.end();
}

#[test]
fn an_invite_is_for_any_number_of_hosts_unless_it_says_otherwise() {
    for (asked, uses) in [
        (vec!["invite"], None),
        (vec!["invite", "--uses", "any"], None),
        (vec!["invite", "--uses", "1"], Some(1)),
    ] {
        let home = Home::new();
        let playing = play(&home, move |request| {
            let Request::Invite { limits, .. } = request else { panic!("{request:?}") };
            assert_eq!(limits.uses, uses);
            Some(Response::Invite { ticket: "smi1-from-the-daemon".into() })
        });
        let done = home.run(&asked);
        assert_eq!(done.code, Some(0), "{done:?}");
        playing.end();
    }
}

#[test]
fn what_an_admin_changes_is_asked_of_the_daemon() {
    let home = Home::new();
    let rules = home.path("rules");
    fs::write(&rules, "allow tag:a -> any\n").expect("written");
    let rules = rules.to_str().expect("text");
    let own = |text: &str| text.to_owned();
    let cases = [
        (vec!["revoke", "b"], Change::Revoke { member: own("b") }),
        (vec!["approve", "b"], Change::Approve { member: own("b") }),
        (vec!["rename", "b", "c"], Change::Rename { member: own("b"), name: own("c") }),
        (
            vec!["tag", "b", "x", "y", "--remove", "z"],
            Change::Tag { member: own("b"), add: vec![own("x"), own("y")], remove: vec![own("z")] },
        ),
        (
            vec!["tag", "b", "--remove", "z"],
            Change::Tag { member: own("b"), add: vec![], remove: vec![own("z")] },
        ),
        (vec!["relays", "add", "smr1x"], Change::AddRelay { ticket: own("smr1x") }),
        (vec!["relays", "remove", "r:1"], Change::RemoveRelay { relay: own("r:1") }),
        (vec!["admins", "add", "id", "--name", "b"], Change::AddAdmin { id: own("id"), name: own("b") }),
        (vec!["admins", "remove", "b"], Change::RemoveAdmin { admin: own("b"), stolen: false }),
        (vec!["admins", "remove", "b", "--stolen"], Change::RemoveAdmin { admin: own("b"), stolen: true }),
        (vec!["rules", "publish", rules], Change::SetRules { text: own("allow tag:a -> any\n") }),
    ];
    for (args, change) in cases {
        let playing = play(&home, move |request| {
            if matches!(change, Change::SetRules { .. }) && *request == Request::Members {
                // Who is there, for a warning of what nobody has: without it there is none.
                return Some(Response::error(ErrorCode::Failed, "a daemon of before"));
            }
            assert_eq!(*request, Request::Change(change.clone()));
            Some(Response::Changed { sentence: "it is done".into() })
        });
        let done = home.run(&args);
        assert_eq!((done.code, done.stderr.as_str()), (Some(0), "it is done\n"), "{done:?}");
        let document: Value =
            serde_json::from_str(&home.run(&[&args[..], &["--json"]].concat()).stdout).expect("a document");
        assert_eq!(document, json!({ "done": "it is done" }));
        playing.end();
        refused(&home.run(&args), "no daemon");
    }
    fs::write(rules, "alow any -> any").expect("written");
    refused(&home.run(&["rules", "publish", rules]), ":1:1: ");
}

#[test]
fn a_rotation_names_who_has_not_got_the_new_secret() {
    let home = Home::new();
    let asked = std::sync::Arc::new(std::sync::Mutex::new((Vec::new(), 0_u32)));
    let seen = std::sync::Arc::clone(&asked);
    let playing = play(&home, move |request| {
        let mut asked = asked.lock().expect("no panic");
        if let Request::Change(change) = request {
            asked.0.push(change.clone());
            asked.1 = 0;
            return Some(Response::Changed { sentence: "replaced".into() });
        }
        assert_eq!(*request, Request::Members);
        asked.1 += 1;
        let member = |name: &str, standing: &str, has_new_secret| Member {
            name: name.into(),
            standing: standing.into(),
            is_connected: standing == "member",
            has_new_secret,
            ..Member::default()
        };
        // The one that is connected says so by and by.
        let members = vec![
            Member { is_here: true, ..member("a", "member", Some(true)) },
            member("b", "member", Some(asked.1 > 2)),
            member("c", "unseen", None),
            member("lost", "revoked", None),
        ];
        let secret = Secret { generation: 4, state: "rotating".into(), until: None };
        Some(Response::Members(Box::new(Members { members, secret, ..Members::default() })))
    });
    let done = home.run(&["rotate-secret"]);
    let expected =
        "replaced\n1 of 2 other members have not got it yet: c; they get it when they are connected\n";
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), expected), "{done:?}");
    let done = home.run(&["rotate-secret", "--now"]);
    assert!(done.stderr.contains("c; each needs another invite"), "{done:?}");
    let document: Value =
        serde_json::from_str(&home.run(&["rotate-secret", "--now", "--json"]).stdout).expect("a document");
    assert_eq!(document, json!({ "done": "replaced", "generation": 4, "without": ["c"] }));
    let wished: Vec<bool> = [false, true, true].into();
    let changes: Vec<Change> = wished.into_iter().map(|now| Change::RotateSecret { now }).collect();
    assert_eq!(seen.lock().expect("no panic").0, changes);
    playing.end();
    refused(&home.run(&["rotate-secret"]), "no daemon");
}

#[test]
fn members_and_admins_are_listed() {
    let home = Home::new();
    let playing = play(&home, |request| {
        if let Request::AdminId { anew } = request {
            return Some(Response::AdminId { id: if *anew { "new" } else { "old" }.into() });
        }
        assert_eq!(*request, Request::Members);
        let member = Member {
            name: "b".into(),
            standing: "member".into(),
            tags: vec!["x".into()],
            ..Member::default()
        };
        Some(Response::Members(Box::new(Members {
            members: vec![member],
            admins: vec![AdminEntry { id: "q".repeat(52), name: "root".into(), is_here: true }],
            relays: vec!["r:1".into()],
            ..Members::default()
        })))
    });
    let done = home.run(&["members"]);
    assert!(
        done.code == Some(0) && done.stdout.contains("\nb ") && done.stdout.contains("admins: root"),
        "{done:?}"
    );
    let document: Value = serde_json::from_str(&home.run(&["members", "--json"]).stdout).expect("a document");
    assert_eq!(document["members"][0]["tags"], json!(["x"]));
    assert!(home.run(&["admins", "list"]).stdout.contains("qqqqqqqqqq  (this host)"));
    assert_eq!(home.run(&["relays", "list"]).stdout, "r:1\n");
    assert_eq!(home.run(&["admins", "id"]).stdout, "old\n");
    assert_eq!(home.run(&["admins", "id", "--new"]).stdout, "new\n");
    playing.end();
}

#[test]
fn rules_that_name_nobody_are_published_with_a_warning_and_shown() {
    let home = Home::new();
    let file = home.path("office.rules");
    let text = "allow tag:sever -> name:printer\nallow name:ghost -> any\nallow tag:server -> any\n";
    fs::write(&file, text).expect("written");
    let path = file.to_str().expect("text");
    let playing = play(&home, move |request| {
        if let Request::Change(change) = request {
            assert_eq!(*change, Change::SetRules { text: text.into() });
            return Some(Response::Changed { sentence: "published".into() });
        }
        assert_eq!(*request, Request::Members);
        let member = |name: &str, standing: &str, tag: &str| Member {
            name: name.into(),
            standing: standing.into(),
            tags: vec![tag.into()],
            ..Member::default()
        };
        let members = vec![member("printer", "unseen", "server"), member("ghost", "revoked", "sever")];
        let rules = Some("allow any -> any # by \u{1b}[31mb\n".to_owned());
        Some(Response::Members(Box::new(Members { members, rules, ..Members::default() })))
    });
    let done = home.run(&["rules", "publish", path]);
    assert_eq!(done.code, Some(0), "{done:?}");
    let expected = [
        &format!(
            "{path}:1:7: warning: `tag:sever` names nobody: no member has this tag; did you mean `tag:server`?"
        ),
        "    allow tag:sever -> name:printer",
        "          ^",
        &format!("{path}:2:7: warning: `name:ghost` names nobody: no member has this name"),
        "    allow name:ghost -> any",
        "          ^",
        "published",
    ];
    assert_eq!(done.stderr.lines().collect::<Vec<_>>(), expected, "{done:?}");
    assert_eq!(home.run(&["rules", "show"]).stdout, "allow any -> any # by ·[31mb\n");
    let document: Value =
        serde_json::from_str(&home.run(&["rules", "show", "--json"]).stdout).expect("a document");
    assert_eq!(document, json!({ "text": "allow any -> any # by \u{1b}[31mb\n" }));
    playing.end();
}

#[test]
fn reload_says_what_is_in_force() {
    let home = Home::new();
    let rules = |count| RulesInForce { file: "/etc/rules".into(), count, error: None };
    let answers = [Some(rules(2)), Some(rules(1)), Some(rules(0)), None, None].map(|rules| {
        let has_two = rules.as_ref().is_some_and(|rules| rules.count == 2);
        let names = if has_two { NamesChoice::Hosts } else { NamesChoice::Off };
        let sessions = match rules.as_ref().map(|rules| rules.count) {
            Some(2) => SessionsChoice::OnDemand,
            Some(1) => SessionsChoice::All,
            _ => SessionsChoice::Auto,
        };
        let idle_after = Some(if has_two { "1m" } else { "5m" }.to_owned());
        let setting = |key: &str, value: &str, note: Option<&str>| Setting {
            key: key.into(),
            value: value.into(),
            note: note.map(Into::into),
        };
        let (applied, waits, restart) = if rules.is_none() {
            let applied =
                vec![setting("filter", "dh\x1b[2Jcp", None), setting("cipher", "aes", Some("sessions"))];
            (applied, vec![setting("mtu", "1300", Some("it is so"))], Some("sudo x".to_owned()))
        } else {
            Default::default()
        };
        let (names, sessions) = (Some(names), Some(sessions));
        Response::Reloaded { rules, names, sessions, idle_after, applied, waits, restart }
    });
    let refusal =
        Response::error(ErrorCode::Failed, "/etc/rules:1:1: no; the rules from before stay in force");
    let answers = std::sync::Mutex::new(answers.into_iter().chain([refusal]));
    let playing = play(&home, move |request| {
        assert_eq!(*request, Request::Reload);
        answers.lock().expect("no panic").next()
    });
    for said in [
        "in force: 2 rules from /etc/rules\nnames: hosts; `shadowmesh status` shows how they are served\n\
         sessions: on-demand; those that are not kept end after 1m without use",
        "in force: 1 rule from /etc/rules\nsessions: all are kept",
        "in force: 0 rules from /etc/rules: everything is let in",
        "filter = dh[2Jcp: applied\ncipher = aes: applied, for sessions that begin from now on\n\
         mtu = 1300: counts from the next start on, for it is so\nto start it anew: sudo x\n\
         no rules are set: everything is let in",
    ] {
        let done = home.run(&["reload"]);
        assert_eq!((done.code, done.stdout, done.stderr), (Some(0), String::new(), format!("{said}\n")));
    }
    let document: Value = serde_json::from_str(&home.run(&["reload", "--json"]).stdout).expect("a document");
    let applied = json!([
        { "key": "filter", "value": "dh\u{1b}[2Jcp", "note": null },
        { "key": "cipher", "value": "aes", "note": "sessions" }
    ]);
    let waits = json!([{ "key": "mtu", "value": "1300", "note": "it is so" }]);
    assert_eq!(
        document,
        json!({
            "rules": null, "names": "off", "sessions": "auto", "idle_after": "5m",
            "applied": applied, "waits": waits, "restart": "sudo x"
        })
    );
    refused(&home.run(&["reload"]), "/etc/rules:1:1: no; the rules from before stay in force");
    playing.end();
    refused(&home.run(&["reload"]), "no daemon");
}

#[test]
fn an_answer_to_another_question_is_not_believed() {
    let home = Home::new();
    let playing = play(&home, |_| Some(Response::Leaving));
    for args in [["status"].as_slice(), &["ping", "b"], &["invite"], &["reload"]] {
        refused(&home.run(args), "does not understand");
    }
    playing.end();
}

/// Not a test of its own: the process that [`down_waits_until_the_process_is_gone`] and [`leave_stops_the_daemon`] ask to leave.
#[test]
fn a_daemon_that_leaves_slowly() {
    let Some(socket) = std::env::var_os("SHADOWMESH_TEST_LEAVES_SLOWLY") else { return };
    let control = ControlSocket::bind(std::path::Path::new(&socket)).expect("bound");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut server = ControlServer::start(control).expect("started");
        let incoming = server.next().await.expect("a request");
        assert_eq!(incoming.request, Request::Down);
        incoming.reply.send(Response::Leaving);
        drop(server);
        // What a farewell to peers and the removal of a device take.
        tokio::time::sleep(Duration::from_millis(300)).await;
    });
}

fn slow_daemon(home: &Home) -> std::process::Child {
    let mut command = Command::new(std::env::current_exe().expect("this test"));
    command.args(["--exact", "answered::a_daemon_that_leaves_slowly", "--nocapture"]);
    command.env("SHADOWMESH_TEST_LEAVES_SLOWLY", home.socket()).stdout(Stdio::null()).stdin(Stdio::null());
    let child = command.spawn().expect("started");
    let bound = std::time::Instant::now();
    while !home.socket().exists() {
        assert!(bound.elapsed() < Duration::from_secs(10), "the daemon did not start");
        std::thread::yield_now();
    }
    child
}

#[test]
fn down_waits_until_the_process_is_gone() {
    let home = Home::new();
    let mut daemon = slow_daemon(&home);
    let done = home.run(&["down"]);
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), "the daemon has left\n"), "{done:?}");
    assert!(
        daemon.try_wait().expect("watched").is_some_and(|ended| ended.success()),
        "it is gone when `down` returns"
    );
}

#[test]
fn leave_stops_the_daemon() {
    let home = Home::new();
    home.run(&["up", &invite("home"), "--device", "lo"]);
    assert!(home.state().join("network.toml").exists());
    let mut daemon = slow_daemon(&home);
    let done = home.run(&["leave"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(daemon.wait().expect("watched").success());
    assert!(!home.state().join("network.toml").exists());
}

#[test]
fn a_stranger_may_look_at_most() {
    if !geteuid().is_root() {
        // Only root can become somebody else to try.
        return;
    }
    let home = Home::new();
    let playing = play(&home, |request| {
        assert_eq!(*request, Request::Status, "the rest is refused before the daemon sees it");
        Some(Response::Status(Box::new(status())))
    });
    // A copy where nobody's account can reach it, with the state away from root's.
    fs::set_permissions(home.path(""), fs::Permissions::from_mode(0o755)).expect("opened");
    let program = home.path("shadowmesh");
    fs::copy(env!("CARGO_BIN_EXE_shadowmesh"), &program).expect("copied");
    let as_nobody = |args: &[&str]| {
        let mut command = home.command_of(&program, args);
        Done::of(command.uid(65_534).gid(65_534).current_dir("/").output().expect("run"))
    };
    let mode = fs::metadata(home.socket()).expect("there").permissions().mode() & 0o777;
    assert!(mode == 0o600 || mode == 0o660, "{mode:o}");
    refused(&as_nobody(&["status"]), "you may not talk to the daemon");
    // As if nobody were in the group.
    fs::set_permissions(home.socket(), fs::Permissions::from_mode(0o666)).expect("opened");
    assert_eq!(as_nobody(&["status"]).code, Some(0));
    refused(&as_nobody(&["down"]), "only root may ask this");
    refused(&as_nobody(&["invite"]), "only root may ask this");
    playing.end();
}
